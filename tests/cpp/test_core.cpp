#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <thread>

#include "core/op.h"
#include "core/pool.h"
#include "core/tensor.h"
#include "core/vendor.h"

using namespace tg;

TEST_CASE("dtypes promote as PyTorch's do") {
  CHECK(promote(DType::U8, DType::I8) == DType::I16);
  CHECK(promote(DType::I8, DType::U8) == DType::I16);
  CHECK(promote(DType::Bool, DType::U8) == DType::U8);
  CHECK(promote(DType::F16, DType::BF16) == DType::F32);
  CHECK(promote(DType::I64, DType::F16) == DType::F16);
  CHECK(promote(DType::U8, DType::I64) == DType::I64);
  CHECK(promote(DType::F32, DType::F64) == DType::F64);
}

TEST_CASE("half types: every bit pattern survives, rounding is to nearest even") {
  for (uint32_t b = 0; b < 65536; ++b) {
    float h = from_half(Half{uint16_t(b)}), f = from_bf16(BFloat16{uint16_t(b)});
    if (!std::isnan(h))
      CHECK(to_half(h).bits == b);
    else
      CHECK(std::isnan(from_half(to_half(h))));
    if (!std::isnan(f))
      CHECK(to_bf16(f).bits == b);
    else
      CHECK(std::isnan(from_bf16(to_bf16(f))));
  }
  // between each pair of neighbours: the middle goes to the even one, a hair beside it to the nearer one
  for (uint32_t b = 0; b < 0x7bff; ++b) {
    double lo = from_half(Half{uint16_t(b)}), hi = from_half(Half{uint16_t(b + 1)});
    float mid = float((lo + hi) / 2);
    CHECK(to_half(mid).bits == (b % 2 ? b + 1 : b));
    CHECK(to_half(std::nextafter(mid, 1e30f)).bits == b + 1);
    CHECK(to_half(std::nextafter(mid, -1.0f)).bits == b);
  }
  CHECK(to_half(65519.0f).bits == 0x7bff);
  CHECK(to_half(65520.0f).bits == 0x7c00);
  CHECK(std::isinf(from_half(to_half(1e10f))));
  CHECK(to_bf16(3.4e38f).bits == 0x7f80);
}

TEST_CASE("shapes: wrapping, broadcasting, overflow") {
  CHECK(wrap_dim("t", -1, 3) == 2);
  CHECK(wrap_dim("t", 0, 0) == 0);
  CHECK_THROWS_AS(wrap_dim("t", 3, 3), IndexError);
  CHECK_THROWS_AS(wrap_dims("t", {0, -3}, 3), ValueError);
  CHECK(broadcast_shapes("t", {3, 1}, {4}) == Dims{3, 4});
  CHECK_THROWS_WITH_AS(broadcast_shapes("add", {3, 2}, {4}), doctest::Contains("dimension 1: 2 vs 4"), ShapeError);
  CHECK(numel_of({int64_t(1) << 40, int64_t(1) << 40, 0}) == 0);
  CHECK_THROWS_AS(numel_of({int64_t(1) << 40, int64_t(1) << 40}), ShapeError);
  CHECK_THROWS_AS(numel_of({2, -1}), ShapeError);
  CHECK_THROWS_AS(empty_tensor({int64_t(1) << 62}, DType::F32), OutOfMemoryError);
  CHECK_THROWS_AS(empty_tensor(std::vector<int64_t>(13, 1), DType::F32), ShapeError);
}

TEST_CASE("allocator: statistics, limit, injected failure") {
  Allocator& a = allocator(Device{});
  MemoryStats before = a.stats();
  {
    Tensor t = empty_tensor({1000}, DType::F32);
    CHECK(a.stats().live >= before.live + 4000);
    CHECK(reinterpret_cast<uintptr_t>(t.data()) % 64 == 0);
  }
  CHECK(a.stats().live == before.live);
  a.set_limit(before.live + 1000);
  CHECK_THROWS_AS(empty_tensor({100000}, DType::F32), OutOfMemoryError);
  a.set_limit(0);
  a.fail_at(2);
  CHECK_NOTHROW(empty_tensor({10}, DType::F32));
  CHECK_THROWS_AS(empty_tensor({10}, DType::F32), OutOfMemoryError);
  CHECK_NOTHROW(empty_tensor({10}, DType::F32));
  CHECK(a.stats().live == before.live);
  for (size_t n : {1, 63, 64, 65, 80, 81, 96, 112, 128, 129, 4097, 1000003}) {
    void* p = a.allocate(n);
    std::memset(p, 1, n);
    a.deallocate(p, n);
  }
  CHECK(a.stats().live == before.live);
}

