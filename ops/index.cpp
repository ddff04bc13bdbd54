// x[...]: integers, slices, None, Ellipsis, bools, integer and bool tensors, read and written.
#include "ops/index.h"

#include "ops/create.h"
#include "ops/fast_path.h"
#include "ops/view.h"

namespace tg {
namespace {

using Items = std::vector<IndexItem>;
using Kind = IndexItem::Kind;

// uint8 tensors are masks, as in PyTorch.
bool is_mask(const Tensor& t) { return t.dtype() == DType::Bool || t.dtype() == DType::U8; }

// An index expression taken apart: a basic one that makes a view, and an int64 tensor or a full slice per dimension of
// that view.
struct Parts {
  Items basic, tensors;
  bool advanced = false;
};

// Coordinates of the true elements of a mask, one vector per dimension.
std::vector<Tensor> coordinates(const Tensor& mask) { return unbind(nonzero(mask), 1); }

class Parser {
 public:
  Parser(const char* op, const Tensor& x, const Items& items) : op_(op), x_(x) {
    count(items);
    for (const IndexItem& i : items) add(i);
  }
  Parts parts;

 private:
  // Number of dimensions an entry uses up.
  static int uses(const IndexItem& i) {
    if (i.kind == Kind::Int || i.kind == Kind::Slice) return 1;
    if (i.kind != Kind::Tensor) return 0;
    return is_mask(i.tensor) ? i.tensor.ndim() : 1;
  }
  void count(const Items& items) {
    int used = 0, ellipses = 0;
    for (const IndexItem& i : items) {
      used += uses(i);
      ellipses += i.kind == Kind::Ellipsis;
      TG_CHECK(i.kind != Kind::Tensor || (i.tensor.defined() && !is_float(i.tensor.dtype())), IndexError, op_,
               ": tensors used as indices must be integer or bool; index=", describe(i.tensor));
    }
    TG_CHECK(used <= x_.ndim(), IndexError, op_, ": too many indices, ", used, " for ", x_.ndim(),
             " dimensions; input=", describe(x_));
    TG_CHECK(ellipses <= 1, IndexError, op_, ": more than one Ellipsis; input=", describe(x_));
    skipped_ = x_.ndim() - used;
  }
  void keep(IndexItem basic) {
    parts.basic.push_back(std::move(basic));
    parts.tensors.emplace_back(Slice{});
  }
  void tensor(IndexItem basic, Tensor index) {
    parts.basic.push_back(std::move(basic));
    parts.tensors.emplace_back(std::move(index));
    parts.advanced = true;
  }
  void integer(int64_t i) {
    int64_t n = x_.sizes()[axis_];
    TG_CHECK(i >= -n && i < n, IndexError, op_, ": index ", i, " is out of bounds for dimension ", axis_, " with size ",
             n);
    parts.basic.emplace_back(i);
    ++axis_;
  }
  void boolean(bool b) { tensor(std::nullopt, zeros({b ? 1 : 0}, DType::I64, x_.device())); }
  void mask(const Tensor& m) {
    for (int k = 0; k < m.ndim(); ++k)
      TG_CHECK(m.sizes()[k] == x_.sizes()[axis_ + k], IndexError, op_, ": mask of size ", m.sizes(),
               " does not fit at dimension ", axis_ + k, ", ", m.sizes()[k], " vs ", x_.sizes()[axis_ + k],
               "; input=", describe(x_));
    for (Tensor& c : coordinates(m)) tensor(Slice{}, std::move(c));
    axis_ += m.ndim();
  }
  void add(const IndexItem& i) {
    switch (i.kind) {
      case Kind::Int:
        return integer(i.i);
      case Kind::Slice:
        keep(i);
        ++axis_;
        return;
      case Kind::None:
        return keep(i);
      case Kind::Ellipsis:
        parts.basic.push_back(i);
        parts.tensors.insert(parts.tensors.end(), size_t(skipped_), IndexItem(Slice{}));
        axis_ += skipped_;
        return;
      case Kind::Bool:
        return boolean(i.i != 0);
      case Kind::Tensor:
        break;
    }
    const Tensor& given = i.tensor;  // indices on the CPU are copied to the device of input
    TG_CHECK(given.device() == x_.device() || given.device().is_cpu(), DeviceError, op_,
             ": index must be on the device of input or the CPU; input=", describe(x_), ", index=", describe(given));
    const Tensor t = to(given, x_.device());
    if (is_mask(t)) return t.ndim() == 0 ? boolean(t.item_scalar().b()) : mask(t);
    if (t.ndim() == 0) return integer(t.item_scalar().i());
    tensor(Slice{}, checked_index(op_, t, x_.sizes()[axis_], axis_, true));
    ++axis_;
  }

