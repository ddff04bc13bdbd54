// Attention by cuDNN: forward, half types, with or without a causal mask. A call that cuDNN does not take, or fails at,
// goes to the kernels of attention.cu, whose backward serves both: it computes the weights anew. A plan is believed
// once a head of its results was compared with that of the own kernel.
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "backends/cuda/attention.h"
#include "backends/cuda/attention_judge.h"
#include "backends/cuda/device.h"
#include "backends/cuda/dnn_graph.h"
#include "backends/cuda_counts.h"
#include "core/warn.h"

namespace tg::cuda {
namespace {

// A plan is a kernel that cuDNN compiles in about half a second, for these sizes alone. Calls with fewer queries or
// keys are not worth it, nor are those of a text that grows: it has one query at a time and new sizes each time.
constexpr int64_t kFewest = 128;
constexpr size_t kMostAttentionPlans = 1024;
constexpr int64_t kMostAttentionWorkspace = int64_t(1) << 30, kMostConfigs = 10;
constexpr size_t kPlainSince = 91301, kCausalSince = 92100;  // versions; the second brought subgraphs of scores
constexpr int64_t kAlignment = 16;

enum TensorId : int64_t { kIdQ = 1, kIdK, kIdV, kIdO, kIdScale, kIdScores, kIdMasked, kIdFill };

using Four = std::array<int64_t, 4>;

// (batch, heads, positions, features)
struct DnnOperand {
  Four sizes, strides;
};

// A call but for its addresses and its scale.
struct AttentionCall {
  DnnType type;
  bool causal;
  DnnOperand q, k, v, o;
};

// False for what cuDNN's kernels cannot read: features apart from each other, rows that begin off 16 bytes, repeated
// rows, more than 32 bits of offset.
bool as_operand(const View& view, DnnOperand& o) {
  const int64_t per_row = kAlignment / itemsize(view.dtype);
  if (reinterpret_cast<uintptr_t>(view.data) % kAlignment != 0 || view.shape[3] % per_row != 0) return false;
  int64_t extent = 1;
  for (int d = 3; d >= 0; --d) {
    const int64_t n = view.shape[d];
    o.sizes[size_t(d)] = n;
    // The stride of a single element is free, but has to be a positive number.
    const int64_t step = o.strides[size_t(d)] = n > 1 ? view.stride[d] : std::max<int64_t>(extent, 1);
    if (d == 3 ? step != 1 : step <= 0 || step % per_row != 0) return false;
    extent = std::max(extent, n * step);
  }
  return extent < int64_t(1) << 31;
}

bool as_call(const View& q, const View& k, const View& v, bool causal, const View& o, AttentionCall& c) {
  if (!is_half(q.dtype) || q.shape[2] < kFewest || k.shape[2] < kFewest) return false;
  c.type = q.dtype == DType::F16 ? kDnnF16 : kDnnBF16, c.causal = causal;
  return as_operand(q, c.q) && as_operand(k, c.k) && as_operand(v, c.v) && as_operand(o, c.o);
}

using AttentionKey = std::vector<int64_t>;
AttentionKey attention_key(const AttentionCall& c) {
  AttentionKey key{current_device(), c.type, c.causal};
  for (const DnnOperand* o : {&c.q, &c.k, &c.v, &c.o})
    for (const Four* f : {&o->sizes, &o->strides}) key.insert(key.end(), f->begin(), f->end());
  return key;
}

// How one call is computed.
struct AttentionPlan {
  std::list<DnnNode> parts;  // what the plan was made of, each after those it refers to
  const DnnNode* plan = nullptr;
  int64_t workspace = 0;
  bool believed = false;
  ~AttentionPlan() {
    while (!parts.empty()) parts.pop_back();
  }
};

// Builds the graph of a call; a null pointer is what cuDNN refused.
class AttentionBuilder {
 public:
  AttentionBuilder(const DnnGraphs& lib, DnnHandle h, const AttentionCall& c) : lib_(lib), handle_(h), c_(c) {}

  // The first plan that can be trusted and needs no more than `most` bytes of workspace.
  std::unique_ptr<AttentionPlan> plan(int64_t most) {
    const DnnNode* op = attention();
    const DnnNode* graph = op ? graph_of(*op, true) : nullptr;
    if (!graph) return nullptr;
    DnnNode& found = part(kDnnHeuristics).set(kDnnHeuristicsGraph, *graph);
    if (!found.set(kDnnHeuristicsMode, DnnHeuristicsBy::A).finalize()) return nullptr;
    std::vector<DnnObject> objects;
    std::vector<const DnnNode*> configs;
    for (int64_t i = 0; i < kMostConfigs; ++i)
      configs.push_back(&part(kDnnEngineConfig)), objects.push_back(configs.back()->object());
    const int64_t n = found.get(kDnnHeuristicsResults, objects.data(), kMostConfigs);
    for (int64_t i = 0; i < std::min(n, kMostConfigs); ++i)
      if (trusted(*configs[size_t(i)]) && finish(*configs[size_t(i)], most)) return std::move(result_);
    return nullptr;
  }

