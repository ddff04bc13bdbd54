// cuDNN's graphs for the emulation: objects that check what is set as the library does, and attention in plain loops.
// The heuristics begin with what nobody may take: an engine whose sums have no fixed order, one that wants more memory
// than there is, and one that turns out not to be supported. TG_EMU_DNN_VERSION is another version than 92400;
// TG_EMU_DNN_WRONG makes attention wrong in one respect:
//   mask, scale            one key more is seen, the scale is half as much again
//   first, middle, tail    one row is not written
//   nan                    one number in the middle is none
//   late                   the last 16 rows are 0
//   keys                   the last 64 keys are left out
//   refuse                 a plan fails when it is run, with an error left behind
#include "backends/cuda/dnn_graph.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "backends/cuda/emu/emu.h"
#include "core/convert.h"

namespace tg::cuda {
cudaStream_t emulated_dnn_stream(DnnHandle h);  // dnn.cpp
DnnStatus emulated_refusal();

namespace {

// ---- objects

struct AttributeValue {
  int type = -1;
  std::vector<char> bytes;
  template <class T>
  std::vector<T> all() const {
    std::vector<T> v(bytes.size() / sizeof(T));
    if (!v.empty()) std::memcpy(v.data(), bytes.data(), v.size() * sizeof(T));
    return v;
  }
};

struct GraphObject {
  DnnKind kind;
  bool final = false;
  int engine = -1;  // of engines and their configurations, which cuDNN fills
  std::map<int, AttributeValue> values;

