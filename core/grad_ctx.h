// What a gradient rule sees: incoming gradients, the values it declared to read, the op's other arguments.
#pragma once
#include "core/small_vec.h"
#include "core/value.h"

namespace tg {

struct OpDef;
// Which saved values a gradient reads: in(i) and out(j) bits, see core/op.h.
using Reads = uint32_t;

// A tensor kept for backward together with the storage version it had; reading it after an in-place edit is an error.
struct SavedTensor {
  Tensor tensor;
  uint32_t version = 0;
  int output = -1;  // which output of the node it is, -1 for inputs; outputs are kept without history: no cycle
};

// Copy of a call's arguments that outlives the call. Tensors are kept only where a rule reads them.
class SavedCall {
 public:
  const OpDef* op = nullptr;
  Reads kept = 0;                    // what the needed gradients read
  SmallVec<Value, 6> values;         // non-tensor arguments, lists re-pointed into `ints`/`floats`/`strings`
  SmallVec<SavedTensor, 3> inputs;   // by argument position, empty where not read
  SmallVec<SavedTensor, 1> outputs;  // by output position, empty where not read
  struct Meta {
    Dims sizes;
    DType dtype = DType::F32;
    Device device;
  };
  // One per tensor argument and list element, in order; edges of the node have the same order.
  SmallVec<Meta, 3> metas;
  SmallVec<int, 6> first_edge;  // argument position -> index into metas, -1 if it holds no tensor
  SmallVec<Meta, 1> out_metas;
  std::vector<std::unique_ptr<std::vector<int64_t>>> ints;
  std::vector<std::unique_ptr<std::vector<double>>> floats;
  std::vector<std::unique_ptr<std::string>> strings;
  std::vector<std::unique_ptr<std::vector<IndexItem>>> indices;
};

// Operand of an element-wise op as its gradient sees it: usable as a tensor or as an Operand, keeps the tensor alive.
class GradOperand : public Operand {
 public:
  explicit GradOperand(Tensor t) : Operand(held_), held_(std::move(t)) {}
  explicit GradOperand(Scalar s) : Operand(s) {}
  GradOperand(const GradOperand&) = delete;
  GradOperand& operator=(const GradOperand&) = delete;
  // A number becomes a 0-d tensor (float64 for floats: promotion then keeps the other operand's type).
  TG_API operator const Tensor&() const;

 private:
  mutable Tensor held_;
};

// Nobody else sees this tensor or its memory, so whoever holds it may write there.
inline bool unshared(const Tensor& t) {
  const Storage& s = *t.impl()->storage;
  return t.impl()->use_count() == 1 && s.use_count() == 1 && !s.free_external;
}
// Besides, it is numbers and nothing else (no history, no Python object, no flag), so another tensor's may take its
// place.
inline bool reusable(const Tensor& t) {
  const TensorImpl& i = *t.impl();
  return unshared(t) && i.contiguous && !i.requires_grad && !i.autograd && !i.py && !i.is_inference && !i.is_parameter;
}

class TG_API GradCtx {
 public:
  GradCtx(const SavedCall& call, Node* node, const Tensor* grads, const bool* needs, Tensor* results)
      : call_(call), node_(node), grads_(grads), needs_(needs), results_(results) {}
  // Gradient of output j. Undefined if that output was not used; ops with one output always have it.
  const Tensor& g(int j = 0) const { return grads_[j]; }
  // Gradient of output j, zeros if it was not used.
  Tensor g_or_zeros(int j) const;
  // Saved tensor argument i with its history; AutogradError if it was edited in place since.
  Tensor x(int i) const;
  // Argument i of an element-wise op: the saved tensor or the number.
  GradOperand a(int i) const;
  // Saved output j, as a result of the recorded op (so that second derivatives work).
  Tensor y(int j = 0) const;
  // Non-tensor argument i.
  template <class T>
  decltype(auto) arg(int i) const {
    return Unbox<T>::get(call_.values[i]);
  }
  // True if the value (an in(i) or out(j) bit) was kept for this call.
  bool reads(Reads r) const { return (call_.kept & r) != 0; }
  bool is_none(int i) const { return call_.values[i].is_none() && call_.first_edge[i] < 0; }
  // Sizes and dtype of tensor argument i (or element k of a list), kept without keeping the tensor.
  const Dims& shape(int i, int k = 0) const { return call_.metas[call_.first_edge[i] + k].sizes; }
  DType dtype(int i, int k = 0) const { return call_.metas[call_.first_edge[i] + k].dtype; }
  Device device() const { return call_.out_metas[0].device; }
  // Whether a rule for argument i may write into g(), as a contiguous result of the same size: nobody else sees its
  // memory, and the rules of later arguments will not read it.
  bool last_use_of_g(int i) const {
    if (!reusable(grads_[0])) return false;
    for (int j = i + 1; j < call_.first_edge.size(); ++j)
      if (needs(j)) return false;
    return true;
  }
  // Number of tensors in list argument i.
  int list_size(int i) const;
  // True if the gradient of argument i (element k of a list) is wanted.
  bool needs(int i, int k = 0) const { return call_.first_edge[i] >= 0 && needs_[call_.first_edge[i] + k]; }
  // The sum of the gradients that have arrived for argument i, if a rule may add its own to it in place and return
  // nothing: for those that touch a small part of a large tensor. Null otherwise. Only where needs(i).
  Tensor* sum_so_far(int i) const;
  void set(int i, Tensor g) { results_[call_.first_edge[i]] = std::move(g); }
  void set(int i, int k, Tensor g) { results_[call_.first_edge[i] + k] = std::move(g); }
  const SavedCall& call() const { return call_; }

 private:
  const SavedCall& call_;
  Node* node_;
  const Tensor* grads_;
  const bool* needs_;
  Tensor* results_;
};

}  // namespace tg