 private:
  DnnNode& part(DnnKind kind) { return result_->parts.emplace_back(lib_, kind); }

  const DnnNode* tensor(TensorId id, DnnType type, const DnnOperand& o, DnnAttribute kind = DnnAttribute(0)) {
    const bool in_memory = kind == DnnAttribute(0);
    DnnNode& t = part(kDnnGraphTensor).set(kDnnTensorId, int64_t(id)).set(kDnnTensorType, type);
    t.set(kDnnTensorAlignment, in_memory ? kAlignment : int64_t(sizeof(float)));
    t.set(kDnnTensorSizes, o.sizes.data(), 4).set(kDnnTensorStrides, o.strides.data(), 4);
    if (!in_memory) t.set(kind, true);
    return t.finalize() ? &t : nullptr;
  }
  const DnnNode* number(TensorId id) { return tensor(id, kDnnF32, {{1, 1, 1, 1}, {1, 1, 1, 1}}, kDnnTensorByValue); }

  const DnnNode* graph_of(const DnnNode& operation, bool with_handle) {
    DnnNode& g = part(kDnnOperationGraph).set(kDnnGraphOperations, operation);
    if (with_handle) g.set(kDnnGraphHandle, handle_);
    return g.finalize() ? &g : nullptr;
  }

  // softmax(scale q k^T) v
  const DnnNode* attention() {
    const DnnNode *q = tensor(kIdQ, c_.type, c_.q), *k = tensor(kIdK, c_.type, c_.k), *v = tensor(kIdV, c_.type, c_.v),
                  *o = tensor(kIdO, c_.type, c_.o), *scale = number(kIdScale), *mask = c_.causal ? causal() : nullptr;
    if (!q || !k || !v || !o || !scale || (c_.causal && !mask)) return nullptr;
    DnnNode& op = part(kDnnAttention).set(kDnnAttentionQ, *q).set(kDnnAttentionK, *k).set(kDnnAttentionV, *v);
    op.set(kDnnAttentionO, *o).set(kDnnAttentionScale, *scale);
    if (mask) {
      op.set(kDnnAttentionSubgraph, *mask);
      op.set(kDnnAttentionSubgraphIn, int64_t(kIdScores)).set(kDnnAttentionSubgraphOut, int64_t(kIdMasked));
    }
    return op.finalize() ? &op : nullptr;
  }

  // A graph of its own: scores stay where the query's place is greater than or equal to the key's, and are -inf
  // elsewhere.
  const DnnNode* causal() {
    const int64_t b = c_.q.sizes[0], h = c_.q.sizes[1], queries = c_.q.sizes[2], keys = c_.k.sizes[2];
    const DnnOperand all{{b, h, queries, keys}, {h * queries * keys, queries * keys, keys, 1}};
    const DnnNode *x = tensor(kIdScores, kDnnF32, all, kDnnTensorVirtual),
                  *y = tensor(kIdMasked, kDnnF32, all, kDnnTensorVirtual), *fill = number(kIdFill);
    if (!x || !y || !fill) return nullptr;
    DnnNode& mask = part(kDnnBandMask).set(kDnnMaskX, *x).set(kDnnMaskFill, *fill).set(kDnnMaskY, *y);
    return mask.set(kDnnMaskCompare, DnnCompare::GreaterEqual).finalize() ? graph_of(mask, false) : nullptr;
  }

  // Whether an engine reads the operands as they are, sums in float32 and gives the same bits each time.
  bool trusted(const DnnNode& config) {
    const DnnNode& engine = part(kDnnEngine);
    DnnObject object = engine.object();
    DnnNote notes[16];
    if (config.get(kDnnConfigEngine, &object, 1) != 1) return false;
    const int64_t n = engine.get(kDnnEngineNotes, notes, 16);
    return n >= 0 && n <= 16 && std::none_of(notes, notes + n, [](DnnNote note) {
             return note == DnnNote::DownConverts || note == DnnNote::ReducedSums || note == DnnNote::Nondeterministic;
           });
  }

  bool finish(const DnnNode& config, int64_t most) {
    DnnNode& p = part(kDnnPlan).set(kDnnPlanHandle, handle_).set(kDnnPlanConfig, config);
    if (!p.finalize() || p.get(kDnnPlanWorkspace, &result_->workspace, 1) != 1 || result_->workspace > most)
      return false;
    result_->plan = &p;
    return true;
  }