  bool has(DnnAttribute a) const { return values.count(a) > 0; }
  template <class T>
  T one(DnnAttribute a) const {
    T x;
    std::memcpy(&x, values.at(a).bytes.data(), sizeof x);
    return x;
  }
  const GraphObject& object(DnnAttribute a) const { return *static_cast<const GraphObject*>(one<DnnObject>(a)); }
  std::vector<int64_t> sizes() const { return values.at(kDnnTensorSizes).all<int64_t>(); }
  std::vector<int64_t> strides() const { return values.at(kDnnTensorStrides).all<int64_t>(); }
  int64_t id() const { return one<int64_t>(kDnnTensorId); }
  DnnType type() const { return one<DnnType>(kDnnTensorType); }
  bool is(DnnAttribute flag) const { return has(flag) && one<bool>(flag); }
};
GraphObject& object_at(DnnObject o) { return *static_cast<GraphObject*>(o); }

enum EmulatedEngine : int { kUnordered, kHungry, kUnsupported, kGood, kEngines };
constexpr int64_t kWorkspaceOf[] = {0, int64_t(1) << 40, 0, 256};

// An attribute of a kind of object: its type, and whether an object is final without it.
struct AttributeRule {
  DnnKind kind;
  DnnAttribute attribute;
  int type;
  bool required;
  size_t n;  // 0: any number
};
template <class T>
constexpr AttributeRule attribute_rule(DnnKind k, DnnAttribute a, bool required = true, size_t n = 1) {
  return {k, a, kDnnTypeOf<T>, required, n};
}
constexpr AttributeRule kAttributeRules[] = {
    attribute_rule<int64_t>(kDnnGraphTensor, kDnnTensorId),
    attribute_rule<DnnType>(kDnnGraphTensor, kDnnTensorType),
    attribute_rule<int64_t>(kDnnGraphTensor, kDnnTensorAlignment),
    attribute_rule<int64_t>(kDnnGraphTensor, kDnnTensorSizes, true, 0),
    attribute_rule<int64_t>(kDnnGraphTensor, kDnnTensorStrides, true, 0),
    attribute_rule<bool>(kDnnGraphTensor, kDnnTensorVirtual, false),
    attribute_rule<bool>(kDnnGraphTensor, kDnnTensorByValue, false),
    attribute_rule<DnnObject>(kDnnBandMask, kDnnMaskX),
    attribute_rule<DnnObject>(kDnnBandMask, kDnnMaskFill),
    attribute_rule<DnnObject>(kDnnBandMask, kDnnMaskY),
    attribute_rule<DnnCompare>(kDnnBandMask, kDnnMaskCompare),
    attribute_rule<DnnObject>(kDnnAttention, kDnnAttentionQ),
    attribute_rule<DnnObject>(kDnnAttention, kDnnAttentionK),
    attribute_rule<DnnObject>(kDnnAttention, kDnnAttentionV),
    attribute_rule<DnnObject>(kDnnAttention, kDnnAttentionO),
    attribute_rule<DnnObject>(kDnnAttention, kDnnAttentionScale, false),
    attribute_rule<DnnObject>(kDnnAttention, kDnnAttentionSubgraph, false),
    attribute_rule<int64_t>(kDnnAttention, kDnnAttentionSubgraphIn, false),
    attribute_rule<int64_t>(kDnnAttention, kDnnAttentionSubgraphOut, false),
    attribute_rule<DnnObject>(kDnnOperationGraph, kDnnGraphOperations, true, 0),
    attribute_rule<DnnHandle>(kDnnOperationGraph, kDnnGraphHandle, false),
    attribute_rule<DnnObject>(kDnnHeuristics, kDnnHeuristicsGraph),
    attribute_rule<DnnHeuristicsBy>(kDnnHeuristics, kDnnHeuristicsMode),
    attribute_rule<DnnHandle>(kDnnPlan, kDnnPlanHandle),
    attribute_rule<DnnObject>(kDnnPlan, kDnnPlanConfig),
    attribute_rule<int64_t>(kDnnVariantPack, kDnnPackIds, true, 0),
    attribute_rule<const void*>(kDnnVariantPack, kDnnPackPointers, true, 0),
    attribute_rule<const void*>(kDnnVariantPack, kDnnPackWorkspace),
};

size_t attribute_bytes(int type) {
  return type == kDnnTypeOf<bool> ? 1
         : type == kDnnTypeOf<int64_t> || type == kDnnTypeOf<DnnHandle> || type == kDnnTypeOf<const void*> ||
                 type == kDnnTypeOf<DnnObject>
             ? 8
             : 4;
}

size_t emulated_version() {
  const char* v = std::getenv("TG_EMU_DNN_VERSION");
  return v ? size_t(std::atoll(v)) : 92400;
}

DnnStatus create_object(DnnKind kind, DnnObject* o) {
  *o = nullptr;
  if ((kind == kDnnAttention && emulated_version() < 91300) || (kind == kDnnBandMask && emulated_version() < 92000))
    return kDnnBadParam;
  *o = new GraphObject{kind, false, -1, {}};
  return kDnnSuccess;
}
DnnStatus destroy_object(DnnObject o) {
  delete static_cast<GraphObject*>(o);
  return kDnnSuccess;
}

DnnStatus set_attribute(DnnObject object, DnnAttribute a, int type, int64_t n, const void* values) {
  GraphObject& o = object_at(object);
  const auto* r = std::find_if(std::begin(kAttributeRules), std::end(kAttributeRules),
                               [&](const AttributeRule& x) { return x.kind == o.kind && x.attribute == a; });
  if (o.final || r == std::end(kAttributeRules) || r->type != type || n < 1 || (r->n && size_t(n) != r->n) || !values)
    return kDnnBadParam;
  if (a >= kDnnAttentionSubgraph && a <= kDnnAttentionSubgraphOut && emulated_version() < 92100)
    return kDnnNotSupported;
  const char* from = static_cast<const char*>(values);
  o.values[a] = {type, {from, from + size_t(n) * attribute_bytes(type)}};
  return kDnnSuccess;
}

// ---- what makes an object final

bool valid_tensor(const GraphObject& t) {
  const auto sizes = t.sizes(), strides = t.strides();
  const int64_t element = t.type() == kDnnF32 ? 4 : 2, alignment = t.one<int64_t>(kDnnTensorAlignment);
  const auto positive = [](int64_t x) { return x > 0; };
  return sizes.size() == 4 && strides.size() == 4 && std::all_of(sizes.begin(), sizes.end(), positive) &&
         std::all_of(strides.begin(), strides.end(), positive) && alignment > 0 && alignment % element == 0;
}

bool is_number(const GraphObject& t) {
  return t.is(kDnnTensorByValue) && t.type() == kDnnF32 && t.sizes() == std::vector<int64_t>{1, 1, 1, 1};
}

bool valid_mask(const GraphObject& m) {
  const GraphObject &x = m.object(kDnnMaskX), &y = m.object(kDnnMaskY);
  return x.is(kDnnTensorVirtual) && y.is(kDnnTensorVirtual) && x.sizes() == y.sizes() && x.id() != y.id() &&
         is_number(m.object(kDnnMaskFill)) && m.one<DnnCompare>(kDnnMaskCompare) == DnnCompare::GreaterEqual;
}

const GraphObject* mask_of(const GraphObject& attention) {
  if (!attention.has(kDnnAttentionSubgraph)) return nullptr;
  return static_cast<const GraphObject*>(
      attention.object(kDnnAttentionSubgraph).values.at(kDnnGraphOperations).all<DnnObject>().at(0));
}

bool valid_attention(const GraphObject& a) {
  const GraphObject &q = a.object(kDnnAttentionQ), &k = a.object(kDnnAttentionK), &v = a.object(kDnnAttentionV),
                    &o = a.object(kDnnAttentionO);
  const auto sq = q.sizes(), sk = k.sizes(), sv = v.sizes();
  if (sk != std::vector<int64_t>{sq[0], sq[1], sk[2], sq[3]} || sv != std::vector<int64_t>{sq[0], sq[1], sk[2], sv[3]})
    return false;
  if (o.sizes() != std::vector<int64_t>{sq[0], sq[1], sq[2], sv[3]}) return false;
  if (a.has(kDnnAttentionScale) && !is_number(a.object(kDnnAttentionScale))) return false;
  const GraphObject* mask = mask_of(a);
  if (!mask) return true;
  return a.has(kDnnAttentionSubgraphIn) && a.has(kDnnAttentionSubgraphOut) &&
         a.one<int64_t>(kDnnAttentionSubgraphIn) == mask->object(kDnnMaskX).id() &&
         a.one<int64_t>(kDnnAttentionSubgraphOut) == mask->object(kDnnMaskY).id() &&
         mask->object(kDnnMaskX).sizes() == std::vector<int64_t>{sq[0], sq[1], sq[2], sk[2]};
}

bool is_complete(const GraphObject& o) {
  for (const AttributeRule& r : kAttributeRules) {
    if (r.kind != o.kind) continue;
    if (!o.has(r.attribute)) {
      if (r.required) return false;
      continue;
    }
    // engine configurations are final from the start
    if (r.type == kDnnTypeOf<DnnObject>)
      for (const DnnObject x : o.values.at(r.attribute).all<DnnObject>())
        if (!x || !object_at(x).final) return false;
  }
  return true;
}

// The operation that a plan or the heuristics are for.
const GraphObject& operation_of(const GraphObject& graph) {
  return *static_cast<const GraphObject*>(graph.values.at(kDnnGraphOperations).all<DnnObject>().at(0));
}

// Kernels read 16 bytes of half types at a time.
bool kernels_read(const GraphObject& attention) {
  for (const auto a : {kDnnAttentionQ, kDnnAttentionK, kDnnAttentionV, kDnnAttentionO}) {
    const GraphObject& t = attention.object(a);
    const auto sizes = t.sizes(), strides = t.strides();
    if (t.type() == kDnnF32 || sizes[3] % 8 || sizes[3] > 128 || strides[3] != 1) return false;
    if (t.one<int64_t>(kDnnTensorAlignment) % 16) return false;
    for (size_t d = 0; d < 3; ++d)
      if (strides[d] % 8) return false;
  }
  return true;
}

DnnStatus finalize_object(DnnObject object) {
  GraphObject& o = object_at(object);
  if (o.final || !is_complete(o)) return kDnnBadParam;
  const bool valid = o.kind == kDnnGraphTensor ? valid_tensor(o)
                     : o.kind == kDnnBandMask  ? valid_mask(o)
                     : o.kind == kDnnAttention ? valid_attention(o)
                                               : true;
  if (!valid) return kDnnBadParam;
  if (o.kind == kDnnPlan && o.object(kDnnPlanConfig).engine == kUnsupported) return emulated_refusal();
  if (o.kind == kDnnHeuristics && !o.object(kDnnHeuristicsGraph).has(kDnnGraphHandle)) return kDnnBadParam;
  o.final = true;
  return kDnnSuccess;
}

// ---- what can be asked

DnnStatus write_results(const GraphObject& heuristics, int64_t room, int64_t* n, void* values) {
  const bool any = kernels_read(operation_of(heuristics.object(kDnnHeuristicsGraph)));
  *n = any ? values ? std::min<int64_t>(room, kEngines) : int64_t(kEngines) : 0;
  for (int i = 0; values && i < *n; ++i) {
    GraphObject& config = object_at(static_cast<DnnObject*>(values)[i]);
    if (config.kind != kDnnEngineConfig) return kDnnBadParam;
    config.final = true, config.engine = i;
    const DnnObject graph = const_cast<GraphObject*>(&heuristics.object(kDnnHeuristicsGraph));
    config.values[kDnnHeuristicsGraph] = {kDnnTypeOf<DnnObject>, {}};
    auto& bytes = config.values[kDnnHeuristicsGraph].bytes;
    bytes.resize(sizeof graph);
    std::memcpy(bytes.data(), &graph, sizeof graph);
  }
  return kDnnSuccess;
}

DnnStatus get_attribute(DnnObject object, DnnAttribute a, int type, int64_t room, int64_t* n, void* values) {
  const GraphObject& o = object_at(object);
  if (!o.final) return kDnnBadParam;
  if (o.kind == kDnnHeuristics && a == kDnnHeuristicsResults && type == kDnnTypeOf<DnnObject>)
    return write_results(o, room, n, values);
  *n = 1;
  if (room < 1 || !values) return kDnnBadParam;
  if (o.kind == kDnnEngineConfig && a == kDnnConfigEngine && type == kDnnTypeOf<DnnObject>) {
    GraphObject& engine = object_at(*static_cast<DnnObject*>(values));
    engine.final = true, engine.engine = o.engine;
  } else if (o.kind == kDnnEngine && a == kDnnEngineNotes && type == kDnnTypeOf<DnnNote>) {
    *static_cast<DnnNote*>(values) = o.engine == kUnordered ? DnnNote::Nondeterministic : DnnNote(0);  // TENSOR_CORE
  } else if (o.kind == kDnnPlan && a == kDnnPlanWorkspace && type == kDnnTypeOf<int64_t>) {
    *static_cast<int64_t*>(values) = kWorkspaceOf[o.object(kDnnPlanConfig).engine];
  } else {
    return kDnnBadParam;
  }
  return kDnnSuccess;
}

// ---- running a plan

struct HeadsTensor {
  std::vector<int64_t> sizes, strides;
  DnnType type;
  void* data;
  HeadsTensor(const GraphObject& t, const void* p)
      : sizes(t.sizes()), strides(t.strides()), type(t.type()), data(const_cast<void*>(p)) {}
  int64_t place(int64_t b, int64_t h, int64_t p, int64_t f) const {
    return b * strides[0] + h * strides[1] + p * strides[2] + f * strides[3];
  }
  double load(int64_t i) const {
    return type == kDnnF16 ? convert<float>(static_cast<const Half*>(data)[i])
                           : convert<float>(static_cast<const BFloat16*>(data)[i]);
  }
  void store(int64_t i, double x) const {
    if (type == kDnnF16)
      static_cast<Half*>(data)[i] = convert<Half>(float(x));
    else
      static_cast<BFloat16*>(data)[i] = convert<BFloat16>(float(x));
  }
};

bool wrong(const char* what) {
  const char* v = std::getenv("TG_EMU_DNN_WRONG");
  return v && std::strcmp(v, what) == 0;
}

struct AttentionRun {
  HeadsTensor q, k, v, o;
  double scale;
  bool masked;
  float fill;
  bool wrong_mask = wrong("mask"), wrong_keys = wrong("keys");

