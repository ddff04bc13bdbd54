// In-place ops on tensors with history, and views of tensors that were edited in place.
#include "autograd/autograd.h"
#include "autograd/node.h"
#include "ops/ops.h"
#include "ops/pointwise.h"

namespace tg {
namespace {

// Where a view lies in its base's elements. The base is dense, so that with its dimensions in memory order its flat
// buffer is the base itself.
struct Window {
  Dims sizes, strides, order, back;
  int64_t offset = 0, base_numel = 0;
  Window(const Tensor& view, const Tensor& base)
      : sizes(view.sizes()),
        strides(view.strides()),
        offset(view.storage_offset() - base.storage_offset()),
        base_numel(base.numel()) {
    TG_CHECK(
        is_dense(base.sizes(), base.strides(), order), AutogradError,
        "in-place edit of a view whose base has gaps in memory is not supported with gradients; base=", describe(base));
    int64_t first = offset, last = offset;  // elements of the base
    for (int d = 0; d < sizes.size(); ++d) (strides[d] < 0 ? first : last) += (sizes[d] - 1) * strides[d];
    TG_CHECK(view.numel() == 0 || (first >= 0 && last < base_numel), AutogradError,
             "a view that was resized beyond its base has no gradient there; self=", describe(view),
             ", base=", describe(base));
    back = Dims::filled(order.size(), 0);
    for (int i = 0; i < order.size(); ++i) back[int(order[i])] = i;
  }
  Tensor read(const Tensor& base_grad) const {
    return strided_gather(reshape(permute(base_grad, order), {base_numel}), sizes, strides, offset);
  }
  Tensor spread(const Tensor& view_grad, const Dims& base_sizes) const {
    Dims in_memory;
    for (int64_t d : order) in_memory.push_back(base_sizes[int(d)]);
    return permute(reshape(strided_scatter(view_grad, sizes, strides, offset, base_numel), in_memory), back);
  }
};

// base -> view, made when a view is used after its base changed.
struct ViewNode final : Node {
  Window window;
  Meta base, view;
  ViewNode(const Tensor& v, const Tensor& b) : window(v, b), base(meta_info(b)), view(meta_info(v)) {
    next.push_back(edge_of(b));
  }
  std::string name() const override { return "AsStridedBackward0"; }
  const char* forward() const override { return "a view of a tensor edited in place"; }
  void apply(const Tensor* grads, const bool* needs, Tensor* results) override {
    if (needs[0]) results[0] = window.spread(grads[0], base.sizes);
  }
  const Meta& input_meta(int) const override { return base; }
  const Meta& output_meta(int) const override { return view; }
};

// base -> base with one view of it replaced by inner(view, ...). Edge 0 is the base, the rest are inner's other inputs.
struct CopySlices final : Node {
  Window window;
  Meta base;
  Ref<OpNode> inner;  // its edge 0 (the old view) is answered here
  CopySlices(const Tensor& v, const Tensor& b, Ref<OpNode> in)
      : window(v, b), base(meta_info(b)), inner(std::move(in)) {
    next.push_back(edge_of(b));
    for (int i = 1; i < inner->next.size(); ++i) next.push_back(inner->next[i]);
    inner->next.resize(0);
  }
  std::string name() const override { return "CopySlices"; }
  const char* forward() const override { return inner->forward(); }
  void apply(const Tensor* grads, const bool* needs, Tensor* results) override {
    Tensor g_view = window.read(grads[0]);
    inner->apply(&g_view, needs, results);
    if (!needs[0]) return;
    Tensor covered = window.spread(ones(window.sizes, base.dtype, base.device), base.sizes);
    Tensor kept = where(gt(covered, 0.0), 0.0, grads[0]);
    results[0] = results[0].defined() ? kept + window.spread(sum_to_size(results[0], window.sizes), base.sizes) : kept;
  }
  void release_saved() override { inner->release_saved(); }
  const Meta& input_meta(int i) const override { return i == 0 ? base : inner->input_meta(i); }
  const Meta& output_meta(int) const override { return base; }
};

bool is_tracked_view(const Tensor& t) { return t.impl()->base && !t.impl()->untracked_view; }

// The value of `self` before the edit, with its history: what the gradient of an in-place op reads as input 0.
Tensor copy_before_edit(const Tensor& self) {
  Edge e = edge_of(self);
  Tensor c = [&] {
    NoGrad guard;
    return clone(self);
  }();
  if (e.node) set_history(c, e.node, e.slot);
  return c;
}

// Arguments of an in-place op in which what shares memory with the first, and is in `reads`, is a copy made before.
class ArgsBeforeEdit {
 public:
  ArgsBeforeEdit(Args args, Reads reads) : copies_(size_t(args.n)), values_(args.begin(), args.end()) {
    const Tensor& self = args[0].tensor();
    for (int i = 0; i < args.n; ++i) {
      bool written = args[i].is_tensor() && args[i].tensor().impl()->storage == self.impl()->storage;
      if (!written || !(reads & in(i))) continue;
      copies_[size_t(i)] = i == 0 ? copy_before_edit(self) : clone(args[i].tensor());
      values_[size_t(i)] = Value(copies_[size_t(i)]);
    }
  }
  Args args() const { return {values_.data(), int(values_.size())}; }

