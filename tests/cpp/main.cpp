#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <iostream>

#include "tests/cpp/cuda_util.h"

// The device that the tests used, if any: a pass on the emulation must not be taken for one on a GPU. The GPU command
// (benchmarks/gpu/device.py) reads this line.
static void say_device() {
  if (!tg::test::on_device() && !tg::cuda::emulating()) return;
  const tg::cuda::Probe found = tg::cuda::probe();
  std::cout << "CUDA device: ";
  if (found.devices == 0)
    std::cout << "none, " << found.text << '\n';
  else
    std::cout << tg::cuda::runtime().properties(0).name
              << (found.emulated ? " (EMULATION, no GPU was used)" : " (a real GPU)") << '\n';
}

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  const int failed = context.run();
  if (!context.shouldExit()) say_device();  // unless only the tests' names were asked for, or the like
  return failed;
}
