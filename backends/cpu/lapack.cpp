#include "backends/cpu/lapack.h"

#include <algorithm>
#include <cmath>

#include "backends/cpu/blas.h"
#include "backends/cpu/nd.h"

using Int = int;           // Fortran's INTEGER
using Chars = const char;  // CHARACTER*1, whose length comes as a size_t after all other arguments

// clang-format off
#define TG_ROUTINES(X, T, p)                                                                                           \
  X(p, getrf, (Int*, Int*, T*, Int*, Int*, Int*))                                                                      \
  X(p, getrs, (Chars*, Int*, Int*, const T*, Int*, const Int*, T*, Int*, Int*, size_t))                                \
  X(p, potrf, (Chars*, Int*, T*, Int*, Int*, size_t))                                                                  \
  X(p, geqrf, (Int*, Int*, T*, Int*, T*, T*, Int*, Int*))                                                              \
  X(p, orgqr, (Int*, Int*, Int*, T*, Int*, const T*, T*, Int*, Int*))                                                  \
  X(p, syevd, (Chars*, Chars*, Int*, T*, Int*, T*, T*, Int*, Int*, Int*, Int*, size_t, size_t))                        \
  X(p, gesdd, (Chars*, Int*, Int*, T*, Int*, T*, T*, Int*, T*, Int*, T*, Int*, Int*, Int*, size_t))                    \
  X(p, gels, (Chars*, Int*, Int*, Int*, T*, Int*, T*, Int*, T*, Int*, Int*, size_t))                                   \
  X(p, gelsy, (Int*, Int*, Int*, T*, Int*, T*, Int*, Int*, T*, Int*, T*, Int*, Int*))                                  \
  X(p, gelsd, (Int*, Int*, Int*, T*, Int*, T*, Int*, T*, T*, Int*, T*, Int*, Int*, Int*))                              \
  X(p, gelss, (Int*, Int*, Int*, T*, Int*, T*, Int*, T*, T*, Int*, T*, Int*, Int*))
// clang-format on
#define TG_DECLARE(p, name, parameters) void TG_LAPACK(p##name) parameters;
#define TG_MEMBER(p, name, parameters) static constexpr auto name = TG_LAPACK(p##name);

extern "C" {
TG_ROUTINES(TG_DECLARE, float, s)
TG_ROUTINES(TG_DECLARE, double, d)
}

