// Conformance of reductions, scans, searches and matrix products; the same bits for any number of threads.
#include <doctest/doctest.h>

#include "core/pool.h"
#include "tests/cpp/backend_util.h"

using namespace tg;
using namespace tg::test;

namespace {

// Sets the stride of `out` to 0 in the axes of `mask`, which makes them reduced.
void drop_axes(Pair& out, const Dims& shape, unsigned mask) {
  for (View* v : {&out.ref, &out.cpu}) {
    v->shape = shape;
    for (int d = 0; d < shape.size(); ++d)
      if (mask >> d & 1) v->stride[d] = 0;
  }
}

Dims kept_shape(Dims shape, unsigned mask) {
  for (int d = 0; d < shape.size(); ++d)
    if (mask >> d & 1) shape[d] = 1;
  return shape;
}

Views one(const View& v) {
  Views x;
  x.push_back(v);
  return x;
}

Program unary(Opc op, DType compute, int src1 = 0) {
  Program p;
  p.compute = compute;
  p.n_inputs = src1 + 1;
  p.code.push_back({op, {0, uint8_t(src1), 0}});
  p.outs.push_back(p.code_reg(0));
  return p;
}

// The largest sum of |x| over the elements of one result; `out` has the strides of the results.
double largest_magnitude(const Pair& in, const View& out) {
  View v = out;
  int64_t results = 1;
  for (int d = v.ndim(); d-- > 0;) {
    if (v.stride[d] == 0) continue;
    v.stride[d] = results;
    results *= v.shape[d];
  }
  std::vector<double> sums(size_t(results), 0.0);
  if (results == 0) return 0;
  v.data = sums.data();
  v.dtype = DType::F64;
  Program magnitude = unary(Opc::abs, DType::F32);
  ref_backend().reduce(ReduceOp::Sum, DType::F32, &magnitude, one(in.ref), nullptr, v);
  return *std::max_element(sums.begin(), sums.end());
}

constexpr ReduceOp kReduceOps[] = {ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max,
                                   ReduceOp::Min, ReduceOp::Any,  ReduceOp::All};

void check_reduce(Count& count, ReduceOp op, const Dims& shape, unsigned mask, DType t, Layout l, Rng& rng) {
  bool rounds = op == ReduceOp::Sum || op == ReduceOp::Prod;
  Pair in = make_pair_of(shape, t, l, rng,
                         op == ReduceOp::Prod ? Values::NearOne
                         : rounds             ? Values::Plain
                                              : Values::Special);
  bool flag = op == ReduceOp::Any || op == ReduceOp::All;
  DType out_t = flag ? DType::Bool : is_float(t) ? t : DType::I64;
  Pair out = make_pair_of(kept_shape(shape, mask), out_t, kOutLayouts[rng() % 5], rng);
  drop_axes(out, shape, mask);
  ref_backend().reduce(op, compute_type(t), nullptr, one(in.ref), nullptr, out.ref);
  tested_backend().reduce(op, compute_type(t), nullptr, one(in.cpu), nullptr, out.cpu);
  // a sum in another order: the last bits of double, or the rounding of the result
  double wide = rounds ? (out_t == DType::F64 ? 64 : 1) : 0,
         abs = rounds && is_float(t) ? 1e-13 * double(in.ref.numel()) : 0;
  // Floats are added in pairs of pairs of pairs before they are doubles: each goes through three roundings of at most
  // 2^-24 of the magnitude of what it was added to, (1 + 2^-24)^3 - 1 < 3.01 * 2^-24 of the terms' magnitudes in all.
  if (op == ReduceOp::Sum && compute_type(t) == DType::F32) abs += 3.01 * 0x1p-24 * largest_magnitude(in, out.ref);
  CHECK_SAME(count, out, wide, abs, "reduce ", int(op), " ", t, shape, " axes ", mask, " layout ", int(l));
}

void check_arg_reduce(Count& count, bool largest, const Dims& s, int axis, DType t, Layout l, Rng& rng) {
  Pair in = make_pair_of(s, t, l, rng, Values::Special);
  Dims os = kept_shape(s, 1u << axis);
  Pair v = make_pair_of(os, t, kOutLayouts[rng() % 5], rng),
       i = make_pair_of(os, DType::I64, kOutLayouts[rng() % 5], rng);
  View rv = v.ref, cv = v.cpu;
  if (rng() % 2) rv.data = cv.data = nullptr;
  ref_backend().arg_reduce(largest, in.ref, axis, rv, i.ref);
  tested_backend().arg_reduce(largest, in.cpu, axis, cv, i.cpu);
  CHECK_SAME(count, v, 0, 0, "arg_reduce values ", t, s, " axis ", axis);
  CHECK_SAME(count, i, 0, 0, "arg_reduce index ", t, s, " axis ", axis, " largest ", largest);
}

constexpr ScanOp kScanOps[] = {ScanOp::Sum, ScanOp::Prod, ScanOp::Max, ScanOp::Min, ScanOp::LogSumExp};

void check_scan(Count& count, ScanOp op, const Dims& s, int axis, DType t, Layout l, Rng& rng) {
  const bool extreme = op == ScanOp::Max || op == ScanOp::Min;
  Pair in = make_pair_of(s, t, l, rng,
                         extreme              ? Values::Special
                         : op == ScanOp::Prod ? Values::NearOne
                                              : Values::Plain);
  DType ot = extreme || is_float(t) ? t : DType::I64;
  Pair out = make_pair_of(s, ot, kOutLayouts[rng() % 5], rng),
       i = make_pair_of(s, DType::I64, kOutLayouts[rng() % 5], rng);
  View ri = i.ref, ci = i.cpu;
  if (!extreme) ri.data = ci.data = nullptr;
  ref_backend().scan(op, in.ref, axis, out.ref, ri);
  tested_backend().scan(op, in.cpu, axis, out.cpu, ci);
  // A device adds in a tree. Either side rounds n times at most: a sum below 3 n, or the product itself.
  const double n = on_device() ? double(s[axis]) : 0;
  const double wide = extreme ? 0 : ot != DType::F64 ? 1 : std::max(64.0, op == ScanOp::Prod ? 2 * n : 0);
  const double abs = extreme || !is_float(ot) ? 0 : std::max(1e-12, 2 * n * 0x1p-53 * 3 * n);
  CHECK_SAME(count, out, wide, abs, "scan ", int(op), " ", t, s, " axis ", axis);
  CHECK_SAME(count, i, 0, 0, "scan index ", int(op), " ", t, s, " axis ", axis);
}

}  // namespace