  void row(int64_t b, int64_t h, int64_t i) const {
    const int64_t keys = k.sizes[2] - (wrong_keys ? 64 : 0);
    std::vector<double> weight;
    double top = -INFINITY, total = 0;
    for (int64_t j = 0; j < keys; ++j) {
      double s = 0;
      for (int64_t f = 0; f < q.sizes[3]; ++f) s += q.load(q.place(b, h, i, f)) * k.load(k.place(b, h, j, f));
      weight.push_back(masked && i + wrong_mask < j ? double(fill) : s * scale);
      top = std::max(top, weight.back());
    }
    for (double& w : weight) total += w = std::exp(w - top);
    for (int64_t f = 0; f < v.sizes[3]; ++f) {
      double sum = 0;
      for (int64_t j = 0; j < keys; ++j) sum += weight[size_t(j)] * v.load(v.place(b, h, j, f));
      o.store(o.place(b, h, i, f), sum / total);
    }
  }
  void operator()() const {
    for (int64_t b = 0; b < q.sizes[0]; ++b)
      for (int64_t h = 0; h < q.sizes[1]; ++h)
        for (int64_t i = 0; i < q.sizes[2]; ++i)
          if (i != left_out()) row(b, h, i);
    spoil();
  }
  int64_t left_out() const {
    const int64_t rows = q.sizes[2];
    return wrong("first") ? 0 : wrong("middle") ? rows / 2 : wrong("tail") ? rows - 1 : -1;
  }
  void spoil() const {
    const int64_t b = q.sizes[0] - 1, h = q.sizes[1] - 1, rows = q.sizes[2];
    if (wrong("nan")) o.store(o.place(b, h, rows / 2, 0), NAN);
    if (!wrong("late")) return;
    for (int64_t i = rows - 16; i < rows; ++i)
      for (int64_t f = 0; f < v.sizes[3]; ++f) o.store(o.place(b, h, i, f), 0);
  }
};

DnnStatus execute_plan(DnnHandle handle, DnnObject plan, DnnObject pack_object) {
  const GraphObject &p = object_at(plan), &pack = object_at(pack_object);
  if (!p.final || !pack.final || p.one<DnnHandle>(kDnnPlanHandle) != handle) return kDnnBadParam;
  if (wrong("refuse")) return emulated_refusal();
  const GraphObject& config = p.object(kDnnPlanConfig);
  const GraphObject& op = operation_of(config.object(kDnnHeuristicsGraph));
  const auto ids = pack.values.at(kDnnPackIds).all<int64_t>();
  const auto pointers = pack.values.at(kDnnPackPointers).all<const void*>();
  if (config.engine != kGood || ids.size() != pointers.size()) return kDnnBadParam;
  auto data = [&](const GraphObject& t) -> const void* {
    const auto found = std::find(ids.begin(), ids.end(), t.id());
    const void* x = found == ids.end() ? nullptr : pointers[size_t(found - ids.begin())];
    return reinterpret_cast<uintptr_t>(x) % uintptr_t(t.one<int64_t>(kDnnTensorAlignment)) ? nullptr : x;
  };
  const GraphObject *operands[] = {&op.object(kDnnAttentionQ), &op.object(kDnnAttentionK), &op.object(kDnnAttentionV),
                                   &op.object(kDnnAttentionO)},
                    *mask = mask_of(op);
  for (const GraphObject* t : operands)
    if (!data(*t)) return kDnnBadParam;
  const GraphObject* numbers[] = {op.has(kDnnAttentionScale) ? &op.object(kDnnAttentionScale) : nullptr,
                                  mask ? &mask->object(kDnnMaskFill) : nullptr};
  float given[] = {1, 0};  // read now: they need not outlive the call
  for (int i = 0; i < 2; ++i)
    if (numbers[i]) {
      if (!data(*numbers[i])) return kDnnBadParam;
      given[i] = *static_cast<const float*>(data(*numbers[i]));
    }
  if (wrong("scale")) given[0] *= 1.5f;
  void* const space = const_cast<void*>(pack.one<const void*>(kDnnPackWorkspace));
  if (!space) return kDnnBadParam;
  const AttentionRun call{{*operands[0], data(*operands[0])},
                          {*operands[1], data(*operands[1])},
                          {*operands[2], data(*operands[2])},
                          {*operands[3], data(*operands[3])},
                          given[0],
                          mask != nullptr,
                          given[1]};
  emu::enqueue(emulated_dnn_stream(handle), [=] {
    std::memset(space, 0xff, size_t(kWorkspaceOf[kGood]));
    call();
  });
  return kDnnSuccess;
}

}  // namespace

const DnnGraphs& emulated_dnn_graphs() {
  static const DnnGraphs g{emulated_version, create_object,   destroy_object, set_attribute,
                           get_attribute,    finalize_object, execute_plan};
  return g;
}

}  // namespace tg::cuda
