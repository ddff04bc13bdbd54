// Conformance of the attention kernels, against loops in double.
#include <doctest/doctest.h>

#include <map>

#include "backends/random_bits.h"
#include "tests/cpp/backend_util.h"

using namespace tg;
using namespace tg::test;

namespace attention_test {
namespace {

struct Sizes {
  int64_t batch, heads, queries, keys, features, width;
};

int64_t at(const View& v, int64_t b, int64_t h, int64_t p, int64_t f) {
  return b * v.stride[0] + h * v.stride[1] + p * v.stride[2] + f * v.stride[3];
}

// A batch of matrices in double.
struct Matrix {
  int64_t rows, columns;
  std::vector<double> x;
  Matrix(int64_t r, int64_t c) : rows(r), columns(c), x(size_t(r * c)) {}
  double& operator()(int64_t r, int64_t c) { return x[size_t(r * columns + c)]; }
  double operator()(int64_t r, int64_t c) const { return x[size_t(r * columns + c)]; }
};
Matrix head_of(const View& v, int64_t b, int64_t h) {
  Matrix m(v.shape[2], v.shape[3]);
  for (int64_t p = 0; p < m.rows; ++p)
    for (int64_t f = 0; f < m.columns; ++f) m(p, f) = get(v, at(v, b, h, p, f));
  return m;
}
void put_head(const Matrix& m, const View& v, int64_t b, int64_t h) {
  for (int64_t p = 0; p < m.rows; ++p)
    for (int64_t f = 0; f < m.columns; ++f) put(v, at(v, b, h, p, f), m(p, f));
}

constexpr uint64_t kSeed = 11, kOffset = 5;  // of dropout's numbers

enum Axis { kBatch = 1, kHeads = 2, kQueries = 4, kKeys = 8 };

// What becomes of the scores.
struct How {
  bool causal = false;
  std::optional<DType> mask = {};
  int repeated = 0;  // axes along which the mask is the same
  Layout layout = Layout::Contiguous;
  double dropout = 0;
};

// A mask that hides one key in ten, and all of them from query 1.
Pair make_mask(const Sizes& n, const How& how, Rng& rng) {
  const Dims whole = {n.batch, n.heads, n.queries, n.keys};
  Dims shape = whole;
  for (int d = 0; d < 4; ++d)
    if (how.repeated >> d & 1) shape[d] = 1;
  Pair m = make_pair_of(shape, *how.mask, how.layout, rng);
  const double hide = *how.mask == DType::Bool ? 0 : -std::numeric_limits<double>::infinity();
  for (int64_t b = 0; b < shape[0]; ++b)
    for (int64_t h = 0; h < shape[1]; ++h)
      for (int64_t i = 0; i < shape[2]; ++i)
        for (int64_t j = 0; j < shape[3]; ++j)
          if (i == 1 || draw01(rng) < 0.1) put(m.cpu, at(m.cpu, b, h, i, j), hide);
  for (int d = 0; d < 4; ++d)
    if (how.repeated >> d & 1) m.cpu.stride[d] = 0;
  m.cpu.shape = whole;
  return m;
}

// What a mask's gradient is added to: of the mask's type, repeated along the same axes.
Pair make_sums(const Sizes& n, const How& how, Rng& rng) {
  Dims shape = {n.batch, n.heads, n.queries, n.keys};
  for (int d = 0; d < 4; ++d)
    if (how.repeated >> d & 1) shape[d] = 1;
  Pair m = make_pair_of(shape, *how.mask, how.layout, rng);
  for (View* v : {&m.cpu, &m.ref}) {
    for (int d = 0; d < 4; ++d)
      if (how.repeated >> d & 1) v->stride[d] = 0;
    v->shape = {n.batch, n.heads, n.queries, n.keys};
  }
  return m;
}

// The operands and results of both calls.
struct Case {
  Sizes n;
  AttentionOptions options;
  Pair mask, q, k, v, g, out, dq, dk, dv, dmask;
  double of_out = 0, of_dq = 0, of_dk = 0, of_dv = 0, of_dmask = 0;  // bounds of the float errors

  // q, k, v and g in `ins`; results of attention and of its gradient in `outs`.
  Case(Sizes s, DType t, Layout ins, Layout outs, const How& how, Rng& rng) : n(s) {
    options.causal = how.causal, options.scale = 1 / std::sqrt(double(n.features));
    options.dropout = how.dropout, options.numbers = {.seed = kSeed, .offset = kOffset};
    if (how.mask) mask = make_mask(n, how, rng), options.mask = mask.cpu;
    if (how.mask && how.mask != DType::Bool) dmask = make_sums(n, how, rng);
    auto make = [&](int64_t positions, int64_t features, Layout l) {
      return make_pair_of({n.batch, n.heads, positions, features}, t, l, rng);
    };
    q = make(n.queries, n.features, ins), k = make(n.keys, n.features, ins), v = make(n.keys, n.width, ins);
    g = make(n.queries, n.width, ins), out = make(n.queries, n.width, outs), dq = make(n.queries, n.features, outs);
    dk = make(n.keys, n.features, outs), dv = make(n.keys, n.width, outs);
  }