TEST_CASE("reduce: every op, dtype, layout and set of axes") {
  Count count("reduce");
  Rng rng(11);
  for (ReduceOp op : kReduceOps)
    for (DType t : kAllDTypes) {
      for (int64_t n : kEdges) {
        check_reduce(count, op, {n}, 1, t, Layout::Contiguous, rng);
        check_reduce(count, op, {3, n}, 2, t, Layout::Contiguous, rng);
        check_reduce(count, op, {n, 5}, 1, t, Layout::Contiguous, rng);
        check_reduce(count, op, {n, 37}, 1, t, Layout::Contiguous, rng);
      }
      for (Layout l : kInLayouts)
        for (unsigned mask = 0; mask < 8; ++mask)
          for (const Dims& s : {Dims{3, 4, 5}, Dims{2, 1, 17}, Dims{33, 2, 9}, Dims{1, 65, 3}, Dims{4, 0, 3}})
            check_reduce(count, op, s, mask, t, l, rng);
      check_reduce(count, op, {}, 0, t, Layout::Contiguous, rng);
    }
}

TEST_CASE("reduce: programs before and after, two inputs, wider compute type") {
  Count count("reduce with programs");
  Rng rng(12);
  for (DType t : {DType::F32, DType::F64, DType::BF16, DType::I64})
    for (unsigned mask = 0; mask < 4; ++mask)
      for (Layout l : kInLayouts)
        for (const Dims& s : {Dims{5, 17}, Dims{130, 3}, Dims{3, 1025}, Dims{1, 9}}) {
          DType c = is_float(t) ? DType::F64 : DType::I64;
          Pair a = make_pair_of(s, t, l, rng), b = make_pair_of(s, t, Layout::Contiguous, rng);
          Pair out = make_pair_of(kept_shape(s, mask), t, Layout::Contiguous, rng);
          drop_axes(out, s, mask);
          Program pre = unary(Opc::mul, c, 1), post = unary(Opc::abs, c);
          Views ra = one(a.ref), ca = one(a.cpu);
          ra.push_back(b.ref), ca.push_back(b.cpu);
          ref_backend().reduce(ReduceOp::Sum, c, &pre, ra, &post, out.ref);
          tested_backend().reduce(ReduceOp::Sum, c, &pre, ca, &post, out.cpu);
          CHECK_SAME(count, out, t == DType::F64 ? 64 : 1, is_float(t) ? 1e-11 : 0, "reduce pre/post ", t, s, " axes ",
                     mask);
        }
}

