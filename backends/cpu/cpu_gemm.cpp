// gemm: float and the half types through our own kernel (gemm.isa.cpp); double, and float on processors without fused
// multiply-adds, through CBLAS with one thread per call, in parts that depend on the sizes alone; integers through a
// plain blocked loop. The bits of our own kernel depend on no parts, so those go by the number of threads too.
#include "backends/cpu/blas.h"
#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/loops.h"
#include "backends/cpu/nd.h"

namespace tg::cpu {
namespace {

constexpr int64_t kBlasMax = INT32_MAX;  // CBLAS counts in int
constexpr double kUnit = 4e6;            // multiply-adds that are worth a call of the BLAS
constexpr double kPart = 1e6;            // and a part of a product with our own kernel (of a batch, half of it)
constexpr int64_t kNarrow = 8;           // fewer columns would leave most of a vector unused
constexpr int64_t kLeastPacked = 4096;   // elements that are worth being packed apart

struct alignas(64) Line {
  float floats[16];
};

// A matrix as BLAS sees it: row-major with a leading dimension, or the transpose of one.
struct Mat {
  const void* data;
  bool trans;
  int64_t ld;
};

// Whether strides fit BLAS without a copy.
bool as_blas(int64_t rows, int64_t cols, int64_t sr, int64_t sc, bool& trans, int64_t& ld) {
  if (rows <= 1 && (sc == 1 || cols <= 1))
    sr = cols;
  else if (cols <= 1 && (sr == 1 || rows <= 1))
    sc = rows;
  if ((sc == 1 || cols <= 1) && sr >= std::max<int64_t>(cols, 1) && sr <= kBlasMax) return trans = false, ld = sr, true;
  if ((sr == 1 || rows <= 1) && sc >= std::max<int64_t>(rows, 1) && sc <= kBlasMax) return trans = true, ld = sc, true;
  return false;
}

void blas(const Mat& a, const Mat& b, void* c, int64_t ldc, int64_t m, int64_t n, int64_t k, double alpha, double beta,
          bool f64) {
  const auto ta = a.trans ? CblasTrans : CblasNoTrans, tb = b.trans ? CblasTrans : CblasNoTrans;
  const int M = int(m), N = int(n), K = int(k), la = int(a.ld), lb = int(b.ld), lc = int(ldc);
  if (f64)
    TG_CBLAS(dgemm)(CblasRowMajor, ta, tb, M, N, K, alpha, static_cast<const double*>(a.data), la,
                    static_cast<const double*>(b.data), lb, beta, static_cast<double*>(c), lc);
  else
    TG_CBLAS(sgemm)(CblasRowMajor, ta, tb, M, N, K, float(alpha), static_cast<const float*>(a.data), la,
                    static_cast<const float*>(b.data), lb, float(beta), static_cast<float*>(c), lc);
}

View packed(void* data, DType t, const View& like) {
  View v;
  v.data = data;
  v.dtype = t;
  v.shape = like.shape;
  v.stride = contiguous_strides(like.shape);
  return v;
}

// An operand that BLAS can read: the view itself or a packed copy in the type of the product.
class Readable {
 public:
  Readable(const View& v, DType t) : view_(v) {
    bool trans;
    int64_t ld;
    if (v.dtype == t && as_blas(v.shape[1], v.shape[2], v.stride[1], v.stride[2], trans, ld)) return;
    // A batch that is one matrix over and over is copied once.
    View src = v;
    const bool same = v.stride[0] == 0;
    if (same) src.shape[0] = std::min<int64_t>(src.shape[0], 1);
    copy_.emplace(src.numel() * itemsize(t));
    View dst = packed(copy_->as<void>(), t, src);
    convert_copy(src, dst);
    view_ = dst;
    view_.shape[0] = v.shape[0];
    if (same) view_.stride[0] = 0;
  }
  Mat at(int64_t batch, int64_t row, int64_t col) const {
    const Dims& s = view_.stride;
    Mat m;
    as_blas(view_.shape[1], view_.shape[2], s[1], s[2], m.trans, m.ld);
    m.data = static_cast<char*>(view_.data) + (batch * s[0] + row * s[1] + col * s[2]) * itemsize(view_.dtype);
    return m;
  }