TEST_CASE("allocator: blocks and tensors go from thread to thread, statistics stay exact") {
  Allocator& a = allocator(Device{});
  const MemoryStats before = a.stats();
  std::vector<Tensor> kept;
  for (int round = 0; round < 3; ++round) {
    std::thread([&] {
      for (int64_t n = 1; n < 3000; n *= 3)
        for (int k = 0; k < 20; ++k) kept.push_back(empty_tensor({n}, DType::F32));
      kept.erase(kept.begin(), kept.begin() + 10);
    }).join();
    CHECK(a.stats().live > before.live);
    kept.erase(kept.begin() + 5, kept.end());  // made by a thread that has ended
    std::thread([&] { kept.clear(); }).join();
    CHECK(a.stats().live == before.live);
    CHECK(a.stats().allocations == before.allocations + (round + 1) * 160);
  }
  a.release_cached();
  CHECK(a.stats().cached == 0);

  // A thread returns what it keeps when it next asks for memory.
  std::atomic<int> stage{0};
  auto wait_for = [&](int s) {
    while (stage < s) std::this_thread::yield();
  };
  std::thread other([&] {
    empty_tensor({10}, DType::F32);
    stage = 1;
    wait_for(2);
    void* p = a.allocate(1 << 20);
    stage = 3;
    wait_for(4);
    a.deallocate(p, 1 << 20);
  });
  wait_for(1);
  CHECK(a.stats().cached > 0);
  a.release_cached();
  stage = 2;
  wait_for(3);
  CHECK(a.stats().cached == 0);
  stage = 4;
  other.join();
}

TEST_CASE("allocator: threads at once") {
  Allocator& a = allocator(Device{});
  const int64_t live = a.stats().live;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      std::vector<Tensor> mine;
      for (int64_t i = 0; i < 2000; ++i) {
        mine.push_back(empty_tensor({1 + (i * 37 + t) % 5000}, DType::F32));
        if (mine.size() > 50) mine.erase(mine.begin(), mine.begin() + 40);
        if (i % 500 == 0) a.release_cached();
        if (i % 100 == 0) (void)a.stats();
      }
    });
  for (std::thread& t : threads) t.join();
  CHECK(a.stats().live == live);
}

TEST_CASE("philox: known answers") {
  // Random123's kat_vectors, philox4x32-10
  CHECK(philox(0, 0, 0) == std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox(~0ull, ~0ull, ~0ull) == std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
}

TEST_CASE("pool: every index once, exceptions surface, nested loops run") {
  for (int threads : {1, 2, 3, 4}) {
    set_num_threads(threads);
    std::vector<int> seen(10001, 0);
    parallel_for(10001, 100, [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) ++seen[size_t(i)];
    });
    CHECK(std::count(seen.begin(), seen.end(), 1) == 10001);
    CHECK_THROWS_AS(parallel_for(1000, 10,
                                 [](int64_t b, int64_t) {
                                   if (b == 500) fail<ValueError>("boom");
                                 }),
                    ValueError);
    std::atomic<int> inner{0};
    parallel_for(8, 1,
                 [&](int64_t, int64_t) { parallel_for(100, 10, [&](int64_t b, int64_t e) { inner += int(e - b); }); });
    CHECK(inner == 800);
  }
  std::vector<std::thread> users;
  std::atomic<int64_t> total{0};
  for (int t = 0; t < 8; ++t)
    users.emplace_back([&] {
      for (int r = 0; r < 50; ++r) parallel_for(1000, 10, [&](int64_t b, int64_t e) { total += e - b; });
    });
  for (auto& u : users) u.join();
  CHECK(total == 8 * 50 * 1000);
  set_num_threads(2);
}

TEST_CASE("op table: schemas are complete") {
  int checked = 0;
  for (const OpDef* op : all_ops()) {
    CAPTURE(op->name);
    CHECK(op->spec.doc[0] != '\0');
    bool runs = op->spec.composite || op->spec.primitive || op->inplace_of;
    CHECK(runs);
    bool takes_tensor = false;
    for (const Param& p : op->params)
      takes_tensor |= p.type == Param::Type::Tensor || p.type == Param::Type::Operand || p.type == Param::Type::Tensors;
    bool has_gradient = op->shortcut || op->spec.joint.fn != nullptr;
    for (const Grad& g : op->spec.grads) has_gradient |= g.fn != nullptr;
    if (op->differentiable && takes_tensor) CHECK(has_gradient);
    ++checked;
  }
  MESSAGE("ops in the table: ", checked);
  CHECK_THROWS_AS(find_op("no_such_op"), NotImplementedError);
}

namespace {

std::atomic<int> makers = 0, let_go = 0;
int make_slowly() {
  const int mine = makers++;
  while (mine == 0 && !let_go) std::this_thread::yield();
  return mine;
}

}  // namespace

TEST_CASE("what is opened once is opened without a lock") {
  std::thread first([] { CHECK(opened_once<make_slowly>() == 1); });
  while (!makers) std::this_thread::yield();
  CHECK(opened_once<make_slowly>() == 1);  // would wait for ever if the first thread held a lock
  let_go = 1;
  first.join();
  CHECK(opened_once<make_slowly>() == 1);
  CHECK(makers == 2);
}
