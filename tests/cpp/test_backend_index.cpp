// Conformance of gather, scatter, sort and fold.
#include <doctest/doctest.h>

#include "tests/cpp/backend_util.h"

using namespace tg;
using namespace tg::test;

namespace {

// Indices in [0, n).
Pair make_index(const Dims& shape, int64_t n, Rng& rng) {
  Pair p = make_pair_of(shape, DType::I64, kInLayouts[rng() % 6], rng);
  auto* a = reinterpret_cast<int64_t*>(p.ref_bytes.data());
  auto* b = reinterpret_cast<int64_t*>(p.cpu_bytes.data());
  for (int64_t i = 0; i < p.elements(); ++i) a[i] = b[i] = n > 0 ? draw(rng, 0, n - 1) : 0;
  return p;
}

const Dims kShapes[] = {{1}, {9}, {1025}, {5, 17}, {33, 3}, {3, 4, 5}, {0, 3}, {65, 40}};

}  // namespace

TEST_CASE("gather: every dtype, layout and axis") {
  Count count("gather");
  Rng rng(21);
  for (DType t : kAllDTypes)
    for (Layout l : kInLayouts)
      for (const Dims& s : kShapes)
        for (int axis = 0; axis < s.size(); ++axis) {
          Pair in = make_pair_of(s, t, l, rng, Values::Special);
          Dims os = s;
          os[axis] = s[axis] == 0 ? 0 : draw(rng, 0, 2 * s[axis]);
          Pair index = make_index(os, s[axis], rng), out = make_pair_of(os, t, kOutLayouts[rng() % 5], rng);
          ref_backend().gather(in.ref, axis, index.ref, out.ref);
          tested_backend().gather(in.cpu, axis, index.cpu, out.cpu);
          CHECK_SAME(count, out, 0, 0, "gather ", t, s, " axis ", axis, " layout ", int(l));
        }
}

TEST_CASE("scatter: across an axis of an output that no cache holds" * doctest::skip(on_device())) {
  Count count("scatter in blocks of columns");
  Rng rng(23);
  // 600 rows of 1600 bytes are more than a block of columns may take, of 800 bytes less
  for (DType t : {DType::F32, DType::F16, DType::F64})
    for (int64_t columns : {401, 201})
      for (ScatterOp op : {ScatterOp::Set, ScatterOp::Add, ScatterOp::Max}) {
        Pair src = make_pair_of({450, columns - 1}, t, Layout::Contiguous, rng, Values::Special);
        Pair index = make_pair_of({450, columns - 1}, DType::I64, Layout::Contiguous, rng);
        for (int64_t i = 0; i < index.elements(); ++i) {
          const double row = double(draw(rng, 0, 599));
          put(index.ref, i, row);
          put(index.cpu, i, row);
        }
        Pair out = make_pair_of({600, columns}, t, Layout::Contiguous, rng);
        out.ref.shape[1] = out.cpu.shape[1] = columns - 1;
        ref_backend().scatter(op, src.ref, 0, index.ref, out.ref);
        cpu_backend().scatter(op, src.cpu, 0, index.cpu, out.cpu);
        CHECK_SAME(count, out, 0, 0, "scatter ", int(op), " ", t, " ", columns);
      }
}

TEST_CASE("scatter: every mode, dtype, layout and axis") {
  Count count("scatter");
  Rng rng(22);
  for (ScatterOp op : {ScatterOp::Set, ScatterOp::Add, ScatterOp::Prod, ScatterOp::Max, ScatterOp::Min})
    for (DType t : kAllDTypes)
      for (Layout l : kInLayouts)
        for (const Dims& s : kShapes)
          for (int axis = 0; axis < s.size(); ++axis) {
            Dims ss = s;
            ss[axis] = s[axis] == 0 ? 0 : draw(rng, 0, 3 * s[axis]);
            Pair src = make_pair_of(ss, t, l, rng, op == ScatterOp::Prod ? Values::NearOne : Values::Plain);
            Pair index = make_index(ss, s[axis], rng), out = make_pair_of(s, t, kOutLayouts[rng() % 5], rng);
            ref_backend().scatter(op, src.ref, axis, index.ref, out.ref);
            tested_backend().scatter(op, src.cpu, axis, index.cpu, out.cpu);
            CHECK_SAME(count, out, 0, 0, "scatter ", int(op), " ", t, s, " axis ", axis, " layout ", int(l));
          }
}

// A device sorts each line by blocks of its own, through 45 barriers however short it is: for a race checker few lines,
// of less than a block and of several.
const std::vector<Dims> kSortShapes = kRaceChecker
                                          ? std::vector<Dims>{{1}, {9}, {1025}, {2, 17}, {3, 3}, {2, 3, 2}, {0, 3}}
                                          : std::vector<Dims>(std::begin(kShapes), std::end(kShapes));

TEST_CASE("sort: every dtype, layout and axis, both orders") {
  Count count("sort");
  Rng rng(23);
  for (DType t : kAllDTypes)
    for (Layout l : kInLayouts)
      for (const Dims& s : kSortShapes)
        for (int axis = 0; axis < s.size(); ++axis)
          for (bool descending : {false, true}) {
            Pair in = make_pair_of(s, t, l, rng, Values::Special);
            Pair v = make_pair_of(s, t, kOutLayouts[rng() % 5], rng),
                 i = make_pair_of(s, DType::I64, kOutLayouts[rng() % 5], rng);
            View rv = v.ref, cv = v.cpu;
            if (rng() % 3 == 0) rv.data = cv.data = nullptr;
            ref_backend().sort(in.ref, axis, descending, rv, i.ref);
            tested_backend().sort(in.cpu, axis, descending, cv, i.cpu);
            CHECK_SAME(count, v, 0, 0, "sort values ", t, s, " axis ", axis, " descending ", descending);
            CHECK_SAME(count, i, 0, 0, "sort index ", t, s, " axis ", axis, " descending ", descending);
          }
}

TEST_CASE("fold: windows of every size and step") {
  Count count("fold");
  Rng rng(24);
  for (DType t : {DType::F32, DType::F64, DType::F16, DType::BF16, DType::I64})
    for (int64_t kernel : {1, 2, 3, 5})
      for (int64_t step : {1, 2, 3})
        for (int64_t dilation : {1, 2})
          for (int64_t windows : {1, 2, 9, 65}) {
            int64_t width = (windows - 1) * step + (kernel - 1) * dilation + 1;
            Pair in = make_pair_of({4, windows, kernel}, t, kInLayouts[rng() % 6], rng);
            Pair out = make_pair_of({4, width}, t, kOutLayouts[rng() % 5], rng);
            for (View* v : {&out.ref, &out.cpu}) {
              int64_t s = v->stride[1];
              v->shape = {4, windows, kernel};
              v->stride = {v->stride[0], s * step, s * dilation};
            }
            ref_backend().fold(in.ref, out.ref);
            tested_backend().fold(in.cpu, out.cpu);
            CHECK_SAME(count, out, 0, 0, "fold ", t, " kernel ", kernel, " step ", step, " windows ", windows);
          }
}

TEST_CASE("backend: selection and errors" * doctest::skip(on_device())) {
  CHECK(std::string(backend(Device()).name()) == "cpu");
  use_ref_backend(true);
  CHECK(using_ref_backend());
  CHECK(std::string(backend(Device()).name()) == "ref");
  use_ref_backend(false);
  CHECK_THROWS_AS(backend(Device("cuda:0")), DeviceError);
}
