// Convolutions in Winograd's tiles: against double, for any number of threads and samples, on both instruction sets.
#include <doctest/doctest.h>

#include "backends/cpu/cpu_conv.h"
#include "backends/cpu/loops.h"
#include "core/pool.h"
#include "tg/tg.h"

using namespace tg;

namespace {

struct Case {
  int64_t batch, groups, in, out, height, width, padding;
};
// Odd and even sizes, several blocks of tiles, rests of vectors and of channels, groups.
const Case cases[] = {{2, 1, 16, 16, 12, 12, 1},
                      {1, 1, 17, 19, 13, 15, 1},
                      {3, 2, 16, 20, 33, 11, 0},
                      {1, 1, 70, 66, 31, 12, 1},
                      {2, 1, 16, 130, 12, 67, 2}};

Tensor numbers(IntList sizes, uint64_t seed) {
  Generator g(seed);
  return randn(sizes, DType::F32, Device{}, false, &g);
}
bool same_bits(const Tensor& a, const Tensor& b) {
  Tensor x = contiguous(a), y = contiguous(b);
  return x.sizes() == y.sizes() && std::memcmp(x.data(), y.data(), size_t(x.numel() * itemsize(x.dtype()))) == 0;
}

struct Convolution {
  Case c;
  Tensor x = numbers({c.batch, c.groups * c.in, c.height, c.width}, 1);
  Tensor w = numbers({c.groups * c.out, c.in, 3, 3}, 2);
  Tensor g = numbers({c.batch, c.groups * c.out, c.height + 2 * c.padding - 2, c.width + 2 * c.padding - 2}, 3);

  // The result and its gradients in x and w.
  std::vector<Tensor> all() const {
    const int64_t size[] = {c.height, c.width}, kernel[] = {3, 3};
    return {convolution(x, w, 1, c.padding, 1, c.groups),
            convolution_input(g, w, IntList(size, 2), 1, c.padding, 1, c.groups),
            convolution_weight(x, g, IntList(kernel, 2), 1, c.padding, 1, c.groups)};
  }
  Convolution of(Tensor (*f)(const Tensor&)) const { return {c, f(x), f(w), f(g)}; }
};

ConvShape shape_of(const Case& c) {
  ConvShape g;
  g.batch = c.batch, g.groups = c.groups, g.in = c.in, g.out = c.out;
  g.kernel = {3, 3}, g.stride = g.dilation = {1, 1};
  g.padded = {c.height + 2 * c.padding, c.width + 2 * c.padding};
  g.windows = {g.padded[0] - 2, g.padded[1] - 2};
  return g;
}

bool have_kernels() {
  if (cpu::loops().winograd.input) return true;
  MESSAGE("no kernel of our own for this instruction set");
  return false;
}

}  // namespace

TEST_CASE("Winograd's convolutions stay near those in double") {
  if (!have_kernels()) return;
  for (const Case& c : cases) {
    REQUIRE(cpu::winograd_fits(shape_of(c)));
    const Convolution conv{c};
    const std::vector<Tensor> found = conv.all();
    const std::vector<Tensor> want = conv.of([](const Tensor& t) { return cast(t, DType::F64); }).all();
    const std::vector<Tensor> magnitude = conv.of([](const Tensor& t) { return cast(t, DType::F64).abs(); }).all();
    const int64_t terms[] = {c.in, c.out, c.batch * c.height * c.width / 4};
    for (size_t i = 0; i < 3; ++i) {
      // A transformed element adds four values of a window and up to nine of the kernel (four halvings: weight at most
      // 9/4), a result adds nine of 16 sums: each of these is bounded by 9 times the sum of magnitudes of the plain way
      // around it (neighbouring windows: 4 times), and every rounding, `terms` in the sum and 12 in the transforms, is
      // 2^-24 of it. Roundings are independent: their number counts by its square root, four times over.
      const double unit = 4 * std::sqrt(double(terms[i] + 12)) * std::ldexp(1.0, -24);
      const double most = magnitude[i].max().item<double>();
      INFO("channels ", c.in, " ", c.out, " width ", c.width, " result ", i);
      CHECK((cast(found[i], DType::F64) - want[i]).abs().max().item<double>() < 4 * unit * most);
      // And it is the convolution at all, not something within a loose bound: 3e-7 to 6e-7 was measured, as for the
      // plain way and PyTorch's (docs/decisions.md, 27).
      CHECK((cast(found[i], DType::F64) - want[i]).abs().max().item<double>() <
            2e-6 * want[i].abs().max().item<double>());
    }
  }
}