 private:
  std::vector<Tensor> copies_;
  std::vector<Value> values_;
};

// squeeze_ and the like: the elements stay, the history is that of the view op on what `self` was.
void record_geometry(const OpDef& op, Args args, Outputs& out) {
  const Tensor& self = args[0].tensor();
  Edge e = edge_of(self);
  Tensor before = without_history(self);
  set_history(before, e.node, e.slot);
  std::vector<Value> values(args.begin(), args.end());
  values[0] = Value(before);
  Outputs view;
  call(*op.inplace_of, {values.data(), args.n}, view);
  execute_inplace(op, args, out);
  Edge after = edge_of(view[0]);
  set_history(self, after.node, after.slot);
}

void record_inplace(const OpDef& op, Args args, Outputs& out) {
  const Tensor& self = args[0].tensor();
  const OpDef& base_op = *op.inplace_of;
  const Tensor root = is_tracked_view(self) ? Tensor(self.impl()->base) : self;
  TG_CHECK(!(root.is_leaf() && root.requires_grad()), AutogradError, op.base,
           is_tracked_view(self) ? ": a view of a leaf tensor that requires gradients"
                                 : ": a leaf tensor that requires gradients",
           " is being used in an in-place operation; self=", describe(self));
  if (base_op.spec.flags & kView) return record_geometry(op, args, out);
  if (!base_op.spec.primitive) {  // composite: compute on the tape from the value before, then copy in place
    ArgsBeforeEdit before(args, ~Reads(0));
    Outputs r;
    base_op.spec.composite(before.args(), r);
    TG_CHECK(can_cast(r[0].dtype(), self.dtype()), DTypeError, op.base, ": result type ", r[0].dtype(),
             " can't be cast to ", self.dtype(), "; self=", describe(self));
    copy_(self, r[0]);
    return;
  }
  TG_CHECK(is_float(self.dtype()), DTypeError, op.base, ": a ", self.dtype(),
           " tensor can't hold the gradient history of the other operands; self=", describe(self));
  Ref<OpNode> node = make_op_node(base_op, args);
  Reads reads = base_op.spec.joint.reads;
  for (const Grad& g : base_op.spec.grads) reads |= g.reads;
  ArgsBeforeEdit before(args, reads);
  execute_inplace(op, args, out);
  Outputs result;
  result.push_back(self);
  save_values(*node, before.args(), result);
  if (!is_tracked_view(self)) return set_history(self, node, 0);
  set_history(root, make_ref<CopySlices>(self, root, node), 0);
  rebuild_view_history(self);
}

const bool inplace_installed = [] { return slots().record_inplace = record_inplace, true; }();

}  // namespace

void rebuild_view_history(const Tensor& t) {
  Tensor base(t.impl()->base);
  set_history(t, make_ref<ViewNode>(t, base), 0);
}

}  // namespace tg