TEST_CASE("arg_reduce: every dtype, layout and axis") {
  Count count("arg_reduce");
  Rng rng(13);
  for (DType t : kAllDTypes)
    for (Layout l : kInLayouts)
      for (const Dims& s : {Dims{1}, Dims{9}, Dims{1025}, Dims{5, 17}, Dims{33, 3}, Dims{3, 4, 5}, Dims{0, 3}})
        for (int axis = 0; axis < s.size(); ++axis)
          for (bool largest : {true, false})
            if (s[axis] != 0) check_arg_reduce(count, largest, s, axis, t, l, rng);
}

TEST_CASE("scan: every op, dtype, layout and axis") {
  Count count("scan");
  Rng rng(14);
  for (ScanOp op : kScanOps)
    for (DType t : kAllDTypes) {
      if (op == ScanOp::LogSumExp && !is_float(t)) continue;
      for (Layout l : kInLayouts)
        for (const Dims& s :
             {Dims{1}, Dims{9}, Dims{1025}, Dims{5, 17}, Dims{33, 3}, Dims{19, 37}, Dims{3, 4, 5}, Dims{0, 3}})
          for (int axis = 0; axis < s.size(); ++axis) check_scan(count, op, s, axis, t, l, rng);
    }
}

// Lines that several blocks share, in each type that is computed in.
TEST_CASE("scan, arg_reduce and reduce: long lines") {
  Count count("long lines");
  Rng rng(19);
  const Layout plain = Layout::Contiguous;
  const Dims shape{1, 8200};
  auto check_largest = [&](DType from, DType t, const Program* pre) {
    Pair in = make_pair_of(shape, from, plain, rng), out = make_pair_of(kept_shape(shape, 2), t, plain, rng);
    drop_axes(out, shape, 2);
    ref_backend().reduce(ReduceOp::Max, t, pre, one(in.ref), nullptr, out.ref);
    tested_backend().reduce(ReduceOp::Max, t, pre, one(in.cpu), nullptr, out.cpu);
    CHECK_SAME(count, out, 0, 0, "largest of ", from, " in ", t, " steps ", pre ? pre->code.size() : 0);
  };
  for (DType t : {DType::I64, DType::F32, DType::F64}) {
    for (ScanOp op : kScanOps)
      if (op != ScanOp::LogSumExp || is_float(t)) check_scan(count, op, {1, 24600}, 1, t, plain, rng);
    for (bool largest : {true, false}) check_arg_reduce(count, largest, shape, 1, t, plain, rng);
    check_largest(t == DType::F64 ? DType::F32 : DType::I32, t, nullptr);
    Program negated = unary(Opc::neg, t);
    check_largest(t, t, &negated);
    for (int i = 1; i < 40; ++i) negated.code.push_back({Opc::neg, {negated.code_reg(i - 1), 0, 0}});
    negated.outs[0] = negated.code_reg(39);
    check_largest(t, t, &negated);  // more registers than a thread has for short programs
  }
}