TEST_CASE("Winograd's convolutions have the same bits for any number of threads, and of samples") {
  if (!have_kernels()) return;
  const int before = num_threads();
  for (const Case& c : cases) {
    const Convolution conv{c};
    const std::vector<Tensor> first = conv.all();
    for (int threads : {1, 2, 3, 4}) {
      set_num_threads(threads);
      const std::vector<Tensor> again = conv.all();
      for (size_t i = 0; i < 3; ++i) CHECK(same_bits(again[i], first[i]));
    }
    set_num_threads(before);
    Convolution one = conv;
    one.c.batch = 1, one.x = narrow(conv.x, 0, c.batch - 1, 1), one.g = narrow(conv.g, 0, c.batch - 1, 1);
    const std::vector<Tensor> last = one.all();
    for (size_t i = 0; i < 2; ++i) CHECK(same_bits(last[i], narrow(first[i], 0, c.batch - 1, 1)));
  }
}

TEST_CASE("what is no number stays within the windows that hold it") {
  if (!have_kernels()) return;
  Convolution conv{cases[1]};
  conv.x.data<float>()[5 * 15 + 6] = std::nanf("");
  const Tensor y = isnan(convolution(conv.x, conv.w, 1, 1, 1, 1)).to(DType::F32);
  const Tensor seen = y.sum({0, 1});  // places of the 13 x 15 results that hold it: 3 x 3, in every channel
  CHECK(seen.sum().item<float>() == 9.0f * 19);
  CHECK(narrow(narrow(seen, 0, 4, 3), 1, 5, 3).sum().item<float>() == 9.0f * 19);
}

TEST_CASE("AVX2 and AVX-512 transform to the same bits") {
  const cpu::Loops *avx2 = cpu::loops_of("avx2"), *avx512 = cpu::loops_of("avx512");
  if (!avx512) {
    MESSAGE("this processor has no AVX-512");
    return;
  }
  for (int64_t width : {3, 7, 32, 34, 35, 71}) {
    const int64_t tiles = (width + 1) / 2, apart = tiles + cpu::kWinogradStretch;
    Tensor rows = numbers({4, width}, 4);
    const float* row = rows.data<float>();
    std::vector<std::vector<float>> results;
    for (const cpu::Loops* l : {avx2, avx512}) {
      std::vector<float> part(size_t(16 * apart)), grad(part), y(size_t(2 * width)), u(part);
      const cpu::WinogradRow r{{row, row + width, nullptr, row + 3 * width}, width, tiles, part.data(), apart};
      l->winograd.input(r);
      cpu::WinogradRow d = r;
      d.part = grad.data();
      l->winograd.grad(d);
      l->winograd.output(part.data(), apart, tiles, y.data(), y.data() + width, width);
      const Tensor kernels = numbers({tiles, 9}, 5);
      std::vector<float> w(kernels.data<float>(), kernels.data<float>() + tiles * 9), back(w);
      l->winograd.weight(w.data(), tiles, u.data(), apart);
      l->winograd.weight_grad(u.data(), apart, 1, 0, tiles, back.data());
      for (int i = 0; i < 16; ++i)  // what lies beyond the tiles is not said
        for (auto* p : {&part, &grad, &u}) std::fill_n(p->begin() + i * apart + tiles, cpu::kWinogradStretch, 0.0f);
      for (auto* p : {&grad, &u, &y, &back}) part.insert(part.end(), p->begin(), p->end());
      results.push_back(part);
    }
    CHECK(std::memcmp(results[0].data(), results[1].data(), results[0].size() * 4) == 0);
  }
}
