#include "core/grad_ctx.h"

#include "core/op.h"

namespace tg {

GradOperand::operator const Tensor&() const {
  if (is_tensor()) return tensor();
  if (!held_.defined()) {
    const Scalar& s = scalar();
    held_ = empty_tensor({}, s.is_float() ? DType::F64 : s.dtype());
    if (s.is_float())
      *held_.data<double>() = s.d();
    else if (held_.dtype() == DType::Bool)
      *held_.data<bool>() = s.b();
    else
      *held_.data<int64_t>() = s.i();
  }
  return held_;
}

static Tensor unpack(const SavedTensor& s, const OpDef& op, const char* what, int i) {
  TG_CHECK(s.tensor.defined(), AutogradError, op.base, ": backward read ", what, " ", i,
           ", which its rule did not declare or which was already freed; call backward with retain_graph=True to go "
           "through a graph twice");
  TG_CHECK(s.tensor.version() == s.version, AutogradError, op.base, ": ", what, " ", i, " (", describe(s.tensor),
           ") is needed for the gradient of ", op.base, " but was modified in place by ",
           s.tensor.impl()->storage->last_writer, " since; it is at version ", s.tensor.version(),
           ", expected version ", s.version);
  return s.tensor;
}

Tensor GradCtx::x(int i) const { return unpack(call_.inputs[i], *call_.op, "input", i); }

GradOperand GradCtx::a(int i) const {
  if (call_.first_edge[i] < 0) return GradOperand(call_.values[i].scalar());
  return GradOperand(x(i));
}

Tensor* GradCtx::sum_so_far(int i) const {
  return node_ && slots().gradient_so_far ? slots().gradient_so_far(*node_, call_.first_edge[i]) : nullptr;
}

int GradCtx::list_size(int i) const {
  int next = call_.metas.size();
  for (int j = i + 1; j < call_.first_edge.size(); ++j)
    if (call_.first_edge[j] >= 0) {
      next = call_.first_edge[j];
      break;
    }
  return call_.first_edge[i] < 0 ? 0 : next - call_.first_edge[i];
}

}  // namespace tg
