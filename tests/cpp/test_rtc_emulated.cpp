// Kernels compiled at run time, executed: the same text that NVRTC gets is compiled by the host's compiler and run by
// the emulation, for every row and for longer programs.
#include <doctest/doctest.h>

#include "backends/cuda.h"
#include "backends/rtc/host.h"
#include "backends/rtc/loaded.h"
#include "backends/rtc/raw_kernel.h"
#include "tests/cpp/rtc_cases.h"

using namespace tg;
using namespace tg::test;

namespace {

// The bytes of a Pair in the device's memory.
class DevicePair {
 public:
  DevicePair(const Pair& p) : bytes_(p.ref_bytes), view_(p.ref), memory_(cuda::runtime().allocator(0)) {
    data_ = memory_.allocate(bytes_.size());
    memory_.copy(data_, bytes_.data(), bytes_.size());
    view_.data = static_cast<char*>(data_) + (static_cast<const char*>(p.ref.data) - p.ref_bytes.data());
  }
  ~DevicePair() { memory_.deallocate(data_, bytes_.size()); }
  DevicePair(const DevicePair&) = delete;
  DevicePair& operator=(const DevicePair&) = delete;
  const View& view() const { return view_; }
  std::vector<char> bytes() {
    memory_.copy(bytes_.data(), data_, bytes_.size());
    return bytes_;
  }

 private:
  std::vector<char> bytes_;
  View view_;
  Allocator& memory_;
  void* data_;
};

struct DeviceCase {
  std::vector<std::unique_ptr<DevicePair>> ins, outs;
  DeviceCase(const MapCase& c) {
    for (const Pair& p : c.ins) ins.push_back(std::make_unique<DevicePair>(p));
    for (const Pair& p : c.outs) outs.push_back(std::make_unique<DevicePair>(p));
  }
  static Views views(const std::vector<std::unique_ptr<DevicePair>>& v) {
    Views all;
    for (const auto& d : v) all.push_back(d->view());
    return all;
  }
  rtc::MapCall call(const Program& p) const { return rtc::map_call(p, views(ins), views(outs)); }
};

constexpr size_t kWords = 64;

// One source of all kernels of a batch, with one that calls them by number (only the emulation can).
rtc::Source source_of(const std::vector<MapCase>& batch, const std::vector<DeviceCase>& on_device) {
  rtc::Source s{"run_case", "", {}, rtc::device_text()};
  std::string cases;
  for (size_t i = 0; i < batch.size(); ++i) {
    const auto call = on_device[i].call(batch[i].program);
    s.text += rtc::map_kernel(batch[i].name, batch[i].program, DeviceCase::views(on_device[i].ins),
                              DeviceCase::views(on_device[i].outs), call.form);
    cases += str("case ", i, ": return ", batch[i].kernel_name(), "(reinterpret_cast<const tg::rtc::Args<",
                 call.words.size(), ">&>(args));\n");
  }
  s.text +=
      str("__global__ void run_case(int i, tg::rtc::Args<", kWords, "> args) {\n  switch (i) {\n", cases, "  }\n}\n");
  return s;
}

void run(const rtc::Loaded& kernel, int number, rtc::MapCall call) {
  REQUIRE(call.words.size() <= kWords);
  call.words.resize(kWords);
  if (call.words[0] == 0) return;
  const unsigned grid[] = {unsigned(call.blocks), 1, 1}, block[] = {rtc::kBlock, 1, 1};
  void* args[] = {&number, call.words.data()};
  cuda::runtime().kernel_launch(kernel.handle, grid, block, 0, nullptr, args);
}

}  // namespace

TEST_CASE("rtc: every row, several forms and longer programs give what the backend's own kernels give" *
          doctest::skip(!cuda::emulating())) {
  Count count("rtc kernels executed by the emulation, against the emulated backend"),
      exact("rtc of these, against the CPU bit by bit");
  for (const auto& batch : batches(all_cases(Rng(11)), 200)) {
    std::vector<DeviceCase> compiled(batch.begin(), batch.end()), own(batch.begin(), batch.end());
    const rtc::Loaded kernel = rtc::load(source_of(batch, compiled), 0);
    for (size_t i = 0; i < batch.size(); ++i) {
      const MapCase& c = batch[i];
      run(kernel, int(i), compiled[i].call(c.program));
      cuda::runtime().backend(0).map(c.program, DeviceCase::views(own[i].ins), DeviceCase::views(own[i].outs));
      cpu_backend().map(c.program, c.inputs(false), c.outputs(false));
      for (size_t k = 0; k < c.outs.size(); ++k) {
        Pair a;
        a.ref = a.cpu = c.outs[k].ref;
        a.ref_bytes = own[i].outs[k]->bytes();
        a.cpu_bytes = compiled[i].outs[k]->bytes();
        ++count.n;
        std::string diff = difference(a, 0, 0, true);
        CHECK_MESSAGE(diff.empty(), c.name, ": ", diff);
        // Functions of float are the GPU's own; those of double and int64 are the CPU's.
        if (c.program.compute == DType::F32) continue;
        a.ref_bytes = c.outs[k].cpu_bytes;
        ++exact.n;
        diff = difference(a, 0, 0, true);
        CHECK_MESSAGE(diff.empty(), c.name, " on the CPU: ", diff);
      }
    }
  }
}
