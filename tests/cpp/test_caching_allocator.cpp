// The caching allocator over a device that is a few maps: which blocks follow one another, and when.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <set>

#include "core/caching_allocator.h"
#include "core/error.h"

using namespace tg;

namespace {

// Work of an order is a count: `queued` by tests, `done` up to some point. A mark is a point of one order.
class FakeDevice final : public CachingAllocator {
 public:
  FakeDevice() : CachingAllocator(Device(DeviceType::CUDA, 0)) {}
  ~FakeDevice() override {
    for (void* p : blocks) std::free(p);
  }
  void copy(void* dst, const void* src, size_t n) override { std::memcpy(dst, src, n); }

  uint64_t now = 0;  // the caller's order
  std::map<uint64_t, int> queued, done;
  std::set<void*> blocks;
  size_t room = 1 << 30, used = 0;
  bool keep = true;

 protected:
  void* raw_allocate(size_t bytes) override {
    if (used + bytes > room) return nullptr;
    void* p = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    blocks.insert(p);
    sizes_[p] = bytes;
    used += bytes;
    return p;
  }
  void raw_free(void* p, uint64_t) override {
    REQUIRE(blocks.erase(p) == 1);
    used -= sizes_[p];
    std::free(p);
  }
  uint64_t order() const override { return now; }
  bool caches() const override { return keep; }
  void* mark(uint64_t order) noexcept override { return new std::pair<uint64_t, int>(order, queued[order]); }
  bool reached(void* mark, bool wait) noexcept override {
    auto* m = static_cast<std::pair<uint64_t, int>*>(mark);
    if (wait) done[m->first] = std::max(done[m->first], m->second);
    if (done[m->first] < m->second) return false;
    delete m;
    return true;
  }

 private:
  std::map<void*, size_t> sizes_;
};

constexpr size_t kBytes = 5000;

void* made_in(FakeDevice& d, uint64_t order) {
  d.now = order;
  return d.allocate(kBytes);
}
void freed_in(FakeDevice& d, uint64_t order, void* p) {
  d.now = order;
  d.deallocate(p, kBytes);
}

}  // namespace

TEST_CASE("caching allocator: a block returns to the order it was made in, whoever frees it") {
  FakeDevice d;
  void* a = made_in(d, 1);
  freed_in(d, 2, a);
  void* b = made_in(d, 2);
  CHECK(b != a);
  void* c = made_in(d, 0);
  CHECK(c != a);
  CHECK(made_in(d, 1) == a);
  freed_in(d, 1, a);
  freed_in(d, 1, b);
  freed_in(d, 1, c);
  CHECK(made_in(d, 0) == c);
  freed_in(d, 0, c);
  CHECK(d.stats().live == 0);
  d.release_cached();
  CHECK(d.blocks.empty());
  CHECK(d.stats().cached == 0);
}

TEST_CASE("caching allocator: a block that another order uses waits for it") {
  for (bool keep : {true, false}) {
    FakeDevice d;
    d.keep = keep;
    void* a = made_in(d, 1);
    d.record_use(a, 2);
    d.record_use(a, 2);
    d.record_use(a, 1);  // its own order needs no waiting
    d.queued[2] = 5;
    freed_in(d, 1, a);
    d.queued[2] = 9;  // later work is not waited for
    CHECK(d.stats().live == 0);
    void* b = made_in(d, 1);
    CHECK(b != a);
    d.release_cached();
    CHECK(d.blocks.count(a) == 1);
    d.done[2] = 4;
    freed_in(d, 1, b);
    d.release_cached();
    CHECK(d.blocks.count(a) == 1);
    d.done[2] = 5;
    if (keep) {
      CHECK(made_in(d, 1) == a);
      freed_in(d, 1, a);
    }
    d.release_cached();
    CHECK(d.blocks.empty());
  }
}

TEST_CASE("caching allocator: what waits is waited for before an allocation fails") {
  FakeDevice d;
  d.room = 3 * 5120;
  void* blocks[2] = {made_in(d, 1), made_in(d, 1)};
  for (void* p : blocks) d.record_use(p, 2);
  d.queued[2] = 1;
  for (void* p : blocks) freed_in(d, 1, p);
  d.now = 3;
  void* large = d.allocate(2 * kBytes);
  CHECK(d.done[2] == 1);
  CHECK_THROWS_AS(d.allocate(4 * kBytes), OutOfMemoryError);
  d.deallocate(large, 2 * kBytes);
}

