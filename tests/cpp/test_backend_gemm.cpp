// Conformance of products with a bias and with GELU in their pass, which a backend need not have: what it takes equals
// the steps one by one, in double by ref; what it does not take is left as it was.
#include <doctest/doctest.h>

#include <map>

#include "ops/fast_path.h"
#include "tests/cpp/backend_util.h"

using namespace tg;
using namespace tg::test;

namespace {

Views views(const auto&... v) {
  Views all;
  (all.push_back(v), ...);
  return all;
}

// A dense array of doubles, with the values of `v` if there is one.
struct Wide {
  std::vector<double> memory;
  View view;
  explicit Wide(const Dims& shape) {
    view.dtype = DType::F64, view.shape = shape, view.stride = contiguous_strides(shape);
    memory.resize(size_t(view.numel()) + 1);
    view.data = memory.data();
  }
  explicit Wide(const View& v) : Wide(v.shape) {
    ref_backend().map(make_program(DType::F64, 1, {}, {{Opc::Identity, {0}}}), views(v), views(view));
  }
};

// One value per column, for each of the rows.
View over_rows(View bias, const Dims& shape) {
  bias.shape = shape;
  bias.stride = {0, 0, bias.stride[0]};
  return bias;
}

// A product and what follows it, made once by ref and once by the backend under test.
struct ProductCase {
  DType t;
  Pair a, b, bias, c, before;
  bool with_bias, with_before;

  ProductCase(DType type, Rng& r) : t(type) {
    const int64_t sizes[] = {1, 2, 3, 7, 8, 9, 16, 17, 24, 33, 64, 65};
    auto pick = [&] { return sizes[r() % std::size(sizes)]; };
    const int64_t batch = r() % 4 ? 1 : 2, m = pick(), n = pick(), k = r() % 20 ? pick() : 257;
    auto layout = [&](const Layout* all, size_t count) { return r() % 2 ? Layout::Contiguous : all[r() % count]; };
    a = make_pair_of({batch, m, k}, t, layout(kInLayouts, 6), r);
    b = make_pair_of({batch, k, n}, t, layout(kInLayouts, 6), r);
    bias = make_pair_of({n}, t, layout(kOutLayouts, 5), r);
    c = make_pair_of({batch, m, n}, t, layout(kOutLayouts, 5), r, Values::Special);
    before = make_pair_of({batch, m, n}, t, layout(kOutLayouts, 5), r);
    with_bias = r() % 2 == 0, with_before = r() % 2 == 0;
  }

  // The steps one by one: `before`, then `c` by `last`, each rounded once.
  void steps(bool add_bias, bool keep, Opc last) {
    Wide wide_a(a.ref), wide_b(b.ref), sum(c.ref.shape);
    ref_backend().gemm(1, wide_a.view, wide_b.view, 0, sum.view);
    if (add_bias)
      ref_backend().map(make_program(DType::F64, 2, {}, {{Opc::add, {0, 1}}}),
                        views(sum.view, over_rows(bias.ref, c.ref.shape)), views(sum.view));
    if (keep)
      ref_backend().map(make_program(DType::F64, 1, {}, {{Opc::Identity, {0}}}), views(sum.view), views(before.ref));
    ref_backend().map(make_program(DType::F64, 1, {}, {{last, {0}}}), views(sum.view), views(c.ref));
  }

  // An error of one step of float32 per addition of numbers up to 9, and of gelu's two roundings of a half type.
  double bound() const {
    const double k = double(a.ref.shape[2]) + 4, half = t == DType::F16 ? 0x1p-11 : t == DType::BF16 ? 0x1p-8 : 0;
    return 9 * 6e-8 * k * std::sqrt(k) + half;
  }
  std::string text() const {
    return str(t, " a ", a.ref.shape, a.ref.stride, " b ", b.ref.shape, b.ref.stride, " c ", c.ref.stride, " bias ",
               with_bias, " before ", with_before, before.ref.stride);
  }
};

const DType kFloats[] = {DType::F32, DType::F64, DType::F16, DType::BF16};
constexpr int kTrials = 150;

// Whether every call goes to a device, so that some of each kind must have been taken.
bool whole_device() { return on_device() && share() == 1; }

}  // namespace

TEST_CASE("gemm with a bias in its pass: every float type, layout and odd sizes") {
  Count count("gemm_bias");
  Rng rng(31);
  std::map<DType, int> taken;
  for (DType t : kFloats)
    for (int trial = 0; trial < kTrials; ++trial) {
      ProductCase p(t, rng);
      if (tested_backend().gemm_bias(p.a.cpu, p.b.cpu, p.bias.cpu, p.c.cpu))
        p.steps(true, false, Opc::Identity), ++taken[t];
      CHECK_SAME(count, p.c, 1, p.bound(), "gemm_bias ", p.text());
    }
  if (whole_device())
    for (DType t : {DType::F32, DType::F16, DType::BF16}) CHECK(taken[t] > 0);
}

TEST_CASE("gemm with gelu in its pass, with and without a bias and what came before it") {
  Count count("gemm_gelu");
  Rng rng(32);
  std::map<std::pair<DType, bool>, int> taken;
  for (DType t : kFloats)
    for (int trial = 0; trial < 2 * kTrials; ++trial) {
      ProductCase p(t, rng);
      const View bias = p.with_bias ? p.bias.cpu : View(), before = p.with_before ? p.before.cpu : View();
      if (tested_backend().gemm_gelu(p.a.cpu, p.b.cpu, bias, p.c.cpu, before))
        p.steps(p.with_bias, p.with_before, Opc::gelu_tanh), ++taken[{t, p.with_before}];
      CHECK_SAME(count, p.c, 2, p.bound(), "gemm_gelu ", p.text());
      CHECK_SAME(count, p.before, 1, p.bound(), "gemm_gelu, before, ", p.text());
    }
  if (whole_device())
    for (DType t : {DType::F32, DType::F16, DType::BF16})
      for (bool before : {false, true}) CHECK(taken[{t, before}] > 0);
}
