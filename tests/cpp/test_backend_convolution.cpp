// Convolutions of a device by its library, and by products where that is switched off: against the CPU in double.
#include <doctest/doctest.h>

#include "tests/cpp/cuda_util.h"
#include "tg/tg.h"

using namespace tg;
using namespace tg::test;

namespace convolution_test {
namespace {

struct Case {
  int64_t batch, groups, in, out;
  Dims size, kernel, stride, padding, dilation;
};
const Case kCases[] = {{2, 1, 3, 5, {5, 6}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
                       {1, 2, 2, 3, {9, 8}, {3, 2}, {2, 2}, {1, 0}, {1, 1}},
                       {1, 3, 1, 1, {7, 9}, {2, 3}, {1, 3}, {2, 0}, {2, 3}},
                       {2, 1, 4, 3, {4, 4}, {1, 1}, {1, 1}, {0, 0}, {1, 1}},
                       {2, 1, 3, 2, {15}, {5}, {2}, {3}, {2}},
                       {1, 1, 2, 2, {4, 5, 3}, {2, 3, 2}, {1, 2, 1}, {1, 0, 1}, {1, 1, 1}}};

struct Convolution {
  const Case& c;
  Tensor x, w, g;
  // The result and its gradients in x and w.
  std::vector<Tensor> all() const {
    const IntList stride(c.stride), padding(c.padding), dilation(c.dilation);
    return {convolution(x, w, stride, padding, dilation, c.groups),
            convolution_input(g, w, IntList(c.size), stride, padding, dilation, c.groups),
            convolution_weight(x, g, IntList(c.kernel), stride, padding, dilation, c.groups)};
  }
  template <class F>
  Convolution of(F f) const {
    return {c, f(x), f(w), f(g)};
  }
};

Convolution numbers(const Case& c, DType t) {
  Dims xs{c.batch, c.groups * c.in}, ws{c.groups * c.out, c.in};
  for (int64_t s : c.size) xs.push_back(s);
  for (int64_t s : c.kernel) ws.push_back(s);
  Generator r(51);
  auto some = [&](IntList sizes) { return randn(sizes, DType::F32, Device{}, false, &r).to(t); };
  const Tensor x = some(IntList(xs)), w = some(IntList(ws));
  const Tensor y = convolution(x, w, IntList(c.stride), IntList(c.padding), IntList(c.dilation), c.groups);
  return {c, x, w, some(IntList(y.sizes()))};
}

}  // namespace

TEST_CASE("convolutions of a device, by its library and without") {
  if (!on_device()) return;
  NoGrad guard;
  int compared = 0;
  for (DType t : {DType::F32, DType::F16, DType::BF16})
    for (const Case& c : kCases) {
      const Convolution host = numbers(c, t);
      const auto want = host.of([](const Tensor& v) { return v.to(DType::F64); }).all();
      const auto scale = host.of([](const Tensor& v) { return v.to(DType::F64).abs(); }).all();
      // Float sums of fewer terms than there are elements, each step of the kernel rounded to the result's type.
      const double eps = t == DType::F32 ? 0x1p-24 : t == DType::F16 ? 0x1p-11 : 0x1p-8;
      const double bound = double(host.x.numel() + host.w.numel()) * 0x1p-24 + 8 * eps;
      for (bool library : {true, false}) {
        cuda::set_use_cudnn(library);
        const auto found = host.of([](const Tensor& v) { return v.to(Device("cuda")); }).all();
        cuda::set_use_cudnn(true);
        for (size_t i = 0; i < found.size(); ++i, ++compared) {
          const Tensor error = (found[i].to(Device{}).to(DType::F64) - want[i]).abs() - scale[i] * bound;
          INFO(name(t), " kernel ", c.kernel[0], " result ", i, library ? " library" : " products");
          CHECK(error.max().item<double>() <= 0);
        }
      }
    }
  std::printf("convolutions of a device: %d comparisons\n", compared);
}

}  // namespace convolution_test
