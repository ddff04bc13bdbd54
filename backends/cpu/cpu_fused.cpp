// Fused kernels over rows: finds what memory each row reads and writes; half types go through float32 rows.
#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/loops.h"
#include "backends/cpu/nd.h"

namespace tg::cpu {
namespace {

constexpr int kMax = 5;
constexpr int64_t kSumRows = 128;  // rows whose sums are taken in float before they are added up in double

struct Rows {
  FusedRow kernel;
  const Loops& l;
  const Views &ins, &outs;
  int64_t n;
  double arg;

  static bool usable(const View& v, int64_t rows, int64_t n) {
    if (!v.data) return true;
    const bool float32 = v.dtype == DType::F32 || is_half(v.dtype);
    const bool one_value = v.stride[1] == 0;
    return float32 && v.shape[0] == rows && v.shape[1] == n && (v.stride[1] == 1 || one_value || n == 1);
  }
  // Floats a row of a half type needs to be converted to.
  static int64_t buffer_of(const View& v) { return v.data && v.dtype != DType::F32 ? v.shape[1] : 0; }

  char* at(const View& v, int64_t row) const {
    return static_cast<char*>(v.data) + row * v.stride[0] * itemsize(v.dtype);
  }
  int64_t count(const View& v) const { return v.stride[1] == 0 ? 1 : n; }

  // Runs rows [b, e); `sums` (may be null) stands in for the outputs.
  void run(int64_t b, int64_t e, float* buffer, float* sums) const {
    const float* in[kMax] = {};
    float* out[kMax] = {};
    for (int64_t row = b; row < e; ++row) {
      float* free = buffer;
      for (int i = 0; i < ins.size(); ++i) {
        const View& v = ins[i];
        in[i] = v.data ? reinterpret_cast<const float*>(at(v, row)) : nullptr;
        if (!buffer_of(v)) continue;
        l.load[int(v.dtype)][0](at(v, row), 1, free, count(v));
        in[i] = free, free += n;
      }
      for (int i = 0; i < outs.size(); ++i) {
        const View& v = outs[i];
        if (!v.data) continue;
        out[i] = sums ? sums + i * n : buffer_of(v) ? free : reinterpret_cast<float*>(at(v, row));
        if (buffer_of(v)) free += n;
      }
      kernel(in, out, n, arg);
      if (sums) continue;
      for (int i = 0; i < outs.size(); ++i)
        if (buffer_of(outs[i])) l.store[0][int(outs[i].dtype)](out[i], at(outs[i], row), 1, count(outs[i]));
    }
  }
};

// Outputs that are sums over all rows: partial sums of kSumRows rows each, added up in order.
void run_sums(const Rows& r, int64_t rows, int64_t buffer_bytes) {
  const int64_t chunks = (rows + kSumRows - 1) / kSumRows, width = r.outs.size() * r.n;
  Temp partial(chunks * width * 4);
  parallel_for(chunks, std::max<int64_t>(1, grain_of(rows * r.n) / (kSumRows * r.n)), [&](int64_t b, int64_t e) {
    Temp buffer(buffer_bytes);
    for (int64_t c = b; c < e; ++c) {
      float* sums = partial.as<float>() + c * width;
      std::fill_n(sums, width, 0.0f);
      r.run(c * kSumRows, std::min(rows, (c + 1) * kSumRows), buffer.as<float>(), sums);
    }
  });
  for (int i = 0; i < r.outs.size(); ++i)
    for (int64_t j = 0; r.outs[i].data && j < r.n; ++j) {
      double total = 0;
      for (int64_t c = 0; c < chunks; ++c) total += partial.as<float>()[c * width + i * r.n + j];
      const float value = float(total);
      const View& v = r.outs[i];
      r.l.store[0][int(v.dtype)](&value, static_cast<char*>(v.data) + j * itemsize(v.dtype), 1, 1);
    }
}

}  // namespace

bool CpuBackend::fused(Fused kernel, const Views& ins, const Views& outs, double arg) {
  const int64_t rows = outs[0].shape[0], n = outs[0].shape[1];
  int64_t buffer = 0;
  for (const Views* vs : {&ins, &outs})
    for (const View& v : *vs) {
      if (!Rows::usable(v, rows, n)) return false;
      buffer += Rows::buffer_of(v);
    }
  if (rows == 0 || n == 0) return false;
  const Rows r{loops().fused[int(kernel)], loops(), ins, outs, n, arg};
  if (kernel == Fused::NormWeights) return run_sums(r, rows, buffer * 4), true;
  parallel_for(rows, std::max<int64_t>(1, grain_of(rows * n) / n), [&](int64_t b, int64_t e) {
    Temp floats(buffer * 4);
    r.run(b, e, floats.as<float>(), nullptr);
  });
  return true;
}

}  // namespace tg::cpu