  // dropout(softmax(scale q k^T + mask)) v and its gradients. Bounds: a score of float products errs by
  // r / 2 = (features + 2) 2^-24 of its terms, so a weight by about that much of itself and by the roundings of `keys`
  // sums; each further product adds the roundings of its terms, which dropout makes larger. Tensor cores take weights
  // and slopes of half types rounded to these.
  void expect() {
    for (int64_t b = 0; b < n.batch; ++b)
      for (int64_t h = 0; h < n.heads; ++h) expect_head(b, h);
    for (const auto& [place, sum] : gains_) put(dmask.ref, place, get(dmask.ref, place) + sum);
  }

 private:
  std::map<int64_t, double> gains_;  // of dmask, by its offsets
  // What the mask adds to a score.
  double added(int64_t b, int64_t h, int64_t i, int64_t j) const {
    if (!options.mask.data) return 0;
    const double x = get(options.mask, at(options.mask, b, h, i, j));
    return options.mask.dtype != DType::Bool ? x : x != 0 ? 0 : -std::numeric_limits<double>::infinity();
  }
  // What dropout multiplies weights by that it keeps; all others by 0.
  double most() const { return options.dropout < 1 ? 1 / (1 - options.dropout) : 0; }
  double kept(int64_t b, int64_t h, int64_t i, int64_t j) const {
    const int64_t place = ((b * n.heads + h) * n.queries + i) * n.keys + j;
    const float u = rnd::element<float>(rnd::Draw::Uniform, options.numbers.seed, options.numbers.offset,
                                        options.numbers.first + place);
    return u >= float(options.dropout) ? most() : 0;
  }