TEST_CASE("caching allocator: private orders keep their blocks until they end") {
  for (bool keep : {true, false}) {
    FakeDevice d;
    d.keep = keep;
    const uint64_t group = d.new_private(), other = d.new_private();
    void* a = made_in(d, group | 1);
    void* live = made_in(d, group | 1);
    void* shared = made_in(d, group | 1);
    void* others = made_in(d, other | 1);
    d.record_use(shared, group | 2);
    freed_in(d, 0, a);
    freed_in(d, 0, shared);
    freed_in(d, 0, others);
    d.release_cached();
    CHECK(d.blocks.size() == 4);
    CHECK(made_in(d, 1) != a);
    CHECK(made_in(d, group | 2) != a);
    void* again = made_in(d, group | 1);
    CHECK(again == a);  // never the one that another order of the group uses
    void* fresh = made_in(d, group | 1);
    CHECK(fresh != shared);
    freed_in(d, 0, again);
    freed_in(d, 0, fresh);
    d.end_private(group);
    CHECK(d.blocks.count(a) + d.blocks.count(shared) + d.blocks.count(fresh) == 0);
    CHECK(d.blocks.count(live) + d.blocks.count(others) == 2);
    freed_in(d, 0, live);
    CHECK(d.blocks.count(live) == 0);
    d.end_private(other);
    CHECK(d.blocks.count(others) == 0);
  }
}

TEST_CASE("caching allocator: random use never hands out a block that is in use") {
  std::mt19937 random(5);
  auto draw = [&](int n) { return int(random() % unsigned(n)); };
  FakeDevice d;
  struct Live {
    void* p;
    uint64_t home;
    std::map<uint64_t, int> users;  // work that must be done before the block serves again
  };
  std::vector<Live> live, gone;
  for (int step = 0; step < 20000; ++step) {
    uint64_t order = uint64_t(draw(3));
    ++d.queued[order];
    if (live.size() < 20 && draw(2)) {
      void* p = made_in(d, order);
      for (const Live& l : live) REQUIRE(l.p != p);
      for (auto it = gone.begin(); it != gone.end();) {
        if (it->p != p) {
          ++it;
          continue;
        }
        REQUIRE(it->home == order);
        for (auto& [user, until] : it->users) REQUIRE(d.done[user] >= until);
        it = gone.erase(it);
      }
      live.push_back({p, order, {}});
    } else if (!live.empty()) {
      Live& l = live[size_t(draw(int(live.size())))];
      if (draw(2)) {
        d.record_use(l.p, order);
        if (order != l.home) l.users[order] = 0;
      } else {
        for (auto& [user, until] : l.users) until = d.queued[user];
        freed_in(d, order, l.p);
        gone.push_back(l);
        l = live.back();
        live.pop_back();
      }
    }
    if (draw(3) == 0) d.done[order] = std::max(d.done[order], d.queued[order] - draw(5));
    if (draw(500) == 0) {
      d.release_cached();
      std::erase_if(gone, [&](const Live& l) { return !d.blocks.count(l.p); });
    }
  }
  for (auto& [order, n] : d.queued) d.done[order] = n;
  d.release_cached();
}

TEST_CASE("caching allocator: a block that repeated work uses is kept until that ends") {
  FakeDevice d;
  const uint64_t first = d.new_private(), second = d.new_private();
  void* p = made_in(d, 0);
  d.record_use(p, first);
  d.record_use(p, second);
  d.record_use(p, 3);
  d.queued[3] = 1;
  freed_in(d, 0, p);
  d.done[3] = 1;
  for (uint64_t group : {first, second}) {
    void* other = made_in(d, 0);
    CHECK(other != p);
    freed_in(d, 0, other);
    d.release_cached();
    CHECK(d.blocks.count(p) == 1);
    d.end_private(group);
  }
  d.release_cached();
  CHECK(d.blocks.empty());
}

TEST_CASE("caching allocator: the limit bounds what is taken from the device") {
  FakeDevice d;
  std::vector<void*> small;
  for (int i = 0; i < 8; ++i) small.push_back(d.allocate(1 << 20));
  for (void* p : small) d.deallocate(p, 1 << 20);
  const int64_t kept = d.device_stats().reserved;
  CHECK(kept == d.stats().cached);
  CHECK(int64_t(d.used) == kept);
  d.set_limit(12 << 20);
  void* p = d.allocate(10 << 20);  // does not fit beside what is kept, which is given back
  CHECK(d.used <= size_t(12 << 20));
  CHECK(d.device_stats().retries == 1);
  CHECK_THROWS_AS(d.allocate(4 << 20), OutOfMemoryError);
  CHECK(d.device_stats().refusals == 1);
  const DeviceMemoryStats now = d.device_stats();
  CHECK(now.reserved == int64_t(d.used));
  CHECK(now.reserved_peak >= now.reserved);
  CHECK(now.reserved_peak <= 12 << 20);
  CHECK(now.active == d.stats().live);
  CHECK(now.allocated == now.active + kept);
  d.record_use(p, 3);
  d.queued[3] = 1;
  d.deallocate(p, 10 << 20);
  CHECK(d.stats().live == 0);
  CHECK(d.device_stats().active == now.active);  // work of another order may use it
  d.done[3] = 1;
  d.release_cached();
  CHECK(d.device_stats().active == 0);
  CHECK(d.device_stats().reserved == 0);
  CHECK(d.device_stats().active_peak == now.active_peak);
  d.reset_peak();
  CHECK(d.device_stats().active_peak == 0);
  CHECK(d.device_stats().reserved_peak == 0);
}
