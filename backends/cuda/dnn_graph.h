// cuDNN's graphs: operations described by objects whose attributes are set by number, and plans to compute them. The
// numbers are those of cudnn_graph.h of cuDNN 9.24; those used of 9.19 are the same.
#pragma once
#include "backends/cuda/dnn.h"

namespace tg::cuda {

using DnnObject = void*;  // cudnnBackendDescriptor_t

enum DnnKind : int {
  kDnnEngine = 2,
  kDnnEngineConfig = 3,
  kDnnHeuristics = 4,
  kDnnPlan = 5,
  kDnnOperationGraph = 15,
  kDnnVariantPack = 16,
  kDnnGraphTensor = 17,
  kDnnAttention = 41,  // CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR, since 9.13
  kDnnBandMask = 44,   // CUDNN_BACKEND_OPERATION_DIAGONAL_BAND_MASK_DESCRIPTOR, since 9.20
};

// CUDNN_ATTR_...
enum DnnAttribute : int {
  kDnnHeuristicsMode = 200,
  kDnnHeuristicsGraph = 201,
  kDnnHeuristicsResults = 202,
  kDnnConfigEngine = 300,
  kDnnPlanHandle = 400,
  kDnnPlanConfig = 401,
  kDnnPlanWorkspace = 402,
  kDnnGraphHandle = 800,
  kDnnGraphOperations = 801,
  kDnnTensorAlignment = 900,
  kDnnTensorType = 901,
  kDnnTensorSizes = 902,
  kDnnTensorStrides = 903,
  kDnnTensorId = 906,
  kDnnTensorVirtual = 907,  // never in memory
  kDnnTensorByValue = 908,  // a number that the host gives
  kDnnPackIds = 1000,
  kDnnPackPointers = 1001,
  kDnnPackWorkspace = 1003,
  kDnnEngineNotes = 1303,  // ENGINE_NUMERICAL_NOTE
  kDnnAttentionQ = 2800,
  kDnnAttentionK = 2801,
  kDnnAttentionV = 2802,
  kDnnAttentionO = 2803,
  kDnnAttentionScale = 2805,
  kDnnAttentionSubgraph = 2811,  // what is done to the scores before softmax; since 9.21
  kDnnAttentionSubgraphIn = 2812,
  kDnnAttentionSubgraphOut = 2813,
  kDnnMaskX = 3000,
  kDnnMaskFill = 3005,
  kDnnMaskY = 3006,
  kDnnMaskCompare = 3007,
};

// The types of attributes (cudnnBackendAttributeType_t), by what they are in C++.
enum class DnnHeuristicsBy : int { A = 3 };                                            // cudnnBackendHeurMode_t
enum class DnnNote : int { DownConverts = 1, ReducedSums = 2, Nondeterministic = 4 };  // cudnnBackendNumericalNote_t
enum class DnnCompare : int { GreaterEqual = 303 };                                    // cudnnPointwiseMode_t
template <class T>
inline constexpr int kDnnTypeOf = -1;
template <>
inline constexpr int kDnnTypeOf<DnnHandle> = 0;
template <>
inline constexpr int kDnnTypeOf<DnnType> = 1;
template <>
inline constexpr int kDnnTypeOf<bool> = 2;
template <>
inline constexpr int kDnnTypeOf<int64_t> = 3;
template <>
inline constexpr int kDnnTypeOf<const void*> = 6;
template <>
inline constexpr int kDnnTypeOf<DnnHeuristicsBy> = 8;
template <>
inline constexpr int kDnnTypeOf<DnnNote> = 11;
template <>
inline constexpr int kDnnTypeOf<DnnCompare> = 14;
template <>
inline constexpr int kDnnTypeOf<DnnObject> = 15;

struct DnnGraphs {
  size_t (*version)();  // 92400 is 9.24.0
  DnnStatus (*create)(DnnKind, DnnObject*);
  DnnStatus (*destroy)(DnnObject);
  DnnStatus (*set)(DnnObject, DnnAttribute, int type, int64_t n, const void* values);
  // `values` null: how many there are.
  DnnStatus (*get)(DnnObject, DnnAttribute, int type, int64_t room, int64_t* n, void* values);
  DnnStatus (*finalize)(DnnObject);
  DnnStatus (*execute)(DnnHandle, DnnObject plan, DnnObject pack);
};

// Of the library that dnn() found.
const DnnGraphs& dnn_graphs(const Dnn& d);

// One object. Once a call about it failed, further ones do nothing, and finalize() is false.
class DnnNode {
 public:
  DnnNode(const DnnGraphs& lib, DnnKind kind) : lib_(&lib) { ok_ = dnn_succeeded(lib.create(kind, &object_)); }
  DnnNode(const DnnNode&) = delete;
  DnnNode& operator=(const DnnNode&) = delete;
  ~DnnNode() {
    if (object_) lib_->destroy(object_);
  }

  template <class T>
  DnnNode& set(DnnAttribute a, const T* values, int64_t n) {
    static_assert(kDnnTypeOf<T> >= 0);
    ok_ = ok_ && dnn_succeeded(lib_->set(object_, a, kDnnTypeOf<T>, n, values));
    return *this;
  }
  template <class T>
  DnnNode& set(DnnAttribute a, const T& value) {
    return set(a, &value, 1);
  }
  DnnNode& set(DnnAttribute a, const DnnNode& value) { return set(a, &value.object_, 1); }
  bool finalize() { return ok_ = ok_ && dnn_succeeded(lib_->finalize(object_)); }
  // At most `room` values; how many there were, or -1.
  template <class T>
  int64_t get(DnnAttribute a, T* values, int64_t room) const {
    int64_t n = 0;
    const bool ok = ok_ && dnn_succeeded(lib_->get(object_, a, kDnnTypeOf<T>, room, &n, values));
    return ok ? n : -1;
  }
  DnnObject object() const { return object_; }

 private:
  const DnnGraphs* lib_;
  DnnObject object_ = nullptr;
  bool ok_;
};

}  // namespace tg::cuda
