// Conformance of the fused kernels over rows, against loops in double.
#include <doctest/doctest.h>

#include "tests/cpp/backend_util.h"

using namespace tg;
using namespace tg::test;

namespace {

constexpr double kEps = 1e-5;

// Operands of one call: their values in double, row by row.
struct Rows {
  int64_t rows, n;
  std::vector<Pair> ins, outs;
  Views in(bool ref) const { return views(ins, ref); }
  Views out(bool ref) const { return views(outs, ref); }
  double x(int k, int64_t row, int64_t i) const { return value(ins[size_t(k)].ref, row, i); }
  double sum(auto f) const {
    double s = 0;
    for (int64_t i = 0; i < n; ++i) s += f(i);
    return s;
  }
  void set(int k, int64_t row, int64_t i, double v) {
    const View& o = outs[size_t(k)].ref;
    put(o, row * o.stride[0] + i * o.stride[1], v);
  }

 private:
  static Views views(const std::vector<Pair>& v, bool ref) {
    Views r;
    for (auto& p : v) r.push_back(ref ? p.ref : p.cpu);
    return r;
  }
  static double value(const View& v, int64_t row, int64_t i) { return get(v, row * v.stride[0] + i * v.stride[1]); }
};

// What an operand has for each row: n elements, one, the n that all rows share.
enum class Part { Row, Value, Shared };

Pair operand(Part part, int64_t rows, int64_t n, DType t, Layout l, Rng& rng, Values kind = Values::Plain) {
  const Dims shape = part == Part::Row ? Dims{rows, n} : part == Part::Value ? Dims{rows, 1} : Dims{1, n};
  Pair p = make_pair_of(shape, t, l, rng, kind);
  for (View* v : {&p.ref, &p.cpu}) {
    v->shape = {rows, n};
    if (part == Part::Value) v->stride[1] = 0;
    if (part == Part::Shared) v->stride[0] = 0;
  }
  return p;
}

struct Kind {
  Fused fused;
  const char* name;
  std::vector<std::pair<Part, Values>> ins;
  std::vector<Part> outs;
  int typed_ins, typed_outs;  // of these, how many have the type of x: the others are float32
};
const Kind kKinds[] = {
    {Fused::Softmax, "softmax", {{Part::Row, Values::Plain}}, {Part::Row}, 1, 1},
    {Fused::LogSoftmax, "log_softmax", {{Part::Row, Values::Plain}}, {Part::Row}, 1, 1},
    {Fused::LogSumExp, "logsumexp", {{Part::Row, Values::Plain}}, {Part::Value}, 1, 0},
    {Fused::SoftmaxGrad,
     "softmax_grad",
     {{Part::Row, Values::Positive}, {Part::Row, Values::Plain}},
     {Part::Row},
     2,
     1},
    {Fused::LogSoftmaxGrad,
     "log_softmax_grad",
     {{Part::Row, Values::Plain}, {Part::Row, Values::Plain}},
     {Part::Row},
     2,
     1},
    {Fused::ScaledExp,
     "scaled_exp",
     {{Part::Row, Values::Plain}, {Part::Value, Values::Plain}, {Part::Value, Values::Plain}},
     {Part::Row},
     1,
     0},
    {Fused::Norm,
     "norm",
     {{Part::Row, Values::Plain}, {Part::Shared, Values::Plain}, {Part::Shared, Values::Plain}},
     {Part::Row, Part::Value, Part::Value},
     3,
     1},
    {Fused::NormGrad,
     "norm_grad",
     {{Part::Row, Values::Plain},
      {Part::Row, Values::Plain},
      {Part::Shared, Values::Plain},
      {Part::Value, Values::Plain},
      {Part::Value, Values::Positive}},
     {Part::Row},
     3,
     1},
    {Fused::NormWeights,
     "norm_weights",
     {{Part::Row, Values::Plain},
      {Part::Row, Values::Plain},
      {Part::Value, Values::Plain},
      {Part::Value, Values::Positive}},
     {Part::Shared, Part::Shared},
     2,
     0},
};

// The kinds of norm know no mean when this operand (of NormGrad and NormWeights) or that result (of Norm and
// NormWeights, where it is the sum of g) is missing: that is RMS norm.
int mean_operand(Fused f) { return f == Fused::NormGrad ? 3 : f == Fused::NormWeights ? 2 : -1; }
int mean_result(Fused f) { return f == Fused::Norm || f == Fused::NormWeights ? 1 : -1; }
void remove(Pair& p) { p.ref.data = p.cpu.data = nullptr; }

// Fills the results by the definitions of backends/program.h. Returns the largest sum of magnitudes behind a result.
double expect(Fused f, Rows& r, double arg) {
  double scale = 1;
  auto larger = [&](double s) { scale = std::max(scale, s); };
  for (int64_t row = 0; row < r.rows; ++row) {
    auto x = [&](int64_t i) { return r.x(0, row, i); };
    auto each = [&](int k, auto value) {
      for (int64_t i = 0; i < r.n; ++i) r.set(k, row, i, value(i));
    };
    double top = -std::numeric_limits<double>::infinity();
    for (int64_t i = 0; i < r.n; ++i) top = std::max(top, x(i));
    const double total = r.sum([&](int64_t i) { return std::exp(x(i) - top); });
    switch (f) {
      case Fused::Softmax:
        each(0, [&](int64_t i) { return arg != 0 && std::isinf(top) ? 0 : std::exp(x(i) - top) / total; });
        break;
      case Fused::LogSoftmax:
        each(0, [&](int64_t i) { return x(i) - top - std::log(total); });
        break;
      case Fused::LogSumExp:
        r.set(0, row, 0, top + std::log(total));
        break;
      case Fused::SoftmaxGrad:
      case Fused::LogSoftmaxGrad: {
        const bool of_log = f == Fused::LogSoftmaxGrad;
        auto g = [&](int64_t i) { return r.x(1, row, i); };
        auto term = [&](int64_t i) { return of_log ? g(i) : g(i) * x(i); };
        const double s = r.sum(term), all = r.sum([&](int64_t i) { return std::fabs(term(i)); });
        larger(all * (of_log ? std::exp(3) : 3.01));
        each(0, [&](int64_t i) { return of_log ? g(i) - std::exp(x(i)) * s : x(i) * (g(i) - s); });
        break;
      }
      case Fused::ScaledExp:
        larger(3 * std::exp(6));
        each(0, [&](int64_t i) { return std::exp(x(i) - r.x(1, row, 0)) * r.x(2, row, 0); });
        break;
      case Fused::Norm: {
        const double mean = r.outs[1].ref.data ? r.sum(x) / double(r.n) : 0;
        const double var = r.sum([&](int64_t i) { return (x(i) - mean) * (x(i) - mean); }) / double(r.n);
        const double by = 1 / std::sqrt(var + arg);
        larger(3 * 6 * by);  // an error of the mean is multiplied by this
        each(0, [&](int64_t i) {
          const double w = r.ins[1].ref.data ? r.x(1, row, i) : 1, b = r.ins[2].ref.data ? r.x(2, row, i) : 0;
          return (x(i) - mean) * by * w + b;
        });
        if (r.outs[1].ref.data) r.set(1, row, 0, mean);
        r.set(2, row, 0, var);
        break;
      }
      case Fused::NormGrad: {
        const bool centred = r.ins[3].ref.data;
        const double mean = centred ? r.x(3, row, 0) : 0, by = 1 / std::sqrt(r.x(4, row, 0) + arg);
        auto hat = [&](int64_t i) { return (x(i) - mean) * by; };
        auto h = [&](int64_t i) { return r.x(1, row, i) * (r.ins[2].ref.data ? r.x(2, row, i) : 1); };
        const double a = centred ? r.sum(h) / double(r.n) : 0,
                     b = r.sum([&](int64_t i) { return h(i) * hat(i); }) / double(r.n);
        const double far = 6 * by;  // |hat| is at most this, |h| 9
        larger(by * (9 + 9 + far * far * 9));
        each(0, [&](int64_t i) { return by * (h(i) - a - hat(i) * b); });
        break;
      }
      default:
        break;
    }
  }
  if (f == Fused::NormWeights)
    for (int64_t i = 0; i < r.n; ++i) {
      double s0 = 0, s1 = 0, all = 0;
      for (int64_t row = 0; row < r.rows; ++row) {
        const double mean = r.ins[2].ref.data ? r.x(2, row, 0) : 0;
        const double hat = (r.x(0, row, i) - mean) / std::sqrt(r.x(3, row, 0) + arg), g = r.x(1, row, i);
        s0 += g * hat, s1 += g, all += std::max(std::fabs(g * hat), std::fabs(g));
      }
      larger(all);
      r.set(0, 0, i, s0);
      if (r.outs[1].ref.data) r.set(1, 0, i, s1);
    }
  return scale;
}

void check_rows(Count& count, const Kind& k, DType t, int64_t rows, int64_t n, bool weights, Layout l, Rng& rng,
                bool mean = true) {
  if (!drawn()) return;
  Rows r{rows, n, {}, {}};
  for (size_t i = 0; i < k.ins.size(); ++i) {
    r.ins.push_back(operand(k.ins[i].first, rows, n, int(i) < k.typed_ins ? t : DType::F32, l, rng, k.ins[i].second));
    if (k.ins[i].first == Part::Shared && !weights) r.ins.back().ref.data = r.ins.back().cpu.data = nullptr;
  }
  for (size_t i = 0; i < k.outs.size(); ++i)
    r.outs.push_back(operand(k.outs[i], rows, n, int(i) < k.typed_outs ? t : DType::F32, l, rng));
  if (!mean && mean_operand(k.fused) >= 0) remove(r.ins[size_t(mean_operand(k.fused))]);
  if (!mean && mean_result(k.fused) >= 0) remove(r.outs[size_t(mean_result(k.fused))]);
  const double arg = k.fused >= Fused::Norm ? kEps : 0;
  CHECK_MESSAGE(tested_backend().fused(k.fused, r.in(false), r.out(false), arg), k.name, " ", name(t), " n=", n);
  const double scale = expect(k.fused, r, arg);
  // At most 16 float roundings on a thread's way to its double, a few more after it, all of numbers below `scale`.
  for (const Pair& out : r.outs)
    if (out.ref.data)
      CHECK_SAME(count, out, is_half(out.dtype()) ? 1 : 4, 20 * 0x1p-24 * scale, k.name, " ", t, " rows ", rows, " n ",
                 n, " layout ", int(l));
}

}  // namespace

