// What the CUDA tests share: a backend for views of host memory that runs another one on copies of them in device
// memory, so that the conformance tests can treat a device like the CPU.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <random>
#include <vector>

#include "backends/attention.h"
#include "backends/cuda.h"

namespace tg::test {

// Device memory for one call: each distinct block of host memory that views touch, copied there and back.
class OnDevice {
 public:
  explicit OnDevice(Device d) : memory_(allocator(d)) {}
  ~OnDevice() {
    for (Block& b : blocks_) memory_.deallocate(b.whole, b.shift() + b.bytes());
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  // First all views are named, then place() copies, then at() gives each view's twin.
  void add(const View& v) {
    if (!v.data) return;
    int64_t lo = 0, hi = 0;
    for (int d = 0; d < v.ndim(); ++d)
      if (v.shape[d] == 0 && v.stride[d] != 0) return;  // axes with stride 0 may be those that a reduction drops
    for (int d = 0; d < v.ndim(); ++d) (v.stride[d] < 0 ? lo : hi) += (v.shape[d] - 1) * v.stride[d];
    char* p = static_cast<char*>(v.data);
    Block b{p + lo * itemsize(v.dtype), p + (hi + 1) * itemsize(v.dtype), nullptr, nullptr};
    for (size_t i = 0; i < blocks_.size();) {
      if (blocks_[i].end <= b.start || b.end <= blocks_[i].start) {
        ++i;
        continue;
      }
      b.start = std::min(b.start, blocks_[i].start);
      b.end = std::max(b.end, blocks_[i].end);
      blocks_.erase(blocks_.begin() + std::ptrdiff_t(i));
      i = 0;
    }
    blocks_.push_back(b);
  }
  void add(const Views& v) {
    for (auto& x : v) add(x);
  }
  void place() {
    for (Block& b : blocks_) {
      b.whole = static_cast<char*>(memory_.allocate(b.shift() + b.bytes()));
      b.device = b.whole + b.shift();
      memory_.copy(b.device, b.start, b.bytes());
    }
  }
  View at(View v) const {
    if (!v.data) return v;
    char* p = static_cast<char*>(v.data);
    for (const Block& b : blocks_)
      if (p >= b.start && p < b.end) {
        v.data = b.device + (p - b.start);
        return v;
      }
    return v;  // empty: never read
  }
  Views at(const Views& v) const {
    Views r;
    for (auto& x : v) r.push_back(at(x));
    return r;
  }
  void fetch() {
    for (Block& b : blocks_) memory_.copy(b.start, b.device, b.bytes());
  }

 private:
  struct Block {
    char *start, *end, *device, *whole;
    size_t bytes() const { return size_t(end - start); }
    size_t shift() const { return reinterpret_cast<uintptr_t>(start) % 16; }  // what is not aligned stays so
  };
  Allocator& memory_;
  std::vector<Block> blocks_;
};

// Whether threads are looked at for races, which makes each of their steps cost 20 times as much or more: sizes that
// repeat what smaller ones have shown are left out.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool kRaceChecker = true;
#else
inline constexpr bool kRaceChecker = false;
#endif

// TG_TEST_SHARE=n, for checkers that take minutes: one call in n, drawn, goes to the device, others with each order of
// threads. The loops of ref serve the rest.
inline uint32_t number_of(const char* setting) {
  const char* v = std::getenv(setting);
  return v ? uint32_t(std::atoi(v)) : 0u;
}
inline uint32_t share() {
  static const uint32_t n = std::max(1u, number_of("TG_TEST_SHARE"));
  return n;
}
inline bool drawn() {
  static std::mt19937 draws(number_of("TG_EMU_SEED"));
  return share() == 1 || draws() % share() == 0;
}

class DeviceTwin final : public Backend, public AttentionKernels {
 public:
  explicit DeviceTwin(Device d) : device_(d), b_(backend(d)) {}
  const char* name() const override { return b_.name(); }
  void map(const Program& p, const Views& ins, const Views& outs) override {
    run(ins, outs, [&](Backend& be, const Views& i, const Views& o) { be.map(p, i, o); });
  }
  void reduce(ReduceOp op, DType compute, const Program* pre, const Views& ins, const Program* post,
              const View& out) override {
    run(ins, list(out),
        [&](Backend& be, const Views& i, const Views& o) { be.reduce(op, compute, pre, i, post, o[0]); });
  }
  void arg_reduce(bool largest, const View& in, int axis, const View& values, const View& index) override {
    run(list(in), list(values, index),
        [&](Backend& be, const Views& i, const Views& o) { be.arg_reduce(largest, i[0], axis, o[0], o[1]); });
  }
  void scan(ScanOp op, const View& in, int axis, const View& out, const View& index) override {
    run(list(in), list(out, index),
        [&](Backend& be, const Views& i, const Views& o) { be.scan(op, i[0], axis, o[0], o[1]); });
  }
  void nonzero(const View& in, std::vector<int64_t>& out) override {
    run(list(in), {}, [&](Backend& be, const Views& i, const Views&) { be.nonzero(i[0], out); });
  }
  void gemm(double alpha, const View& a, const View& b, double beta, const View& c) override {
    run(list(a, b), list(c),
        [&](Backend& be, const Views& i, const Views& o) { be.gemm(alpha, i[0], i[1], beta, o[0]); });
  }
  bool gemm_bias(const View& a, const View& b, const View& bias, const View& c) override {
    return taken(list(a, b, bias), list(c),
                 [](Backend& be, const Views& i, const Views& o) { return be.gemm_bias(i[0], i[1], i[2], o[0]); });
  }
  bool gemm_gelu(const View& a, const View& b, const View& bias, const View& c, const View& before) override {
    return taken(list(a, b, bias), list(c, before), [](Backend& be, const Views& i, const Views& o) {
      return be.gemm_gelu(i[0], i[1], i[2], o[0], o[1]);
    });
  }
  void gather(const View& in, int axis, const View& index, const View& out) override {
    run(list(in, index), list(out),
        [&](Backend& be, const Views& i, const Views& o) { be.gather(i[0], axis, i[1], o[0]); });
  }
  void scatter(ScatterOp op, const View& src, int axis, const View& index, const View& out) override {
    run(list(src, index), list(out),
        [&](Backend& be, const Views& i, const Views& o) { be.scatter(op, i[0], axis, i[1], o[0]); });
  }
  std::pair<int64_t, int64_t> int_range(const View& index) override {
    std::pair<int64_t, int64_t> r;
    run(list(index), {}, [&](Backend& be, const Views& i, const Views&) { r = be.int_range(i[0]); });
    return r;
  }
  void sort(const View& in, int axis, bool descending, const View& values, const View& index) override {
    run(list(in), list(values, index),
        [&](Backend& be, const Views& i, const Views& o) { be.sort(i[0], axis, descending, o[0], o[1]); });
  }
  void fold(const View& in, const View& out) override {
    run(list(in), list(out), [&](Backend& be, const Views& i, const Views& o) { be.fold(i[0], o[0]); });
  }
  bool fused(Fused f, const Views& ins, const Views& outs, double arg) override {
    bool done = false;
    there(ins, outs, [&](Backend& be, const Views& i, const Views& o) { done = be.fused(f, i, o, arg); });
    return done;
  }
  bool attends_halves() const override { return kernels().attends_halves(); }
  bool attention(const View& q, const View& k, const View& v, const AttentionOptions& o, const View& out) override {
    bool done = false;
    there(list(q, k, v, o.mask), list(out), [&](Backend&, const Views& i, const Views& r) {
      done = kernels().attention(i[0], i[1], i[2], masked(o, i[3]), r[0]);
    });
    return done;
  }
  bool attention_grad(const View& q, const View& k, const View& v, const View& g, const AttentionOptions& o,
                      const View& dq, const View& dk, const View& dv, const View& dmask) override {
    bool done = false;
    there(list(q, k, v, g, o.mask), list(dq, dk, dv, dmask), [&](Backend&, const Views& i, const Views& r) {
      done = kernels().attention_grad(i[0], i[1], i[2], i[3], masked(o, i[4]), r[0], r[1], r[2], r[3]);
    });
    return done;
  }
  void copy_bytes(void* dst, const void* src, size_t n) override { b_.copy_bytes(dst, src, n); }
  void synchronize() override { b_.synchronize(); }