TEST_CASE("nonzero and int_range: every layout") {
  Count count("nonzero, int_range");
  Rng rng(15);
  for (DType t : kAllDTypes)
    for (Layout l : kInLayouts)
      for (const Dims& s : {Dims{}, Dims{9}, Dims{1025}, Dims{5, 17}, Dims{3, 4, 5}, Dims{0, 3}, Dims{200, 300}}) {
        Pair in = make_pair_of(s, t, l, rng, Values::Special);
        std::vector<int64_t> a{-7}, b{-7};
        ref_backend().nonzero(in.ref, a);
        tested_backend().nonzero(in.cpu, b);
        CHECK_MESSAGE(a == b, "nonzero ", name(t), s);
        ++count.n;
        if (t != DType::I64) continue;
        CHECK(ref_backend().int_range(in.ref) == tested_backend().int_range(in.cpu));
        ++count.n;
      }
}

TEST_CASE("gemm: every dtype, layout and size, scaling") {
  Count count("gemm");
  Rng rng(16);
  const int64_t sizes[] = {0, 1, 2, 3, 7, 8, 9, 16, 17, 33, 65, 129};
  for (DType t : {DType::F32, DType::F64, DType::F16, DType::BF16, DType::I64, DType::I32, DType::U8})
    for (int trial = 0; trial < 250; ++trial) {
      auto pick = [&] { return sizes[rng() % std::size(sizes)]; };
      int64_t B = draw(rng, 0, 3), M = pick(), N = pick(), K = trial % 40 == 0 ? 1025 : pick();
      Pair a = make_pair_of({B, M, K}, t, kInLayouts[rng() % 6], rng),
           b = make_pair_of({B, K, N}, t, kInLayouts[rng() % 6], rng);
      Pair c = make_pair_of({B, M, N}, t, kOutLayouts[rng() % 5], rng, trial % 2 ? Values::Plain : Values::Special);
      double alpha = trial % 3 ? 1 : 2, beta = trial % 2 ? (trial % 4 == 1 ? 1 : -3) : 0;
      ref_backend().gemm(alpha, a.ref, b.ref, beta, c.ref);
      tested_backend().gemm(alpha, a.cpu, b.cpu, beta, c.cpu);
      // |a b| <= 9 per term: an error of one float step per addition, then the rounding of the result
      double eps = !is_float(t) ? 0 : t == DType::F64 ? 1e-16 : 6e-8;
      CHECK_SAME(count, c, is_float(t) ? 1 : 0, 9 * alpha * eps * double(K + 2) * std::sqrt(double(K + 1)), "gemm ", t,
                 " B", B, " M", M, " N", N, " K", K, " alpha ", alpha, " beta ", beta);
    }
}