namespace tg::lapack {
namespace {

using cpu::Temp;

// The routines of one type, under names without its letter.
template <class T>
struct Routines;
template <>
struct Routines<float> {
  TG_ROUTINES(TG_MEMBER, float, s)
  static constexpr auto trsm = TG_CBLAS(strsm);
};
template <>
struct Routines<double> {
  TG_ROUTINES(TG_MEMBER, double, d)
  static constexpr auto trsm = TG_CBLAS(dtrsm);
};
template <class T>
Routines<T> lib() {
  cpu::use_one_blas_thread();
  return {};
}

// A size as LAPACK takes it: the address of an int. Leading dimensions are at least 1.
struct Size {
  Int n;
  explicit Size(int64_t v) : n(Int(v)) {}
  operator Int*() { return &n; }
};
Size leading(int64_t rows) { return Size(std::max<int64_t>(rows, 1)); }

template <class T>
bool all_finite(const T* p, int64_t n) {
  return std::all_of(p, p + n, [](T x) { return std::isfinite(x); });
}

// Runs call(work, lwork) twice: with lwork -1 it says in work[0] how much room it wants.
template <class T, class F>
void with_work(F&& call) {
  T wanted = 0;
  call(&wanted, Size(-1));
  // float32 cannot hold every large count: up to the next one
  double n = std::max(1.0, std::ceil(double(wanted) * (1 + 1e-6)));
  TG_CHECK(n <= INT32_MAX, ShapeError, "linalg: the matrix is too large for LAPACK's workspace");
  Temp work(int64_t(n) * int64_t(sizeof(T)));
  call(work.as<T>(), Size(int64_t(n)));
}

}  // namespace

void check_sizes(const char* op, int64_t rows, int64_t cols) {
  constexpr int64_t most = INT32_MAX;
  TG_CHECK(rows <= most && cols <= most, ShapeError, op, ": LAPACK takes sizes up to ", most, ", got ", rows, " x ",
           cols);
}

template <class T>
int lu(int64_t m, int64_t n, T* a, int32_t* pivots) {
  Int info = 0;
  if (m && n) lib<T>().getrf(Size(m), Size(n), a, leading(m), pivots, &info);
  return info;
}

template <class T>
void lu_solve(int64_t n, int64_t k, const T* a, const int32_t* pivots, T* b) {
  Int info = 0;
  if (n && k) lib<T>().getrs("N", Size(n), Size(k), a, leading(n), pivots, b, leading(n), &info, 1);
}

template <class T>
int cholesky(int64_t n, T* a) {
  Int info = 0;
  if (n) lib<T>().potrf("L", Size(n), a, leading(n), &info, 1);
  return info;
}

template <class T>
void triangular_solve(bool upper, bool unit, int64_t n, int64_t k, const T* a, T* b) {
  if (!n || !k) return;
  lib<T>().trsm(CblasColMajor, CblasLeft, upper ? CblasUpper : CblasLower, CblasNoTrans,
                unit ? CblasUnit : CblasNonUnit, Int(n), Int(k), T(1), a, Int(n), b, Int(n));
}

template <class T>
void qr(int64_t m, int64_t n, T* a, T* tau) {
  Int info = 0;
  if (m && n)
    with_work<T>(
        [&](T* work, Int* lwork) { lib<T>().geqrf(Size(m), Size(n), a, leading(m), tau, work, lwork, &info); });
}

template <class T>
void qr_q(int64_t m, int64_t cols, int64_t k, T* a, const T* tau) {
  Int info = 0;
  if (m && cols)
    with_work<T>([&](T* work, Int* lwork) {
      lib<T>().orgqr(Size(m), Size(cols), Size(k), a, leading(m), tau, work, lwork, &info);
    });
}

// What does not end or prints messages when it meets NaN is not called with one: info -1, as if it had not converged.
template <class T>
int eigh(bool vectors, bool upper, int64_t n, T* a, T* w) {
  if (!n) return 0;
  if (!all_finite(a, n * n)) return -1;
  Int info = 0, wanted = 0;
  const char *job = vectors ? "V" : "N", *half = upper ? "U" : "L";
  lib<T>().syevd(job, half, Size(n), a, leading(n), w, w, Size(-1), &wanted, Size(-1), &info, 1, 1);
  Temp iwork(int64_t(wanted) * int64_t(sizeof(Int)));
  with_work<T>([&](T* work, Int* lwork) {
    Size liwork(*lwork < 0 ? -1 : wanted);
    lib<T>().syevd(job, half, Size(n), a, leading(n), w, work, lwork, iwork.as<Int>(), liwork, &info, 1, 1);
  });
  return info;
}

template <class T>
int svd(char which, int64_t m, int64_t n, T* a, T* s, T* u, T* vt) {
  const int64_t k = std::min(m, n);
  if (!k) return 0;
  if (!all_finite(a, m * n)) return -1;
  Int info = 0;
  Temp iwork(8 * k * int64_t(sizeof(Int)));
  with_work<T>([&](T* work, Int* lwork) {
    lib<T>().gesdd(&which, Size(m), Size(n), a, leading(m), s, u, leading(m), vt, leading(which == 'A' ? n : k), work,
                   lwork, iwork.as<Int>(), &info, 1);
  });
  return info;
}

template <class T>
int least_squares(char driver, int64_t m, int64_t n, int64_t k, T* a, T* b, double rcond, T* s, int32_t& rank) {
  const Routines<T> lapack = lib<T>();
  const int64_t rows = std::max(m, n);
  if (!m || !n || !k) return 0;
  if (!all_finite(a, m * n) || !all_finite(b, rows * k)) return -1;
  Int info = 0;
  T r = T(rcond);
  // gelsd says how many integers it wants where it says how many T; the others take a pivot per column
  Int ints = Int(n);
  if (driver == 'd') {
    T ignored = 0;
    lapack.gelsd(Size(m), Size(n), Size(k), a, leading(m), b, leading(rows), s, &r, &rank, &ignored, Size(-1), &ints,
                 &info);
  }
  Temp iwork(std::max<int64_t>(ints, 1) * int64_t(sizeof(Int)));
  std::fill_n(iwork.as<Int>(), std::max<int64_t>(ints, 1), 0);
  with_work<T>([&](T* work, Int* lwork) {
    Int* p = iwork.as<Int>();
    if (driver == 's')
      lapack.gels("N", Size(m), Size(n), Size(k), a, leading(m), b, leading(rows), work, lwork, &info, 1);
    else if (driver == 'y')
      lapack.gelsy(Size(m), Size(n), Size(k), a, leading(m), b, leading(rows), p, &r, &rank, work, lwork, &info);
    else if (driver == 'd')
      lapack.gelsd(Size(m), Size(n), Size(k), a, leading(m), b, leading(rows), s, &r, &rank, work, lwork, p, &info);
    else
      lapack.gelss(Size(m), Size(n), Size(k), a, leading(m), b, leading(rows), s, &r, &rank, work, lwork, &info);
  });
  return info;
}

#define TG_INSTANTIATE(T)                                                        \
  template int lu<T>(int64_t, int64_t, T*, int32_t*);                            \
  template void lu_solve<T>(int64_t, int64_t, const T*, const int32_t*, T*);     \
  template int cholesky<T>(int64_t, T*);                                         \
  template void triangular_solve<T>(bool, bool, int64_t, int64_t, const T*, T*); \
  template void qr<T>(int64_t, int64_t, T*, T*);                                 \
  template void qr_q<T>(int64_t, int64_t, int64_t, T*, const T*);                \
  template int eigh<T>(bool, bool, int64_t, T*, T*);                             \
  template int svd<T>(char, int64_t, int64_t, T*, T*, T*, T*);                   \
  template int least_squares<T>(char, int64_t, int64_t, int64_t, T*, T*, double, T*, int32_t&);
TG_INSTANTIATE(float)
TG_INSTANTIATE(double)

}  // namespace tg::lapack
