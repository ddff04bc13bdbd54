// Triangles and diagonals of matrices.
#include "ops/create.h"
#include "ops/fast_path.h"
#include "ops/index.h"

namespace tg {
namespace {

// Row and column numbers of one triangle, row by row.
// Number of (r, c) with 0 <= r < rows, 0 <= c < cols and c <= r + offset.
__int128 lower_count(int64_t rows, int64_t cols, __int128 offset) {
  __int128 first = std::clamp<__int128>(-offset, 0, rows);               // first row that has an element
  __int128 full = std::clamp<__int128>(cols - offset - 1, first, rows);  // first row that has all
  return (full - first) * (first + full + 1 + 2 * offset) / 2 + (rows - full) * cols;
}

Tensor triangle_indices(const char* op, bool lower, int64_t row, int64_t col, int64_t offset,
                        std::optional<DType> dtype, std::optional<Device> device) {
  TG_CHECK(row >= 0 && col >= 0, ValueError, op, ": sizes must not be negative, got row=", row, ", col=", col);
  numel_of({2, row, col}, op);
  reject_recording(op, device.value_or(Device()));
  __int128 below = lower_count(row, col, lower ? __int128(offset) : __int128(offset) - 1);
  int64_t n = int64_t(lower ? below : __int128(row) * col - below);
  Tensor out = empty_tensor({2, n}, DType::I64);
  int64_t* p = out.data<int64_t>();
  int64_t start = lower ? int64_t(std::clamp<__int128>(-__int128(offset), 0, row)) : 0;
  for (int64_t r = start, k = 0; k < n; ++r) {
    __int128 d = __int128(r) + offset;  // column of the diagonal
    auto at = [&](__int128 c) { return int64_t(std::clamp<__int128>(c, 0, col)); };
    int64_t begin = lower ? 0 : at(d), end = lower ? at(d + 1) : col;
    for (int64_t c = begin; c < end; ++c, ++k) {
      p[k] = r;
      p[n + k] = c;
    }
  }
  return to(narrow_to(out, dtype.value_or(DType::I64)), device.value_or(Device()));
}
Tensor tril_indices_body(int64_t row, int64_t col, int64_t offset, std::optional<DType> dtype,
                         std::optional<Device> device) {
  return triangle_indices("tril_indices", true, row, col, offset, dtype, device);
}
Tensor triu_indices_body(int64_t row, int64_t col, int64_t offset, std::optional<DType> dtype,
                         std::optional<Device> device) {
  return triangle_indices("triu_indices", false, row, col, offset, dtype, device);
}

// The triangle as a bool matrix of the last two sizes: column - row compared
// with the diagonal.
Tensor triangle(const char* op, const Tensor& x, Opc keep, int64_t diagonal) {
  TG_CHECK(x.ndim() >= 2, ShapeError, op, ": expected at least 2 dimensions, got ", x.ndim(), "; input=", describe(x));
  int64_t rows = x.size(-2), cols = x.size(-1);
  Tensor mask = empty_tensor({rows, cols}, DType::Bool, x.device());
  run_program(make_program(DType::I64, 0, {cols, diagonal},
                           {{Opc::Index},                 // 2
                            {Opc::remainder, {2, 0}},     // 3: column
                            {Opc::floor_divide, {2, 0}},  // 4: row
                            {Opc::sub, {3, 4}},           // 5
                            {keep, {5, 1}}}),
              {}, mask);
  return where(mask, x, false);
}
Tensor tril_body(const Tensor& x, int64_t diagonal) { return triangle("tril", x, Opc::le, diagonal); }
Tensor triu_body(const Tensor& x, int64_t diagonal) { return triangle("triu", x, Opc::ge, diagonal); }

Tensor diag_embed_body(const Tensor& x, int64_t offset, int64_t dim1, int64_t dim2) {
  TG_CHECK(x.ndim() >= 1, ShapeError, "diag_embed: expected at least 1 dimension; input=", describe(x));
  int n = x.ndim() + 1, d1 = wrap_dim("diag_embed", dim1, n), d2 = wrap_dim("diag_embed", dim2, n);
  TG_CHECK(d1 != d2, ValueError, "diag_embed: dim1 and dim2 must differ, both are ", dim1, "; input=", describe(x));
  int64_t side;
  TG_CHECK(offset > INT64_MIN && !__builtin_add_overflow(x.size(-1), std::abs(offset), &side), ShapeError,
           "diag_embed: offset ", offset, " is too large; input=", describe(x));
  Dims sizes = x.sizes();
  sizes.pop_back();
  sizes.insert(std::min(d1, d2), side);
  sizes.insert(std::max(d1, d2), side);
  return diagonal_scatter(zeros(sizes, x.dtype(), x.device()), x, offset, d1, d2);
}
Tensor diag_body(const Tensor& x, int64_t diagonal_) {
  TG_CHECK(x.ndim() == 1 || x.ndim() == 2, ShapeError, "diag: expected 1 or 2 dimensions, got ", x.ndim(),
           "; input=", describe(x));
  return x.ndim() == 1 ? diag_embed(x, diagonal_) : clone(diagonal(x, diagonal_));
}
Tensor diagflat_body(const Tensor& x, int64_t offset) { return diag_embed(reshape(x, {-1}), offset); }

TG_OP("tril_indices(int row, int col, int offset=0, *, dtype? dtype=None, device? device=None) -> Tensor",
      .doc = "Row and column numbers (2, n) of the lower triangle of a row x col matrix.",
      .primitive = box<tril_indices_body>, .flags = kNoGrad, .samples = "3, 3; 3, 4, 1; 4, 3, -1; 0, 3; 2, 2, -5");
TG_OP("triu_indices(int row, int col, int offset=0, *, dtype? dtype=None, device? device=None) -> Tensor",
      .doc = "Row and column numbers (2, n) of the upper triangle of a row x col matrix.",
      .primitive = box<triu_indices_body>, .flags = kNoGrad, .samples = "3, 3; 3, 4, 1; 4, 3, -1; 0, 3; 2, 2, 5");
TG_OP("tril(Tensor input, int diagonal=0) -> Tensor",
      .doc = "Lower triangle of the last two dimensions; zeros above the given diagonal.", .composite = box<tril_body>,
      .flags = kMakeInplace,
      .samples = "T(3,4); T(4,3), 1; T(4,3), -1; T(2,3,3); I(3,3, hi=5); B(3,3); T(0,3); T(3,3), 9");
TG_OP("triu(Tensor input, int diagonal=0) -> Tensor",
      .doc = "Upper triangle of the last two dimensions; zeros below the given diagonal.", .composite = box<triu_body>,
      .flags = kMakeInplace,
      .samples = "T(3,4); T(4,3), 1; T(4,3), -1; T(2,3,3); I(3,3, hi=5); B(3,3); T(0,3); T(3,3), -9");
TG_OP("diag_embed(Tensor input, int offset=0, int dim1=-2, int dim2=-1) -> Tensor",
      .doc = "Zeros with the last dimension of input on the diagonals of dim1 and dim2.",
      .composite = box<diag_embed_body>, .samples = "T(3); T(2,3), 1; T(2,3), -1, 0, 2; T(0); I(2,2, hi=5)");
TG_OP("diag(Tensor input, int diagonal=0) -> Tensor",
      .doc = "Matrix with the vector input on its diagonal, or the diagonal of the matrix input as a copy.",
      .composite = box<diag_body>, .samples = "T(3); T(3), 1; T(3), -2; T(3,4); T(3,4), 1; T(4,3), -1; T(0)");
TG_OP("diagflat(Tensor input, int offset=0) -> Tensor",
      .doc = "Matrix with the elements of input, read row by row, on its diagonal.", .composite = box<diagflat_body>,
      .samples = "T(3); T(2,2); T(2), 1; T(2), -1");

}  // namespace
}  // namespace tg