 private:
  AttentionKernels& kernels() const { return dynamic_cast<AttentionKernels&>(b_); }
  static AttentionOptions masked(AttentionOptions o, const View& mask) {
    o.mask = mask;
    return o;
  }
  static Views list(const auto&... views) {
    Views v;
    (v.push_back(views), ...);
    return v;
  }
  template <class F>
  void run(const Views& ins, const Views& outs, F f) {
    drawn() ? there(ins, outs, f) : f(ref_backend(), ins, outs);
  }
  // For what a backend need not have: its answer, which is that of ref where the call is not drawn.
  template <class F>
  bool taken(const Views& ins, const Views& outs, F f) {
    bool done = false;
    run(ins, outs, [&](Backend& be, const Views& i, const Views& o) { done = f(be, i, o); });
    return done;
  }
  template <class F>
  void there(const Views& ins, const Views& outs, F f) {
    OnDevice m(device_);
    m.add(ins);
    m.add(outs);
    m.place();
    f(b_, m.at(ins), m.at(outs));
    m.fetch();
  }

  Device device_;
  Backend& b_;
};

// True if the conformance tests are to run on a CUDA device: TG_TEST_BACKEND=cuda.
inline bool on_device() {
  static const bool yes = [] {
    const char* v = std::getenv("TG_TEST_BACKEND");
    return v && std::string_view(v) == "cuda";
  }();
  return yes;
}
// The backend that stands against ref.
inline Backend& tested_backend() {
  if (!on_device()) return cpu_backend();
  static auto* b = new DeviceTwin(Device("cuda"));
  return *b;
}

}  // namespace tg::test