  const DnnGraphs& lib_;
  const DnnHandle handle_;
  const AttentionCall& c_;
  std::unique_ptr<AttentionPlan> result_ = std::make_unique<AttentionPlan>();
};

// Those of the calling thread, as plans are built with its handle; null: not by cuDNN. They are left to the end of the
// process, since a recorded graph may hold their kernels.
using AttentionPlans = std::map<AttentionKey, std::unique_ptr<AttentionPlan>>;
AttentionPlans& attention_plans() {
  static std::mutex mutex;
  static auto* const of_all_threads = new std::list<AttentionPlans>;
  thread_local AttentionPlans* const mine = [] {
    std::lock_guard lock(mutex);
    return &of_all_threads->emplace_back();
  }();
  return *mine;
}

bool run_plan(const DnnGraphs& lib, DnnHandle h, const AttentionPlan& p, const View& q, const View& k, const View& v,
              bool causal, double scale, const View& out) {
  const auto workspace = scratch_if_it_fits(size_t(std::max<int64_t>(p.workspace, 1)));
  if (!workspace) return false;
  const float factor = float(scale), fill = -std::numeric_limits<float>::infinity();
  const int64_t ids[] = {kIdQ, kIdK, kIdV, kIdO, kIdScale, kIdFill};
  const void* const data[] = {q.data, k.data, v.data, out.data, &factor, &fill};
  const int64_t n = causal ? 6 : 5;
  DnnNode pack(lib, kDnnVariantPack);
  pack.set(kDnnPackIds, ids, n).set(kDnnPackPointers, data, n);
  if (!pack.set(kDnnPackWorkspace, workspace->as<const void>()).finalize()) return false;
  note_work("attention by cuDNN");
  return dnn_succeeded(lib.execute(h, p.plan->object(), pack.object()));
}

// Once in a process, as all plans of one mistake are wrong alike.
void warn_of_wrong_plan(const DnnGraphs& lib, const View& q, const View& k, const View& v, bool causal) {
  static std::atomic<bool> told = false;
  if (told.exchange(true)) return;
  const size_t n = lib.version();
  warn(str("cuda: attention by cuDNN ", n / 10000, '.', n / 100 % 100, '.', n % 100, " for ", q.dtype, ' ', q.shape,
           ", ", k.shape, ", ", v.shape, causal ? ", causal," : ",",
           " differs from the own kernel's, which is used; other sizes may follow without a word"));
}

bool attend_by_plan(const Dnn& lib, const AttentionCall& c, const View& q, const View& k, const View& v, double scale,
                    const View& out) {
  const DnnGraphs& graphs = dnn_graphs(lib);
  if (graphs.version() < (c.causal ? kCausalSince : kPlainSince)) return false;
  AttentionPlans& plans = attention_plans();
  AttentionKey key = attention_key(c);
  auto at = plans.find(key);
  const bool recording = recording_graph();  // neither compiling nor comparing goes into a graph
  if (at == plans.end() && (recording || plans.size() >= kMostAttentionPlans)) return false;
  DnnHandle h = nullptr;
  if (!dnn_succeeded(find_dnn_handle(lib, h)) || !h) return false;
  if (at == plans.end())
    at = plans.emplace(std::move(key), AttentionBuilder(graphs, h, c).plan(kMostAttentionWorkspace)).first;
  AttentionPlan* const p = at->second.get();
  if (!p || !p->plan || (recording && !p->believed)) return false;
  if (!run_plan(graphs, h, *p, q, k, v, c.causal, scale, out)) return false;
  if (p->believed) return true;
  const Verdict verdict = judge_attention(q, k, v, c.causal, scale, out);
  p->believed = verdict == Verdict::Right;
  if (verdict == Verdict::Wrong) {
    p->plan = nullptr;
    ++dnn_attention_counts().disbelieved;
    warn_of_wrong_plan(graphs, q, k, v, c.causal);
  }
  return verdict == Verdict::Right || verdict == Verdict::Same;
}

}  // namespace

bool attention_by_dnn(const View& q, const View& k, const View& v, bool causal, double scale, const View& out) {
  AttentionCall c;
  // A factor below 0 would make the largest product the smallest score, which kernels that scale late may not expect.
  if (!(float(scale) > 0) || !std::isfinite(float(scale)) || !as_call(q, k, v, causal, out, c)) return false;
  const Dnn* const lib = dnn();
  if (!lib) return false;
  const bool done = attend_by_plan(*lib, c, q, k, v, scale, out);
  ++(done ? dnn_attention_counts().by_cudnn : dnn_attention_counts().by_own_kernel);
  return done;
}

}  // namespace tg::cuda