  void expect_head(int64_t b, int64_t h) {
    const double scale = options.scale;
    const Matrix mq = head_of(q.ref, b, h), mk = head_of(k.ref, b, h), mv = head_of(v.ref, b, h),
                 mg = head_of(g.ref, b, h);
    Matrix o(n.queries, n.width), dmq(n.queries, n.features), dmk(n.keys, n.features), dmv(n.keys, n.width);
    std::vector<double> p(size_t(n.keys)), dp(p), column(p), stays(p);
    double terms = 0, slope = 0, biggest = 0;
    const double most = this->most();
    for (int64_t i = 0; i < n.queries; ++i) {
      const int64_t seen = options.causal ? std::min(i + 1, n.keys) : n.keys;
      double total = 0, mean = 0, top = -std::numeric_limits<double>::infinity();
      for (int64_t j = 0; j < seen; ++j) {
        double s = 0, m = 0;
        for (int64_t f = 0; f < n.features; ++f) s += mq(i, f) * mk(j, f), m += std::fabs(mq(i, f) * mk(j, f));
        const double x = added(b, h, i, j);
        p[size_t(j)] = scale * s + x, terms = std::max(terms, scale * m + (std::isfinite(x) ? std::fabs(x) : 0));
        top = std::max(top, p[size_t(j)]), stays[size_t(j)] = kept(b, h, i, j);
      }
      if (!std::isfinite(top)) continue;  // it sees nothing
      for (int64_t j = 0; j < seen; ++j) total += p[size_t(j)] = std::exp(p[size_t(j)] - top);
      for (int64_t j = 0; j < seen; ++j) {
        p[size_t(j)] /= total, column[size_t(j)] += most * p[size_t(j)];
        const double w = p[size_t(j)] * stays[size_t(j)];
        double s = 0, m = 0;
        for (int64_t f = 0; f < n.width; ++f) {
          o(i, f) += w * mv(j, f), dmv(j, f) += w * mg(i, f);
          s += stays[size_t(j)] * mg(i, f) * mv(j, f), m += most * std::fabs(mg(i, f) * mv(j, f));
        }
        dp[size_t(j)] = s, mean += p[size_t(j)] * s, slope = std::max(slope, m);
      }
      for (int64_t j = 0; j < seen; ++j) {
        const double ds = p[size_t(j)] * (dp[size_t(j)] - mean);
        for (int64_t f = 0; f < n.features; ++f) dmq(i, f) += scale * ds * mk(j, f), dmk(j, f) += scale * ds * mq(i, f);
        if (dmask.ref.data) gains_[at(dmask.ref, b, h, i, j)] += ds;
      }
    }
    for (const Matrix* m : {&mq, &mk, &mv, &mg})
      for (double x : m->x) biggest = std::max(biggest, std::fabs(x));
    const double u = 0x1p-24, looked = *std::max_element(column.begin(), column.end());
    const DType t = q.dtype();
    const double eps = t == DType::F16 ? 0x1p-11 : t == DType::BF16 ? 0x1p-8 : 0;
    const double r = 2 * double(n.features + 2) * u * terms + double(n.keys + 10) * u + eps;
    const double rs = 2 * slope * (2 * r + double(n.width + n.keys + 4) * u);
    of_out = std::max(of_out, 2 * r * most * biggest), of_dq = std::max(of_dq, scale * rs * biggest);
    of_dv = std::max(of_dv, (2 * r + double(n.queries) * u) * looked * biggest);
    of_dk = std::max(of_dk, (rs + 2 * slope * double(n.queries) * u) * scale * looked * biggest);
    // The errors of a row's slopes are at most rs together, and summed once more for each row.
    const double rows = double(n.batch * n.heads * n.queries);
    of_dmask = std::max(of_dmask, rows * (rs + 2 * slope * (rows + double(n.keys)) * u));
    put_head(o, out.ref, b, h), put_head(dmq, dq.ref, b, h), put_head(dmk, dk.ref, b, h), put_head(dmv, dv.ref, b, h);
  }
};

AttentionKernels& tested_kernels() { return dynamic_cast<AttentionKernels&>(tested_backend()); }

// What there are kernels for: all floats on a device, float32 on the CPU.
bool has_kernel(DType t, Layout outs) {
  return on_device() ||
         (t == DType::F32 && outs != Layout::Transposed && outs != Layout::Sliced && outs != Layout::Negative);
}

void check(Count& count, Sizes n, DType t, Layout ins, Layout outs, const How& how, Rng& rng) {
  if (!has_kernel(t, outs) || !drawn()) return;
  Case c(n, t, ins, outs, how, rng);
  c.expect();
  CHECK(tested_kernels().attention(c.q.cpu, c.k.cpu, c.v.cpu, c.options, c.out.cpu));
  CHECK(tested_kernels().attention_grad(c.q.cpu, c.k.cpu, c.v.cpu, c.g.cpu, c.options, c.dq.cpu, c.dk.cpu, c.dv.cpu,
                                        c.dmask.cpu));
  const std::string what =
      str(t, " ", n.batch, "x", n.heads, " ", n.queries, "x", n.keys, " features ", n.features, ",", n.width,
          how.causal ? " causal" : "", how.mask ? " mask of " : "", how.mask ? name(*how.mask) : "", " repeated ",
          how.repeated, " dropout ", how.dropout, " layouts ", int(ins), int(outs), int(how.layout));
  CHECK_SAME(count, c.out, 1, c.of_out, "out: ", what);
  CHECK_SAME(count, c.dq, 1, c.of_dq, "dq: ", what);
  CHECK_SAME(count, c.dk, 1, c.of_dk, "dk: ", what);
  CHECK_SAME(count, c.dv, 1, c.of_dv, "dv: ", what);
  if (c.dmask.cpu.data) CHECK_SAME(count, c.dmask, 1, c.of_dmask, "dmask: ", what);
}

const DType kFloats[] = {DType::F32, DType::F16, DType::BF16, DType::F64};

// Around the edges of tiles of 32 and 64, one more query than keys and the other way round.
const Sizes kSizes[] = {{1, 1, 1, 1, 1, 1},   {1, 2, 1, 5, 3, 4},   {2, 1, 5, 1, 8, 2},     {1, 1, 31, 33, 16, 16},
                        {1, 1, 63, 65, 8, 5}, {1, 1, 65, 63, 7, 9}, {1, 1, 64, 64, 64, 64}, {1, 1, 33, 34, 65, 128}};

}  // namespace

TEST_CASE("attention: every float type, around the edges of tiles") {
  Count count("attention");
  Rng rng(41);
  for (DType t : kFloats)
    for (const Sizes& n : kSizes)
      for (bool causal : {false, true}) check(count, n, t, Layout::Contiguous, Layout::Contiguous, {causal}, rng);
}

TEST_CASE("attention: sizes that a library may take") {
  Count count("attention by a library");
  Rng rng(43);
  const int64_t features = kRaceChecker ? 16 : 64;  // a library wants 128 queries and keys; other cases have features
  for (DType t : {DType::F16, DType::BF16})
    for (bool causal : {false, true})
      for (int repeat = 0; repeat < 2; ++repeat)  // a first call may be compared with the own kernel
        check(count, {2, 2, 130, 140, features, features + 8}, t, Layout::Contiguous, Layout::Contiguous, {causal},
              rng);
}

TEST_CASE("attention: every layout") {
  Count count("attention in layouts");
  Rng rng(42);
  for (DType t : {DType::F32, DType::BF16}) {
    for (Layout l : kInLayouts) check(count, {2, 2, 9, 11, 5, 3}, t, l, Layout::Contiguous, {true}, rng);
    for (Layout l : kOutLayouts) check(count, {2, 2, 9, 11, 5, 3}, t, Layout::Contiguous, l, {}, rng);
  }
}

TEST_CASE("attention: masks of every type, repeated along any axes, in every layout") {
  Count count("attention with masks");
  Rng rng(44);
  const Layout plain = Layout::Contiguous;
  for (DType t : kFloats)
    for (DType m : {DType::Bool, DType::F16, DType::BF16, DType::F32, DType::F64})
      check(count, {1, 2, 66, 35, 6, 5}, t, plain, plain, {.mask = m, .repeated = kBatch | kHeads}, rng);
  for (DType m : {DType::Bool, DType::F32}) {
    for (int repeated = 0; repeated < 16; ++repeated)
      check(count, {2, 3, 9, 11, 5, 3}, DType::F32, plain, plain, {.mask = m, .repeated = repeated}, rng);
    for (Layout l : kOutLayouts)
      check(count, {2, 2, 9, 11, 5, 3}, DType::F32, plain, plain, {.mask = m, .layout = l}, rng);
    check(count, {2, 2, 9, 11, 5, 3}, DType::F32, plain, plain, {.causal = true, .mask = m}, rng);
  }
}

TEST_CASE("attention: dropout, alone and with a mask") {
  Count count("attention with dropout");
  Rng rng(45);
  const Layout plain = Layout::Contiguous;
  for (DType t : kFloats) {
    for (bool causal : {false, true})
      check(count, {2, 2, 70, 67, 6, 5}, t, plain, plain, {.causal = causal, .dropout = 0.3}, rng);
    check(count, {2, 2, 33, 40, 66, 5}, t, plain, plain, {.mask = DType::Bool, .dropout = 0.6}, rng);
  }
  // A number that equals `dropout` stays.
  for (int64_t place : {0, 7, 19}) {
    const double number = rnd::element<float>(rnd::Draw::Uniform, kSeed, kOffset, place);
    check(count, {1, 1, 4, 5, 3, 2}, DType::F32, plain, plain, {.dropout = number}, rng);
  }
  check(count, {2, 1, 4, 5, 3, 2}, DType::F32, plain, plain, {.mask = DType::F32, .dropout = 1}, rng);
}

TEST_CASE("attention: more features than a tile has") {
  Count count("attention with many features");
  Rng rng(46);
  const Layout plain = Layout::Contiguous;
  const How all{.mask = DType::F32, .repeated = kHeads, .dropout = 0.2};
  for (DType t : kFloats)
    for (const Sizes& n : {Sizes{1, 2, 34, 33, 129, 5}, Sizes{1, 2, 33, 35, 5, 257}, Sizes{1, 1, 40, 36, 300, 200}}) {
      check(count, n, t, plain, plain, {.causal = true}, rng);
      check(count, n, t, plain, plain, all, rng);
    }
  check(count, {1, 1, 33, 65, 256, 256}, DType::BF16, Layout::Transposed, Layout::Sliced, {}, rng);
}

TEST_CASE("attention: no kernel for other views") {
  Rng rng(43);
  Case c({1, 1, 2, 3, 4, 4}, DType::F32, Layout::Contiguous, Layout::Contiguous, {}, rng);
  View none = c.k.cpu;
  none.shape[2] = 0;
  CHECK(!tested_kernels().attention(c.q.cpu, none, none, {}, c.out.cpu));
  if (!on_device()) return;
  // More blocks than a launch takes, and positions beyond int: one number repeated by strides of 0.
  for (const Dims& many : {Dims{1 << 16, 1 << 16, 1, 1}, Dims{1 << 15, 1 << 15, 1, 257}, Dims{1, 1, 1 << 30, 1}}) {
    View x = c.q.cpu;
    x.shape = many, x.stride = {0, 0, 0, 0};
    CHECK(!tested_kernels().attention(x, x, x, {}, x));
    CHECK(!tested_kernels().attention_grad(x, x, x, x, {}, x, x, x, {}));
  }
}

}  // namespace attention_test
