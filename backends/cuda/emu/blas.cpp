// cuBLAS of the emulation: plain loops in stream order, with the interface and the layout rules of the library.
#include "backends/cuda/emu/blas.h"

#include <bit>

#include "backends/cuda/emu/emu.h"
#include "core/convert.h"

namespace tg::cuda {
namespace {

double load(const void* p, BlasType t, int64_t i) {
  switch (t) {
    case kBlasF32:
      return static_cast<const float*>(p)[i];
    case kBlasF64:
      return static_cast<const double*>(p)[i];
    case kBlasF16:
      return convert<float>(static_cast<const Half*>(p)[i]);
    default:
      return convert<float>(static_cast<const BFloat16*>(p)[i]);
  }
}
void store(void* p, BlasType t, int64_t i, double x) {
  switch (t) {
    case kBlasF32:
      static_cast<float*>(p)[i] = float(x);
      return;
    case kBlasF64:
      static_cast<double*>(p)[i] = x;
      return;
    case kBlasF16:
      static_cast<Half*>(p)[i] = convert<Half>(float(x));
      return;
    default:
      static_cast<BFloat16*>(p)[i] = convert<BFloat16>(float(x));
  }
}

struct Handle {
  cudaStream_t stream = nullptr;
};

// float32 with the 10 bits of fraction that tensor cores take.
double to_tf32(double x) {
  const auto bits = std::bit_cast<uint32_t>(float(x));
  return std::bit_cast<float>((bits & 0x7f800000) == 0x7f800000 ? bits : (bits + 0x1000) & ~0x1fffu);
}

double gelu(double x) { return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))); }

BlasStatus gemm(BlasHandle h, BlasOperation ta, BlasOperation tb, int64_t m, int64_t n, int64_t k, const void* alpha,
                const void* a, BlasType at, int64_t lda, long long stride_a, const void* b, BlasType, int64_t ldb,
                long long stride_b, const void* beta, void* c, BlasType, int64_t ldc, long long stride_c, int64_t batch,
                BlasCompute compute, int) {
  return emulated_product(
      {at, compute, ta, tb, m, n, k, lda, ldb, ldc, stride_a, stride_b, stride_c, batch, a, b, c, alpha, beta},
      reinterpret_cast<Handle*>(h)->stream);
}

}  // namespace

BlasStatus emulated_product(const BlasProduct& p, cudaStream_t stream) {
  const bool ta = p.op_a == kBlasT, tb = p.op_b == kBlasT;
  if (p.m < 0 || p.n < 0 || p.k < 0 || p.batch < 0 || p.lead_a < std::max<int64_t>(1, ta ? p.k : p.m) ||
      p.lead_b < std::max<int64_t>(1, tb ? p.n : p.k) || p.lead_c < std::max<int64_t>(1, p.m))
    return BlasStatus(7);
  const bool wide = p.compute == kComputeF64, tf32 = p.compute == kComputeTF32;
  const double x = wide ? *static_cast<const double*>(p.alpha) : *static_cast<const float*>(p.alpha);
  const double y = wide ? *static_cast<const double*>(p.beta) : *static_cast<const float*>(p.beta);
  emu::enqueue(stream, [=] {
    auto operand = [&](const void* from, int64_t i) {
      const double v = load(from, p.type, i);
      return tf32 ? to_tf32(v) : v;
    };
    for (int64_t q = 0; q < p.batch; ++q)
      for (int64_t j = 0; j < p.n; ++j)
        for (int64_t i = 0; i < p.m; ++i) {
          double sum = 0;
          for (int64_t l = 0; l < p.k; ++l)
            sum += operand(p.a, q * p.stride_a + (ta ? l + i * p.lead_a : i + l * p.lead_a)) *
                   operand(p.b, q * p.stride_b + (tb ? j + l * p.lead_b : l + j * p.lead_b));
          const int64_t to = q * p.stride_c + i + j * p.lead_c;
          sum = x * sum + (y != 0 ? y * load(p.c, p.type, to) : 0);
          if (p.after.bias) sum += load(p.after.bias, p.type, i);
          if (p.after.before) store(p.after.before, p.type, i + j * p.after.lead_before, sum);
          store(p.c, p.type, to, p.after.gelu ? gelu(sum) : sum);
        }
  });
  return kBlasSuccess;
}

const Blas& emulated_blas() {
  static const Blas b{[](BlasHandle* h) {
                        *h = reinterpret_cast<BlasHandle>(new Handle);
                        return kBlasSuccess;
                      },
                      [](BlasHandle h, cudaStream_t s) {
                        reinterpret_cast<Handle*>(h)->stream = s;
                        return kBlasSuccess;
                      },
                      [](BlasStatus) { return "emulated cuBLAS: invalid value"; }, gemm};
  return b;
}

}  // namespace tg::cuda