TEST_CASE("the same bits for 1, 2, 3 and 4 threads" * doctest::skip(on_device())) {
  Count count("threads");
  Rng rng(17);
  struct Case {
    const char* name;
    Dims in, out;
    unsigned mask;
  };
  const int before = num_threads();
  for (DType t : {DType::F32, DType::F64, DType::BF16}) {
    for (const Case& k : {Case{"all", {300007}, {1}, 1}, Case{"rows", {257, 1300}, {257, 1}, 2},
                          Case{"columns", {1300, 257}, {1, 257}, 1}, Case{"wide columns", {300, 5003}, {1, 5003}, 1}}) {
      Pair in = make_pair_of(k.in, t, Layout::Contiguous, rng);
      std::vector<char> first;
      for (int n = 1; n <= 4; ++n) {
        set_num_threads(n);
        for (ReduceOp op : {ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max}) {
          Pair out = make_pair_of(k.out, t, Layout::Contiguous, rng);
          drop_axes(out, k.in, k.mask);
          cpu_backend().reduce(op, compute_type(t), nullptr, one(in.cpu), nullptr, out.cpu);
          size_t bytes = size_t(k.out[0] * (k.out.size() > 1 ? k.out[1] : 1) * itemsize(t));
          if (n == 1)
            first.insert(first.end(), out.cpu_bytes.begin(), out.cpu_bytes.begin() + int64_t(bytes));
          else {
            size_t at = bytes * size_t(op == ReduceOp::Sum ? 0 : op == ReduceOp::Prod ? 1 : 2);
            CHECK_MESSAGE(std::memcmp(first.data() + at, out.cpu_bytes.data(), bytes) == 0, k.name, " ", name(t),
                          " threads ", n);
            ++count.n;
          }
        }
      }
    }
    set_num_threads(before);
  }
}

TEST_CASE("the same bits for 1, 2, 3 and 4 threads: everything else" * doctest::skip(on_device())) {
  Count count("threads, other kernels");
  Rng rng(18);
  const int before = num_threads();
  // Runs f on the same starting bytes with each number of threads.
  auto same = [&](const char* what, DType t, Pair& out, auto f) {
    std::vector<char> start = out.cpu_bytes, first;
    for (int n = 1; n <= 4; ++n) {
      set_num_threads(n);
      std::copy(start.begin(), start.end(), out.cpu_bytes.begin());
      f(out.cpu);
      if (n == 1) first = out.cpu_bytes;
      CHECK_MESSAGE(first == out.cpu_bytes, what, " ", name(t), " threads ", n);
      ++count.n;
    }
    set_num_threads(before);
  };
  Backend& cpu = cpu_backend();
  const View none;
  for (DType t : {DType::F32, DType::F64, DType::BF16}) {
    Pair a = make_pair_of({1, 300, 257}, t, Layout::Contiguous, rng);
    Pair b = make_pair_of({1, 257, 310}, t, Layout::Transposed, rng);
    Pair c = make_pair_of({1, 300, 310}, t, Layout::Contiguous, rng);
    same("gemm", t, c, [&](View v) { cpu.gemm(1, a.cpu, b.cpu, 0.5, v); });
    const Dims shape{701, 431};
    Pair in = make_pair_of(shape, t, Layout::Sliced, rng), out = make_pair_of(shape, t, Layout::Contiguous, rng);
    Pair order = make_pair_of(shape, DType::I64, Layout::Contiguous, rng);
    Program p = unary(Opc::RandNormal, compute_type(t));
    p.code.push_back({Opc::add, {0, p.code_reg(0), 0}});
    p.outs[0] = p.code_reg(1);
    same("map", t, out, [&](View v) { cpu.map(p, one(in.cpu), one(v)); });
    for (int axis : {0, 1}) {
      same("scan", t, out, [&](View v) { cpu.scan(ScanOp::Sum, in.cpu, axis, v, none); });
      same("sort", t, out, [&](View v) { cpu.sort(in.cpu, axis, true, v, order.cpu); });
      Pair index = make_pair_of(shape, DType::I64, Layout::Contiguous, rng, Values::Positive);
      same("scatter", t, out, [&](View v) { cpu.scatter(ScatterOp::Add, in.cpu, axis, index.cpu, v); });
      same("gather", t, out, [&](View v) { cpu.gather(in.cpu, axis, index.cpu, v); });
    }
    Pair windows = make_pair_of({60, 2000, 3}, t, Layout::Contiguous, rng);
    Pair folded = make_pair_of({60, 2002}, t, Layout::Contiguous, rng);
    same("fold", t, folded, [&](View v) {
      v.shape = {60, 2000, 3};
      v.stride = {2002, 1, 1};
      cpu.fold(windows.cpu, v);
    });
  }
}