  const char* op_;
  const Tensor& x_;
  int axis_ = 0, skipped_ = 0;
};

// ---- the basic part

Geometry basic_geometry(const char* op, Geometry g, const Items& items) {
  int used = 0, dim = 0;
  for (const IndexItem& i : items) used += i.kind == Kind::Int || i.kind == Kind::Slice;
  int skipped = g.sizes.size() - used;
  for (const IndexItem& i : items) {
    if (i.kind == Kind::Int) {
      g = select_geometry(op, g, dim, i.i);
    } else if (i.kind == Kind::Slice) {
      g = slice_geometry(op, g, dim++, i.slice.start, i.slice.stop, i.slice.step.value_or(1));
    } else if (i.kind == Kind::Ellipsis) {
      dim += skipped;
    } else {
      g.strides.insert(dim, dim < g.sizes.size() ? g.sizes[dim] * g.strides[dim] : 1);
      g.sizes.insert(dim++, 1);
    }
  }
  return g;
}
Tensor index_basic_body(const Tensor& x, const Items& items) {
  return view_of(x, basic_geometry("index", geometry_of(x), items));
}
Tensor index_basic_grad(GradCtx& c) {
  return embed(c.g(), c.shape(0), basic_geometry("index", row_major(c.shape(0)), c.arg<const Items&>(1)));
}

// ---- the tensors

// Several indexed dimensions act as one: `line` is x with them replaced by a single axis of stride 1 (or the stride of
// the only one) on which `position` counts. The result has the index's own dimensions there, or in front if the
// indexed dimensions were apart.
struct Plan {
  View line;
  int axis = 0;
  Tensor position;    // (n) int64
  Dims flat, result;  // sizes of the result with one dimension of size n for the index, and with the index's dimensions
  View index() const {
    View v(position);
    v.shape = flat;
    v.stride = Dims::filled(flat.size(), 0);
    v.stride[axis] = 1;
    return v;
  }
};

Dims index_shape(const char* op, const Items& items) {
  Dims shape;
  for (const IndexItem& i : items)
    if (i.kind == Kind::Tensor) {
      try {
        shape = broadcast_shapes(op, shape, i.tensor.sizes());
      } catch (const ShapeError&) {
        fail<IndexError>(op, ": index tensors of sizes ", shape, " and ", i.tensor.sizes(), " do not broadcast");
      }
    }
  return shape;
}

Plan make_plan(const char* op, const Tensor& x, const Items& items) {
  Plan p;
  Dims shape = index_shape(op, items), at, rest;
  for (int d = 0; d < x.ndim(); ++d)
    (d < int(items.size()) && items[size_t(d)].kind == Kind::Tensor ? at : rest).push_back(d);
  TG_CHECK(!at.empty(), IndexError, op, ": expected an index tensor; input=", describe(x));
  bool together = !at.empty() && at.back() - at[0] == at.size() - 1;
  p.axis = together ? int(at[0]) : 0;
  int64_t lo = 0, hi = 0;
  for (int64_t d : at) {
    int64_t n = x.sizes()[int(d)], s = x.strides()[int(d)], span = std::max<int64_t>(n - 1, 0) * s;
    (span < 0 ? lo : hi) += span;
    const Tensor& t = items[size_t(d)].tensor;
    if (at.size() == 1)
      p.position = expand(t, shape);
    else
      p.position = p.position.defined() ? p.position + t * s : t * s;
  }
  int64_t n = numel_of(shape, op), stride = x.strides()[int(at[0])], length = x.sizes()[int(at[0])];
  p.line = View(x);
  if (at.size() > 1) {
    if (lo) p.position = p.position - lo;
    p.line.data = static_cast<char*>(p.line.data) + lo * itemsize(x.dtype());
    stride = 1;
    length = hi - lo + 1;
  }
  p.position = contiguous(reshape(p.position, {n}));
  p.line.shape = p.line.stride = Dims();
  auto push = [&](int64_t size, int64_t step, int64_t out) {
    p.line.shape.push_back(size);
    p.line.stride.push_back(step);
    p.flat.push_back(out);
  };
  for (int i = 0; i <= rest.size(); ++i) {
    if (i == p.axis) {
      push(length, stride, n);
      for (int64_t s : shape) p.result.push_back(s);
    }
    if (i == rest.size()) break;
    int d = int(rest[i]);
    push(x.sizes()[d], x.strides()[d], x.sizes()[d]);
    p.result.push_back(x.sizes()[d]);
  }
  return p;
}

Tensor index_advanced_body(const Tensor& x, const Items& items) {
  for (const IndexItem& i : items)
    TG_CHECK(i.kind != Kind::Tensor || i.tensor.device() == x.device(), DeviceError,
             "index: expected all tensors on one device, got ", x.device(), " and ", i.tensor.device());
  Plan p = make_plan("index", x, items);
  Tensor out = empty_tensor(p.flat, x.dtype(), x.device());
  if (out.numel() > 0) backend(x.device()).gather(p.line, p.axis, p.index(), View(out));
  return reshape(out, p.result);
}
Tensor index_advanced_grad(GradCtx& c) {
  return index_put_(zeros(c.shape(0), c.g().dtype(), c.g().device()), c.arg<const Items&>(1), c.g(), true);
}

// ---- reading

bool is_whole(const Items& basic) {
  for (const IndexItem& i : basic)
    if (i.kind != Kind::Ellipsis && (i.kind != Kind::Slice || i.slice.start || i.slice.stop || i.slice.step))
      return false;
  return true;
}

Tensor read(const Tensor& x, const Parts& p) {
  if (!p.advanced) return index_basic(x, p.basic);
  return index_advanced(is_whole(p.basic) ? x : index_basic(x, p.basic), p.tensors);
}
Tensor getitem_body(const Tensor& x, const Items& items) { return read(x, Parser("index", x, items).parts); }

// ---- writing

// PyTorch lets a value have more leading dimensions of size 1 than the place it goes to.
Tensor fit(const char* op, const Tensor& value, const Dims& place) {
  Tensor v = value;
  while (v.ndim() > place.size() && v.sizes()[0] == 1) v = squeeze(v, 0);
  TG_CHECK(broadcastable_to(v.sizes(), place), ShapeError, op, ": value of size ", value.sizes(),
           " does not broadcast to the indexed size ", place, "; value=", describe(value));
  return v;
}

Tensor as_tensor(const char* op, const Tensor& like, const Operand& value) {
  if (value.is_tensor()) {
    TG_CHECK(value.tensor().device() == like.device() || value.tensor().ndim() == 0, DeviceError, op,
             ": values must be on the device of input; input=", describe(like), ", values=", describe(value));
    return to(value.tensor(), like);
  }
  return full({}, checked_scalar(op, value.scalar(), like.dtype()), like.dtype(), like.device());
}

// Writes into x itself, below the tape.
void put_into(const char* op, const Tensor& x, const Items& items, const Operand& values, bool accumulate) {
  Parts parts = Parser(op, x, items).parts;
  Tensor place = view_of(x, basic_geometry(op, geometry_of(x), parts.basic)), v = as_tensor(op, x, values);
  if (may_overlap(geometry_of(place)))
    fail<ValueError>(
        op, ": several elements of the tensor written share one memory location; clone it first; input=", describe(x));
  if (x.impl()->storage == v.impl()->storage) v = clone(v);
  if (!parts.advanced) {
    v = fit(op, v, place.sizes());
    return copy_into(place, accumulate ? place + v : v);
  }
  Plan p = make_plan(op, place, parts.tensors);
  v = fit(op, v, p.result);
  if (p.position.numel() == 0 || place.numel() == 0) return;
  v = v.ndim() == 0 ? v : reshape(expand(v, p.result), p.flat);
  backend(x.device())
      .scatter(accumulate ? ScatterOp::Add : ScatterOp::Set, broadcast_to_view(v, p.flat), p.axis, p.index(), p.line);
}

Tensor index_put_body(const Tensor& x, const Items& items, const Operand& values, bool accumulate) {
  Tensor out = clone(x);
  put_into("index_put", out, items, values, accumulate);
  return out;
}
void index_put_inplace(Args a, Outputs&) {
  put_into("index_put_", a[0].tensor(), a[1].index(), Unbox<const Operand&>::get(a[2]), a[3].i() != 0);
}
Tensor index_put_grad_input(GradCtx& c) { return c.arg<bool>(3) ? c.g() : index_put(c.g(), c.arg<const Items&>(1), 0); }
// Sums to a value with extra leading dimensions of size 1, which the engine's own summing does not know.
Tensor index_put_grad_values(GradCtx& c) {
  Tensor g = getitem(c.g(), c.arg<const Items&>(1));
  Dims sizes = c.shape(2);
  while (sizes.size() > g.ndim()) sizes.erase(0);
  return reshape(sum_to_size(g, sizes), c.shape(2));
}

// x[...] = value
Tensor setitem_body(const Tensor& x, const Items& items, const Operand& value) {
  Parser parser("index", x, items);
  const Parts& p = parser.parts;
  if (p.advanced) {
    index_put_(x, items, value);
    return x;
  }
  Tensor place = index_basic(x, p.basic);
  if (value.is_tensor())
    copy_(place, fit("index", value.tensor(), place.sizes()));
  else
    fill_(place, value);
  return x;
}

TG_OP("getitem(Tensor input, Index indices) -> Tensor",
      .doc = "input[indices]: a view for integers, slices, None and Ellipsis; a copy with integer or bool tensors.",
      .composite = box<getitem_body>, .flags = kHidden, .torch = "Tensor.__getitem__",
      .samples =
          "T(3,4), IDX('1'); T(3,4), IDX('1:3, ::2'); T(3,4), IDX('..., None, 2'); T(2,3,4), IDX('None, 0, ..., "
          "1::2'); T(3,4), IDX('L(0, 2, 0)'); T(3,4), IDX(':, L(3, -1)'); T(2,3,4), IDX('L(0, 1), :, L(2, 3)'); "
          "T(3,4), IDX('I(2,2, hi=3)'); T(2,3,4), IDX('0, L(0, 2), L(1, 1)'); T(3), IDX('L(True, False, True)'); "
          "T(3,4), IDX('True'); T(3,4), IDX('False'); T(), IDX('...'); T(3,4), IDX('B(3,4)'); T(2,3,4), IDX('L(True, "
          "False), :, L(1)'); T(2,3,4), IDX('I(hi=2), ..., L(1, 2)'); T(2,3,4,2), IDX(':, I(2,1, hi=3), L(0, 3), 1'); "
          "T(5,0), IDX('L(1, 2)'); T(2,3,4), IDX('None, L(0, 1), :, None, L(2, 0)')");
TG_OP("index_basic(Tensor input, Index indices) -> Tensor",
      .doc = "getitem of integers, slices, None and Ellipsis only: a view.", .primitive = box<index_basic_body>,
      .grads = {{0, index_basic_grad}}, .flags = kView | kHidden, .torch = "none",
      .samples = "T(3,4), IDX('1'); T(3,4), IDX('1:3, ::-1'); T(3,4), IDX('..., None, 2'); T(5), IDX('::-2')");
TG_OP("index_advanced(Tensor input, Index indices) -> Tensor",
      .doc = "getitem of one checked int64 tensor or full slice per dimension.", .primitive = box<index_advanced_body>,
      .grads = {{0, index_advanced_grad}}, .flags = kHidden, .torch = "Tensor.__getitem__",
      .samples =
          "T(3,4), IDX('L(0, 2, 0)'); T(3,4), IDX(':, L(3, 1)'); T(2,3,4), IDX('L(0, 1), :, L(2, 3)'); T(2,3,4), "
          "IDX(':, L(0, 2), I(2,1, hi=4)')");
TG_OP("index_put(Tensor input, Index indices, Operand values, bool accumulate=False) -> Tensor",
      .doc =
          "Copy of input with values at input[indices], which they broadcast to; added to what is there if accumulate "
          "is set.",
      .primitive = box<index_put_body>, .inplace = index_put_inplace,
      .grads = {{0, index_put_grad_input}, {}, {0, index_put_grad_values}}, .flags = kMakeInplace,
      .autocast = Autocast::Widest,
      .samples =
          "T(3,4), IDX('L(0, 2),'), T(2,4); T(3,4), IDX('L(0, 2), L(1, 3)'), T(2); T(3,4), IDX('L(0, 0),'), T(4), "
          "accumulate=True; T(5), IDX('L(1, 3),'), T(); T(2,3,4), IDX('L(0, 1, 0), L(2, 0, 2)'), T(3,4), True; T(3,4), "
          "IDX('B(3,4),'), T(); T(3,4), IDX('L(-1, 0),'), T(1)");
TG_OP("setitem_(Tensor input, Index indices, Operand value) -> Tensor", .doc = "input[indices] = value.",
      .composite = box<setitem_body>, .flags = kHidden | kNoGrad | kAnyDevices, .torch = "none",
      .samples =
          "C(3,4), IDX('1'), C(4); C(3,4), IDX('1:3, ::-1'), C(2,4); C(3,4), IDX('L(0, 2)'), C(2,4); C(3,4), IDX('..., "
          "2'), 1.5; C(3,4), IDX('B(3,4)'), 0.0; C(3,4), IDX('0'), C(1,1,4)",
      .notes = "inplace");

}  // namespace

Tensor Tensor::operator[](std::initializer_list<IndexItem> items) const { return getitem(*this, Items(items)); }
Tensor Tensor::operator[](int64_t i) const { return tg::select(*this, 0, i); }

}  // namespace tg