 private:
  View view_;
  std::optional<Temp> copy_;
};

struct Grid {
  int64_t m, n;    // block sizes
  int64_t mb, nb;  // blocks per matrix
};

// Blocks large enough for BLAS to run at speed. Only sizes matter, never threads. K is never cut.
Grid grid_of(int64_t m, int64_t n, int64_t k) {
  Grid g{m, n, 1, 1};
  if (double(m) * double(n) * double(k) > 2 * kUnit) {
    int64_t bm = 256, bn = 512;
    if (m <= 64) bn = 256;
    if (n <= 64) bm = 1024;
    g.m = std::min(m, bm), g.n = std::min(n, bn);
  }
  g.mb = (m + g.m - 1) / g.m;
  g.nb = (n + g.n - 1) / g.n;
  return g;
}

// c has unit column stride and BLAS's type.
void product(double alpha, const View& a, const View& b, double beta, const View& c) {
  const int64_t batch = c.shape[0], m = c.shape[1], n = c.shape[2], k = a.shape[2];
  const Readable ra(a, c.dtype), rb(b, c.dtype);
  const Grid g = grid_of(m, n, k);
  const int64_t per = g.mb * g.nb, item = itemsize(c.dtype), ldc = m == 1 ? std::max<int64_t>(n, 1) : c.stride[1];
  const double work = double(g.m) * double(g.n) * double(k);
  const int64_t grain = per > 1 ? 1 : int64_t(std::max(1.0, std::min(kUnit / std::max(work, 1.0), 1e9)));
  use_one_blas_thread();
  parallel_for(batch * per, grain, [&](int64_t ub, int64_t ue) {
    for (int64_t u = ub; u < ue; ++u) {
      int64_t i = u / per, row = u % per / g.nb * g.m, col = u % g.nb * g.n;
      char* to = static_cast<char*>(c.data) + (i * c.stride[0] + row * ldc + col) * item;
      blas(ra.at(i, row, 0), rb.at(i, 0, col), to, ldc, std::min(g.m, m - row), std::min(g.n, n - col), k, alpha, beta,
           c.dtype == DType::F64);
    }
  });
}

// c has float elements and unit column stride, a and b are float or half. `whole` has what is not in the views.
void own_product(GemmLoop kernel, const GemmProduct& whole, const View& a, const View& b, const View& c) {
  const int64_t m = c.shape[1], n = c.shape[2], k = a.shape[2];
  const GemmGrid g = gemm_grid(m, n, k, c.shape[0]);
  const int64_t per = g.mb * g.nb;
  const double work = double(m) * double(n) * double(k);
  const int64_t grain = per > 1 ? 1 : int64_t(std::max(1.0, std::min(kPart / std::max(2 * work, 1.0), 1e9)));
  auto at = [](const View& v, int64_t batch, int axis, int64_t i) {
    return static_cast<char*>(v.data) + (batch * v.stride[0] + i * v.stride[axis]) * itemsize(v.dtype);
  };
  parallel_for(c.shape[0] * per, grain, [&](int64_t ub, int64_t ue) {
    for (int64_t u = ub; u < ue; ++u) {
      const int64_t i = u / per, row = u % per / g.nb * g.m, col = u % g.nb * g.n;
      GemmProduct p = whole;
      p.a = {at(a, i, 1, row), a.dtype, a.stride[2], a.stride[1]};
      p.b = {at(b, i, 2, col), b.dtype, b.stride[1], b.stride[2]};
      p.c = reinterpret_cast<float*>(at(c, i, 1, row)) + col;
      p.ldc = c.stride[1];
      p.m = std::min(g.m, m - row), p.n = std::min(g.n, n - col), p.k = k;
      if (whole.packed) p.packed += col * k;
      if (whole.bias) p.bias += col;
      p.buffer = gemm_buffer();
      kernel(p);
    }
  });
}

View transposed(View v) {
  std::swap(v.shape[1], v.shape[2]);
  std::swap(v.stride[1], v.stride[2]);
  return v;
}

bool fits_output(const View& c) {
  return (c.stride[2] == 1 || c.shape[2] == 1) &&
         (c.shape[1] == 1 || (c.stride[1] >= c.shape[2] && c.stride[1] <= kBlasMax));
}

template <class T>
void integer_gemm(double alpha, const View& a, const View& b, double beta, const View& c) {
  const int64_t m = c.shape[1], n = c.shape[2], k = a.shape[2];
  const uint64_t al = uint64_t(convert<int64_t>(alpha)), be = uint64_t(convert<int64_t>(beta));
  using S = std::conditional_t<std::is_same_v<T, bool>, uint8_t, T>;
  auto value = [](S x) { return uint64_t(std::is_same_v<T, bool> ? int64_t(x != 0) : int64_t(x)); };
  const S* pa = static_cast<const S*>(a.data);
  const S* pb = static_cast<const S*>(b.data);
  S* pc = static_cast<S*>(c.data);
  constexpr int64_t kCols = 512;
  const double row_work = double(n) * double(k) + 1;
  parallel_for(c.shape[0] * m, int64_t(std::max(1.0, 1e5 / row_work)), [&](int64_t ub, int64_t ue) {
    uint64_t acc[kCols];
    for (int64_t u = ub; u < ue; ++u)
      for (int64_t j0 = 0; j0 < n; j0 += kCols) {
        const int64_t w = std::min(kCols, n - j0), i = u % m, batch = u / m;
        const S* ra = pa + batch * a.stride[0] + i * a.stride[1];
        const S* cb = pb + batch * b.stride[0] + j0 * b.stride[2];
        S* rc = pc + batch * c.stride[0] + i * c.stride[1] + j0 * c.stride[2];
        std::fill_n(acc, w, uint64_t(0));
        for (int64_t q = 0; q < k; ++q) {
          const uint64_t x = value(ra[q * a.stride[2]]);
          const S* rb = cb + q * b.stride[1];
          for (int64_t j = 0; j < w; ++j) acc[j] += x * value(rb[j * b.stride[2]]);
        }
        for (int64_t j = 0; j < w; ++j) {
          S& to = rc[j * c.stride[2]];
          uint64_t old = be == 0 ? 0 : be * value(to);
          to = S(convert<T>(int64_t(al * acc[j] + old)));
        }
      }
  });
}

// c = beta * c, reading nothing when beta is 0.
void scale(double beta, const View& c) {
  Program p;
  p.compute = compute_type(c.dtype);
  Views ins, outs;
  outs.push_back(c);
  p.consts.push_back(is_float(c.dtype) ? Scalar(beta) : Scalar(convert<int64_t>(beta)));
  if (beta == 0) {
    p.outs.push_back(0);
  } else {
    p.n_inputs = 1;
    ins.push_back(c);
    p.code.push_back({Opc::mul, {0, 1, 0}});
    p.outs.push_back(p.code_reg(0));
  }
  cpu_backend().map(p, ins, outs);
}

}  // namespace

float* gemm_panels(int64_t floats) {
  thread_local std::unique_ptr<Line[]> lines;
  thread_local size_t have = 0;
  const size_t need = size_t(floats + 15) / 16;
  if (have < need) {
    have = 0;
    lines.reset();
    lines = std::make_unique_for_overwrite<Line[]>(need);
    have = need;
  }
  return lines[0].floats;
}

float* gemm_buffer() {
  // The packed rows, in panels of up to 6 padded to 8 (AVX2) or of up to 14 padded to 16 (AVX-512), and one panel of
  // the right operand.
  constexpr size_t kFloats = kGemmDepth * ((kGemmRows / 6 + 4) * 8 + kGemmColumns);
  thread_local const auto lines = std::make_unique_for_overwrite<Line[]>(kFloats / 16);
  return lines[0].floats;
}

// Parts of a product with our own kernel. Bits do not depend on them, so they may depend on the number of threads: each
// part packs its rows and its columns anew, and fewer parts pack less.
GemmGrid gemm_grid(int64_t m, int64_t n, int64_t k, int64_t count) {
  constexpr double kPartsPerThread = 2;
  constexpr int64_t kLeastRows = 112, kLeastColumns = 4 * kGemmColumns;
  // Results of a few rows stay close while k goes on; what is packed on the left serves this many columns at most.
  constexpr int64_t kMostResults = 1 << 18, kManyColumns = 2048, kLeastKept = 512;
  auto pieces = [](int64_t size, int64_t most) { return (size + most - 1) / most; };
  auto even = [&](int64_t size, int64_t most, int64_t unit) {
    return pieces(pieces(size, pieces(size, most)), unit) * unit;
  };
  const double work = double(m) * double(n) * double(k);
  // Products that go round are taken whole. Others are cut, so that no thread waits long for the last part.
  const bool whole = count % num_threads() == 0;
  const double parts = whole ? 1 : std::max(1.0, kPartsPerThread * num_threads() / double(count));
  const int threads = parts == 1 ? 1 : num_threads();  // that work on one product
  const double part = std::max(kPart, work / parts);
  auto fit = [&](int64_t other, int64_t least, int64_t most) {
    return int64_t(std::clamp(part / (double(other) * double(k)), double(least), double(std::max(least, most))));
  };
  GemmGrid g{m, n, 1, 1};
  if (work > 2 * kPart) {
    // One thread takes all rows of as many columns as it can keep packed, several threads some of either.
    const int64_t keeps = kGemmKept / k / kGemmColumns * kGemmColumns;
    const bool all_rows = threads == 1 && m > kGemmRows && keeps >= std::min(n, kLeastKept);
    g.m = all_rows ? m : even(m, kGemmRows, 1);
    const int64_t most = all_rows ? std::min(keeps, kManyColumns) : std::max(kManyColumns, kMostResults / g.m);
    g.n = even(n, fit(g.m, kLeastColumns, most), kGemmColumns);
    if (g.n >= n && !all_rows) g.m = even(m, fit(n, kLeastRows, kGemmRows), 1);
  }
  g.mb = pieces(m, g.m);
  g.nb = pieces(n, g.n);
  // Few parts are made as many as go round, that no thread has nothing to do at the end.
  for (int64_t more = g.nb + 1; g.mb * g.nb > 1 && g.mb * g.nb % threads != 0 && more < g.nb + threads; ++more) {
    const int64_t columns = even(n, pieces(n, more), kGemmColumns);
    if (g.mb * pieces(n, columns) % threads == 0) g.n = columns, g.nb = pieces(n, columns);
  }
  return g;
}

void CpuBackend::gemm(double alpha, const View& a, const View& b, double beta, const View& c) {
  const int64_t m = c.shape[1], n = c.shape[2], k = a.shape[2];
  if (c.numel() == 0) return;
  if (k == 0) return beta == 1 ? void() : scale(beta, c);
  if (!is_float(c.dtype)) {
    visit(c.dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      if constexpr (std::is_integral_v<T>) integer_gemm<T>(alpha, a, b, beta, c);
    });
    return;
  }
  TG_CHECK(m <= kBlasMax && n <= kBlasMax && k <= kBlasMax, ShapeError, "gemm: sizes up to ", kBlasMax,
           " are supported, got ", m, "x", k, " @ ", k, "x", n);
  const DType t = is_half(c.dtype) ? DType::F32 : c.dtype;
  const bool dots = a.dtype == DType::BF16 && b.dtype == DType::BF16 && loops().gemm_bf16;
  const GemmLoop own = t != DType::F32 ? nullptr : dots ? loops().gemm_bf16 : loops().gemm;
  auto multiply = [&](const View& x, const View& y, const View& to) {
    own ? own_product(own, {.alpha = float(alpha), .beta = float(beta)}, x, y, to) : product(alpha, x, y, beta, to);
  };
  const View ct = transposed(c);
  // Our kernel wants columns enough for a vector.
  const bool narrow = own && n < kNarrow && n < m;
  if (c.dtype == t && fits_output(ct) && (narrow || !fits_output(c))) return multiply(transposed(b), transposed(a), ct);
  if (c.dtype == t && fits_output(c) && !narrow) return multiply(a, b, c);
  Temp buffer(c.numel() * itemsize(t));
  const View tmp = narrow ? transposed(packed(buffer.as<void>(), t, ct)) : packed(buffer.as<void>(), t, c);
  if (beta != 0) convert_copy(c, tmp);
  narrow ? multiply(transposed(b), transposed(a), transposed(tmp)) : multiply(a, b, tmp);
  convert_copy(tmp, c);
}

