// One tensor cut into several views.
#include "ops/ops.h"
#include "ops/view.h"

namespace tg {
namespace {

// Results that nothing used have no gradient: zeros there.
std::vector<Tensor> all_grads(GradCtx& c) {
  std::vector<Tensor> out;
  for (int j = 0; j < c.call().out_metas.size(); ++j) out.push_back(c.g_or_zeros(j));
  return out;
}

std::vector<Tensor> unbind_body(const Tensor& x, int64_t dim) {
  TG_CHECK(x.ndim() > 0, IndexError, "unbind: a tensor without dimensions can't be cut; input=", describe(x));
  int d = wrap_dim("unbind", dim, x.ndim());
  std::vector<Tensor> out;
  for (int64_t i = 0; i < x.sizes()[d]; ++i) out.push_back(view_of(x, select_geometry("unbind", geometry_of(x), d, i)));
  return out;
}
Tensor unbind_grad(GradCtx& c) { return stack(all_grads(c), wrap_dim("unbind", c.arg<int64_t>(1), c.shape(0).size())); }

std::vector<Tensor> split_with_sizes_body(const Tensor& x, IntList sizes, int64_t dim) {
  TG_CHECK(x.ndim() > 0, IndexError, "split: a tensor without dimensions can't be cut; input=", describe(x));
  int d = wrap_dim("split", dim, x.ndim());
  int64_t left = x.sizes()[d];
  for (int64_t s : sizes) {
    TG_CHECK(s >= 0, ValueError, "split: negative size ", s, " in ", sizes, "; input=", describe(x));
    TG_CHECK(s <= left, ShapeError, "split: sizes ", sizes, " do not sum to the size ", x.sizes()[d], " of dimension ",
             d, "; input=", describe(x));
    left -= s;
  }
  TG_CHECK(left == 0, ShapeError, "split: sizes ", sizes, " do not sum to the size ", x.sizes()[d], " of dimension ", d,
           "; input=", describe(x));
  std::vector<Tensor> out;
  int64_t at = 0;
  for (int64_t s : sizes) {
    out.push_back(view_of(x, slice_geometry("split", geometry_of(x), d, at, at + s, 1)));
    at += s;
  }
  return out;
}
Tensor split_grad(GradCtx& c) { return cat(all_grads(c), c.arg<int64_t>(2)); }

// Sizes of pieces of `size`, the last one smaller; at least one piece.
std::vector<int64_t> pieces(const char* op, int64_t n, int64_t size) {
  TG_CHECK(size > 0 || (size == 0 && n == 0), ValueError, op, ": size of the pieces must be positive, got ", size);
  std::vector<int64_t> out;
  for (int64_t at = 0; at < n; at += out.back()) out.push_back(std::min(size, n - at));
  if (out.empty()) out.push_back(0);
  return out;
}
int64_t size_along(const char* op, const Tensor& x, int64_t dim) {
  TG_CHECK(x.ndim() > 0, IndexError, op, ": a tensor without dimensions can't be cut; input=", describe(x));
  return x.sizes()[wrap_dim(op, dim, x.ndim())];
}

std::vector<Tensor> split_int(const Tensor& x, int64_t split_size, int64_t dim) {
  return split_with_sizes(x, pieces("split", size_along("split", x, dim), split_size), dim);
}
std::vector<Tensor> split_list(const Tensor& x, IntList split_size, int64_t dim) {
  return split_with_sizes(x, split_size, dim);
}

std::vector<Tensor> chunk_body(const Tensor& x, int64_t chunks, int64_t dim) {
  int64_t n = size_along("chunk", x, dim);
  TG_CHECK(chunks > 0, ValueError, "chunk: number of chunks must be positive, got ", chunks, "; input=", describe(x));
  if (n == 0) return split_with_sizes(x, std::vector<int64_t>(size_t(std::min<int64_t>(chunks, 1 << 20)), 0), dim);
  return split_int(x, (n - 1) / chunks + 1, dim);
}

std::vector<Tensor> tensor_split_sections(const Tensor& x, int64_t sections, int64_t dim) {
  int64_t n = size_along("tensor_split", x, dim);
  TG_CHECK(sections > 0 && sections <= (1 << 24), ValueError, "tensor_split: number of sections must be positive, got ",
           sections, "; input=", describe(x));
  std::vector<int64_t> sizes(size_t(sections), n / sections);
  for (int64_t i = 0; i < n % sections; ++i) ++sizes[size_t(i)];
  return split_with_sizes(x, sizes, dim);
}
std::vector<Tensor> tensor_split_indices(const Tensor& x, IntList indices, int64_t dim) {
  size_along("tensor_split", x, dim);
  std::vector<Tensor> out;
  std::optional<int64_t> at;
  for (int64_t i : indices) {
    out.push_back(slice(x, dim, at, i));
    at = i;
  }
  out.push_back(slice(x, dim, at));
  return out;
}

// hsplit and relatives: an int must divide the size.
std::vector<Tensor> even_split(const char* op, const Tensor& x, int64_t sections, int64_t dim) {
  TG_CHECK(sections > 0, ValueError, op, ": number of sections must be positive, got ", sections);
  TG_CHECK(x.size(dim) % sections == 0, ShapeError, op, ": size ", x.size(dim), " of dimension ", dim,
           " is not a multiple of ", sections, "; input=", describe(x));
  return tensor_split(x, sections, dim);
}
void need_dims(const char* op, const Tensor& x, int n) {
  TG_CHECK(x.ndim() >= n, ShapeError, op, ": expected at least ", n, " dimensions, got ", x.ndim(),
           "; input=", describe(x));
}
std::vector<Tensor> hsplit_int(const Tensor& x, int64_t sections) {
  need_dims("hsplit", x, 1);
  return even_split("hsplit", x, sections, x.ndim() == 1 ? 0 : 1);
}
std::vector<Tensor> hsplit_list(const Tensor& x, IntList indices) {
  need_dims("hsplit", x, 1);
  return tensor_split(x, indices, x.ndim() == 1 ? 0 : 1);
}
std::vector<Tensor> vsplit_int(const Tensor& x, int64_t sections) {
  need_dims("vsplit", x, 2);
  return even_split("vsplit", x, sections, 0);
}
std::vector<Tensor> vsplit_list(const Tensor& x, IntList indices) {
  need_dims("vsplit", x, 2);
  return tensor_split(x, indices, 0);
}
std::vector<Tensor> dsplit_int(const Tensor& x, int64_t sections) {
  need_dims("dsplit", x, 3);
  return even_split("dsplit", x, sections, 2);
}
std::vector<Tensor> dsplit_list(const Tensor& x, IntList indices) {
  need_dims("dsplit", x, 3);
  return tensor_split(x, indices, 2);
}

TG_OP("unbind(Tensor input, int dim=0) -> Tensor[]", .doc = "All positions of dim as views.",
      .primitive = box<unbind_body>, .grads = {{0, unbind_grad}}, .flags = kView,
      .samples = "T(3,4); T(3,4), 1; T(2,3,4), -1; T(3)");
TG_OP("split_with_sizes(Tensor input, int[] split_sizes, int dim=0) -> Tensor[]",
      .doc = "Consecutive pieces of dim with the given sizes, as views.", .primitive = box<split_with_sizes_body>,
      .grads = {{0, split_grad}}, .flags = kView, .samples = "T(5,3), [2, 3]; T(3,5), [1, 0, 4], 1; T(4), [4]");
TG_OP("split(Tensor input, int split_size, int dim=0) -> Tensor[]",
      .doc = "Pieces of dim of size split_size, the last one smaller, as views.", .composite = box<split_int>,
      .samples = "T(5,3), 2; T(3,6), 3, 1; T(3,5), 4, -1; T(2), 5; T(0,2), 2");
TG_OP("split.sizes(Tensor input, int[] split_size, int dim=0) -> Tensor[]",
      .doc = "Pieces of dim of the given sizes, as views.", .composite = box<split_list>,
      .samples = "T(5,3), [2, 3]; T(3,5), [1, 4], 1; T(3,5), [0, 5], -1");
TG_OP("chunk(Tensor input, int chunks, int dim=0) -> Tensor[]",
      .doc = "At most `chunks` pieces of dim of equal size, the last one smaller.", .composite = box<chunk_body>,
      .samples = "T(6,2), 3; T(7,2), 3; T(2,5), 4, 1; T(3), 5; T(2,4), 2, -1");
TG_OP("tensor_split.sections(Tensor input, int indices_or_sections, int dim=0) -> Tensor[]",
      .doc = "Pieces of dim whose sizes differ by at most 1.", .composite = box<tensor_split_sections>,
      .samples = "T(7,2), 3; T(2,5), 2, 1; T(2), 3; T(2,4), 2, -1");
TG_OP("tensor_split.indices(Tensor input, int[] indices_or_sections, int dim=0) -> Tensor[]",
      .doc = "Pieces of dim cut at the given positions.", .composite = box<tensor_split_indices>,
      .samples = "T(7,2), [2, 5]; T(2,5), [1, -1], 1; T(4), [3, 1]; T(4), [9]");
TG_OP("hsplit(Tensor input, int indices_or_sections) -> Tensor[]",
      .doc = "tensor_split along dimension 1 (0 of a vector).", .composite = box<hsplit_int>,
      .samples = "T(4), 2; T(2,6), 3");
TG_OP("hsplit.indices(Tensor input, int[] indices_or_sections) -> Tensor[]",
      .doc = "tensor_split along dimension 1 (0 of a vector).", .composite = box<hsplit_list>,
      .samples = "T(4), [1]; T(2,6), [2, 3]");
TG_OP("vsplit(Tensor input, int indices_or_sections) -> Tensor[]", .doc = "tensor_split along dimension 0.",
      .composite = box<vsplit_int>, .samples = "T(4,2), 2; T(6,1,2), 3");
TG_OP("vsplit.indices(Tensor input, int[] indices_or_sections) -> Tensor[]", .doc = "tensor_split along dimension 0.",
      .composite = box<vsplit_list>, .samples = "T(4,2), [1]; T(6,1), [2, 3]");
TG_OP("dsplit(Tensor input, int indices_or_sections) -> Tensor[]", .doc = "tensor_split along dimension 2.",
      .composite = box<dsplit_int>, .samples = "T(1,2,4), 2");
TG_OP("dsplit.indices(Tensor input, int[] indices_or_sections) -> Tensor[]", .doc = "tensor_split along dimension 2.",
      .composite = box<dsplit_list>, .samples = "T(1,2,4), [1, 3]");

}  // namespace
}  // namespace tg
