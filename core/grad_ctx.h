// What a gradient rule sees: incoming gradients, the values it declared to read, the op's other arguments.
#pragma once
#include "core/small_vec.h"
#include "core/value.h"

namespace tg {

struct OpDef;

// A tensor kept for backward together with the storage version it had; reading it after an in-place edit is an error.
struct SavedTensor {
  Tensor tensor;
  uint32_t version = 0;
  bool is_output = false;  // outputs are kept without their own history, to avoid a cycle
};

// Copy of a call's arguments that outlives the call. Tensors are kept only where a rule reads them.
class SavedCall {
 public:
  const OpDef* op = nullptr;
  SmallVec<Value, 6> values;        // non-tensor arguments, lists re-pointed into `ints`/`floats`/`strings`
  SmallVec<SavedTensor, 3> inputs;  // by argument position, empty where not read
  SmallVec<SavedTensor, 1> outputs; // by output position, empty where not read
  struct Meta {
    Dims sizes;
    DType dtype = DType::F32;
    Device device;
  };
  // One per tensor argument and list element, in order; edges of the node have the same order.
  SmallVec<Meta, 3> metas;
  SmallVec<int, 6> first_edge;      // argument position -> index into metas, -1 if it holds no tensor
  SmallVec<Meta, 1> out_metas;
  std::vector<std::unique_ptr<std::vector<int64_t>>> ints;
  std::vector<std::unique_ptr<std::vector<double>>> floats;
  std::vector<std::unique_ptr<std::string>> strings;
  std::vector<std::unique_ptr<std::vector<IndexItem>>> indices;
};

class TG_API GradCtx {
 public:
  GradCtx(const SavedCall& call, const Tensor* grads, const bool* needs, Tensor* results)
      : call_(call), grads_(grads), needs_(needs), results_(results) {}
  // Gradient of output j. Undefined if that output was not used; ops with one output always have it.
  const Tensor& g(int j = 0) const { return grads_[j]; }
  // Gradient of output j, zeros if it was not used.
  Tensor g_or_zeros(int j) const;
  // Saved tensor argument i with its history; AutogradError if it was edited in place since.
  Tensor x(int i) const;
  // Argument i of an element-wise op: the saved tensor or the number.
  Operand a(int i) const;
  // Saved output j, as a result of the recorded op (so that second derivatives work).
  Tensor y(int j = 0) const;
  // Non-tensor argument i.
  template <class T>
  decltype(auto) arg(int i) const {
    return Unbox<T>::get(call_.values[i]);
  }
  bool is_none(int i) const { return call_.values[i].is_none() && call_.first_edge[i] < 0; }
  // Sizes and dtype of tensor argument i (or element k of a list), kept without keeping the tensor.
  const Dims& shape(int i, int k = 0) const { return call_.metas[call_.first_edge[i] + k].sizes; }
  DType dtype(int i, int k = 0) const { return call_.metas[call_.first_edge[i] + k].dtype; }
  Device device() const { return call_.out_metas[0].device; }
  const Dims& out_shape(int j = 0) const { return call_.out_metas[j].sizes; }
  // Number of tensors in list argument i.
  int list_size(int i) const;
  // True if the gradient of argument i (element k of a list) is wanted.
  bool needs(int i, int k = 0) const { return call_.first_edge[i] >= 0 && needs_[call_.first_edge[i] + k]; }
  void set(int i, Tensor g) { results_[call_.first_edge[i]] = std::move(g); }
  void set(int i, int k, Tensor g) { results_[call_.first_edge[i] + k] = std::move(g); }
  const SavedCall& call() const { return call_; }

  // Keeps operands returned by a() alive (Operand borrows).
 private:
  const SavedCall& call_;
  const Tensor* grads_;
  const bool* needs_;
  Tensor* results_;
  mutable Tensor held_[8];
};

}  // namespace tg