ProductBy CpuBackend::product_by(const View& b) {
  const int64_t k = b.shape[1], n = b.shape[2];
  if (!loops().gemm_pack || b.dtype != DType::F32 || n < kNarrow || k * n < kLeastPacked) return nullptr;
  const int64_t panels = (n + kGemmColumns - 1) / kGemmColumns;
  auto packed = std::make_shared<Temp>(panels * kGemmColumns * k * 4);
  parallel_for(panels, std::max<int64_t>(1, kGrain / (k * kGemmColumns)), [&](int64_t from, int64_t to) {
    loops().gemm_pack({b.data, b.dtype, b.stride[1], b.stride[2]}, k, from * kGemmColumns,
                      std::min(to * kGemmColumns, n), packed->as<float>());
  });
  return [packed, k, n](const View& a, double beta, const View& c) {
    View b;  // of which nobody reads an element
    b.dtype = DType::F32, b.shape = {1, k, n}, b.stride = {0, 0, 0};
    own_product(loops().gemm, {.beta = float(beta), .packed = packed->as<float>()}, a, b, c);
  };
}

bool CpuBackend::gemm_bias(const View& a, const View& b, const View& bias, const View& c) {
  for (const View* v : {&a, &b, &bias, &c})
    if (v->dtype != DType::F32) return false;
  if (!loops().gemm || c.shape[2] < kNarrow || !fits_output(c) || bias.stride[0] != 1) return false;
  if (c.numel() > 0) own_product(loops().gemm, {.bias = static_cast<const float*>(bias.data)}, a, b, c);
  return true;
}

}  // namespace tg::cpu