TEST_CASE("rows: every fused kernel, dtype and length") {
  Count count("fused kernels over rows");
  Rng rng(31);
  for (const Kind& k : kKinds)
    for (DType t : {DType::F32, DType::BF16, DType::F16}) {
      for (int64_t n : kEdges)
        if (n > 0)
          for (Layout l : {Layout::Contiguous, Layout::Offset})
            for (bool weights : {true, false}) check_rows(count, k, t, n > 100 ? 2 : 5, n, weights, l, rng);
      check_rows(count, k, t, 3, 9001, true, Layout::Contiguous, rng);
      check_rows(count, k, t, 2, 8192, true, Layout::Contiguous, rng);
      check_rows(count, k, t, 600, 8, true, Layout::Contiguous, rng);  // more rows than one block of sums takes
    }
}

TEST_CASE("rows: norms without a mean") {
  Count count("fused kernels of RMS norm");
  Rng rng(33);
  for (const Kind& k : kKinds) {
    if (k.fused < Fused::Norm) continue;
    for (DType t : {DType::F32, DType::BF16, DType::F16}) {
      for (int64_t n : kEdges)
        if (n > 0)
          for (Layout l : {Layout::Contiguous, Layout::Offset})
            for (bool weights : {true, false}) check_rows(count, k, t, n > 100 ? 2 : 5, n, weights, l, rng, false);
      check_rows(count, k, t, 3, 9001, true, Layout::Contiguous, rng, false);
      check_rows(count, k, t, 600, 8, true, Layout::Contiguous, rng, false);
    }
  }
}

TEST_CASE("rows: infinities") {
  const double inf = std::numeric_limits<double>::infinity();
  Rng rng(32);
  for (bool safe : {false, true})
    for (int64_t n : {1, 5, 64}) {
      Rows r{3, n, {}, {}};
      r.ins.push_back(operand(Part::Row, 3, n, DType::F32, Layout::Contiguous, rng));
      r.outs.push_back(operand(Part::Row, 3, n, DType::F32, Layout::Contiguous, rng));
      for (const View* v : {&r.ins[0].ref, &r.ins[0].cpu})
        for (int64_t i = 0; i < n; ++i) put(*v, i, -inf), put(*v, n + i, i == 0 ? 1 : -inf);
      CHECK(tested_backend().fused(Fused::Softmax, r.in(false), r.out(false), safe));
      const View& y = r.outs[0].cpu;
      for (int64_t i = 0; i < n; ++i) {
        CHECK((safe ? get(y, i) == 0 : std::isnan(get(y, i))));
        CHECK(get(y, n + i) == (i == 0 ? 1 : 0));
      }
    }
}
