// Factorisations of one dense matrix by LAPACK, for T = float or double. Matrices are column-major without gaps, every
// call runs on the calling thread, and what a function returns as `int` is LAPACK's info: 0, or where it failed.
#pragma once
#include <cstdint>

#include "core/error.h"

namespace tg::lapack {

// ShapeError naming `op` when a size is beyond what LAPACK's 32-bit integers (and its workspaces) can count.
TG_API void check_sizes(const char* op, int64_t rows, int64_t cols);

// a (m, n) becomes its L (unit diagonal) and U; pivots[i] is the row, counted from 1, that was swapped with row i.
template <class T>
int lu(int64_t m, int64_t n, T* a, int32_t* pivots);
// b (n, k) becomes A^-1 b, with A as lu() left it.
template <class T>
void lu_solve(int64_t n, int64_t k, const T* a, const int32_t* pivots, T* b);
// The lower triangle of a (n, n) becomes L with L L^T = a; the upper one is left alone.
template <class T>
int cholesky(int64_t n, T* a);
// b (n, k) becomes A^-1 b for a triangular A.
template <class T>
void triangular_solve(bool upper, bool unit, int64_t n, int64_t k, const T* a, T* b);
// a (m, n) becomes R in its upper triangle and the reflectors of Q below; tau has min(m, n) elements.
template <class T>
void qr(int64_t m, int64_t n, T* a, T* tau);
// a (m, cols), whose first k columns hold reflectors, becomes the first `cols` columns of Q.
template <class T>
void qr_q(int64_t m, int64_t cols, int64_t k, T* a, const T* tau);
// w becomes the ascending eigenvalues of the symmetric a (n, n), a its eigenvectors if wanted (else it is spent).
template <class T>
int eigh(bool vectors, bool upper, int64_t n, T* a, T* w);
// a (m, n) = u diag(s) vt, k = min(m, n). which: 'A' u (m, m) and vt (n, n), 'S' u (m, k) and vt (k, n), 'N' only s.
template <class T>
int svd(char which, int64_t m, int64_t n, T* a, T* s, T* u, T* vt);
// b (max(m, n), k) becomes in its first n rows the x of least |a x - b|. driver: 's' (gels, full rank), 'y' (gelsy),
// 'd' (gelsd), 'v' (gelss); the last two also give the singular values s, all but the first the rank.
template <class T>
int least_squares(char driver, int64_t m, int64_t n, int64_t k, T* a, T* b, double rcond, T* s, int32_t& rank);

}  // namespace tg::lapack
