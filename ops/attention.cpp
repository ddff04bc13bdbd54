// Scaled dot-product attention.
#include <cmath>
#include <limits>

#include "backends/attention.h"
#include "backends/cuda.h"
#include "ops/create.h"
#include "ops/fast_path.h"

namespace tg {
namespace {

void check_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, double dropout_p,
                     bool is_causal) {
  const char* op = "scaled_dot_product_attention";
  for (auto [t, name] : {std::pair{&q, "query"}, std::pair{&k, "key"}, std::pair{&v, "value"}})
    TG_CHECK(t->ndim() >= 2, ShapeError, op, ": ", name, " must have at least 2 dimensions; ", name, "=", describe(*t));
  TG_CHECK(q.dtype() == k.dtype() && q.dtype() == v.dtype() && is_float(q.dtype()), DTypeError, op,
           ": query, key and value must have one floating-point dtype; query=", describe(q), ", key=", describe(k),
           ", value=", describe(v));
  TG_CHECK(q.size(-1) == k.size(-1), ShapeError, op, ": query has ", q.size(-1), " features but key has ", k.size(-1),
           "; query=", describe(q), ", key=", describe(k));
  TG_CHECK(k.size(-2) == v.size(-2), ShapeError, op, ": key has ", k.size(-2), " positions but value has ", v.size(-2),
           "; key=", describe(k), ", value=", describe(v));
  TG_CHECK(dropout_p >= 0 && dropout_p <= 1, ValueError, op, ": dropout_p must lie in [0, 1], got ", dropout_p);
  TG_CHECK(!(mask.defined() && is_causal), ValueError, op, ": attn_mask must be None when is_causal=True");
  TG_CHECK(!mask.defined() || mask.dtype() == DType::Bool || is_float(mask.dtype()), DTypeError, op,
           ": attn_mask must be bool or floating point; attn_mask=", describe(mask));
}

// Grouped queries: each head of key and value serves several heads of the query.
Tensor spread_heads(const Tensor& t, const Tensor& q, const char* name) {
  const char* op = "scaled_dot_product_attention";
  TG_CHECK(q.ndim() >= 3 && t.ndim() >= 3, ShapeError, op, ": enable_gqa needs a head dimension; query=", describe(q),
           ", ", name, "=", describe(t));
  int64_t hq = q.size(-3), h = t.size(-3);
  TG_CHECK(h > 0 && hq % h == 0, ShapeError, op, ": ", hq, " query heads cannot be divided over ", h, " ", name,
           " heads; query=", describe(q), ", ", name, "=", describe(t));
  return h == hq ? t : repeat_interleave(t, hq / h, -3);
}

Dims leading(const Tensor& t) { return Dims(t.sizes().begin(), t.sizes().end() - 2); }
Dims with_last_two(Dims lead, int64_t a, int64_t b) {
  lead.push_back(a), lead.push_back(b);
  return lead;
}
Tensor expanded(const Tensor& t, const Dims& sizes) { return t.sizes() == sizes ? t : expand(t, sizes); }

// Gives query, key and value the same leading sizes, those of the result, and the query as many positions as the mask,
// by strides of 0.
void spread(Tensor& q, Tensor& k, Tensor& v, const Tensor& mask) {
  const char* op = "scaled_dot_product_attention";
  Dims lead = broadcast_shapes(op, broadcast_shapes(op, leading(q), leading(k)), leading(v));
  int64_t queries = q.size(-2);
  if (mask.defined()) {
    const Dims scores = broadcast_shapes(op, with_last_two(lead, queries, k.size(-2)), mask.sizes());
    TG_CHECK(scores[scores.size() - 1] == k.size(-2), ShapeError, op, ": attn_mask is for ", mask.size(-1),
             " keys, there are ", k.size(-2), "; attn_mask=", describe(mask), ", key=", describe(k));
    lead = Dims(scores.begin(), scores.end() - 2), queries = scores[scores.size() - 2];
  }
  q = expanded(q, with_last_two(lead, queries, q.size(-1)));
  k = expanded(k, with_last_two(lead, k.size(-2), k.size(-1)));
  v = expanded(v, with_last_two(lead, v.size(-2), v.size(-1)));
}

// What attention does beyond its products. Of some of the queries: `first_query` is the number of the first of them,
// `numbers` begin with that of its first weight.
struct Rule {
  bool is_causal;
  double factor;
  Tensor mask;
  double dropout_p;
  RandomPlace numbers;
  int64_t first_query = 0;

  // Dropout of the weights, which is the same each time.
  Tensor drop(const Tensor& weights) const {
    if (dropout_p == 0) return weights;
    if (dropout_p == 1) return weights * 0.0;
    return masked_scale(weights, keep_mask(numbers, weights.sizes(), dropout_p, weights.device()),
                        1.0 / (1.0 - dropout_p));
  }
};

// softmax(query key^T * factor + mask)
Tensor weights_of(const Tensor& query, const Tensor& key, const Rule& rule) {
  Tensor scores = matmul(query * rule.factor, transpose(key, -2, -1));
  constexpr double kHide = -std::numeric_limits<double>::infinity();
  if (rule.is_causal)
    scores =
        where(tril(ones({query.size(-2), key.size(-2)}, DType::Bool, query.device()), rule.first_query), scores, kHide);
  if (rule.mask.defined())
    scores = rule.mask.dtype() == DType::Bool ? where(rule.mask, scores, kHide) : scores + rule.mask;
  // a row with nothing to look at gives 0, not NaN
  return rule.mask.defined() || rule.is_causal ? safe_softmax(scores, -1) : softmax(scores, -1);
}

Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const Rule& rule) {
  return matmul(narrow_to(rule.drop(weights_of(q, k, rule)), v.dtype()), v);
}

using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;

// The gradients of query, key, value and scores from that of the result.
Four attend_back(const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v, const Rule& rule) {
  const Tensor weights = weights_of(q, k, rule);
  const Tensor scores =
      softmax_backward(rule.drop(narrow_to(matmul(grad, transpose(v, -2, -1)), weights.dtype())), weights, -1);
  const Tensor d = narrow_to(scores, q.dtype());
  return {matmul(d, k) * rule.factor, matmul(transpose(d, -2, -1), q) * rule.factor,
          matmul(transpose(narrow_to(rule.drop(weights), v.dtype()), -2, -1), grad), scores};
}

// Few enough weights a head that keeping them costs less than computing them anew in backward: one batched product is
// then cheaper than many small ones (docs/decisions.md, 26 and 35), and dropout's numbers are drawn once. Half types
// would round them on the way, and a device has one launch for all heads.
bool cheap_to_keep(const Tensor& query, const Tensor& key, double dropout_p) {
  return query.device().is_cpu() && compute_type(query.dtype()) == query.dtype() &&
         query.size(-2) * key.size(-2) <= (dropout_p > 0 ? 64 * 64 : 48 * 48);
}

// A copy of what the numbers of a replay count from, as backward may be in another graph; undefined in none.
Tensor kept_origin(const RandomPlace& numbers, Device d) {
  if (!numbers.origin) return {};
  Tensor t = empty_tensor({2}, DType::I64, d);
  cuda::runtime().copy_async(d.index, t.data(), numbers.origin, size_t(2 * itemsize(t.dtype())));
  return t;
}

Tensor attention_body(const Tensor& query_in, const Tensor& key_in, const Tensor& value_in, const Tensor& attn_mask,
                      double dropout_p, bool is_causal, std::optional<double> scale, bool enable_gqa) {
  check_attention(query_in, key_in, value_in, attn_mask, dropout_p, is_causal);
  Tensor query = query_in;
  Tensor key = enable_gqa ? spread_heads(key_in, query, "key") : key_in;
  Tensor value = enable_gqa ? spread_heads(value_in, query, "value") : value_in;
  spread(query, key, value, attn_mask);
  int64_t features = query.size(-1);
  double factor = scale ? *scale : features > 0 ? 1.0 / std::sqrt(double(features)) : 1.0;
  RandomPlace numbers;
  if (dropout_p > 0 && dropout_p < 1) numbers = place_draw(nullptr, query.device());
  if (cheap_to_keep(query, key, dropout_p))
    return attend(query, key, value, {is_causal, factor, attn_mask, dropout_p, numbers});
  return tiled_attention(query, key, value, is_causal, factor, attn_mask, dropout_p, int64_t(numbers.seed),
                         int64_t(numbers.offset), kept_origin(numbers, query.device()));
}

// ---- by tiles or slices: the weights are not kept

// Operands and results of one call, or of some of its heads or queries.
struct Work {
  Tensor q, k, v;
  Rule rule;
  Tensor out = {};                                          // forward
  Tensor grad = {}, dq = {}, dk = {}, dv = {}, dmask = {};  // backward; adds to dmask, if that is wanted

  int64_t weights() const { return q.numel() / q.size(-1) * k.size(-2); }
  Work part(int d, int64_t first, int64_t n) const {
    Work w = *this;
    auto cut = [&](std::initializer_list<Tensor*> tensors) {
      for (Tensor* t : tensors)
        if (t->defined() && t->size(d) > 1) *t = narrow(*t, d, first, n);
    };
    cut({&w.q, &w.out, &w.grad, &w.dq, &w.rule.mask, &w.dmask});
    if (d == q.ndim() - 2)
      w.rule.first_query += first;
    else
      cut({&w.k, &w.v, &w.dk, &w.dv});
    w.rule.numbers.first += first * (weights() / q.size(d));
    return w;
  }
};

// f(work), or f of its parts until one is false: of `step(work, n)` along the first axis of n > 1 heads or queries.
template <class Step, class F>
bool by_parts(const Work& w, Step step, F f) {
  int d = 0;
  while (d < w.q.ndim() - 2 && w.q.size(d) == 1) ++d;
  const int64_t n = w.q.size(d), each = step(w, n);
  if (each >= n) return f(w);
  for (int64_t first = 0; first < n; first += each)
    if (!by_parts(w.part(d, first, std::min(each, n - first)), step, f)) return false;
  return true;
}

enum { kQ, kK, kV, kOut, kGrad, kDq, kDk, kDv, kMask, kDmask };

// What kernels see of a work: (batch, heads, positions, features), leading axes being joined where they lie evenly in
// all views. False if that leaves more of them.
bool kernel_views(const Work& w, Views& views) {
  const Dims scores = with_last_two(leading(w.q), w.q.size(-2), w.k.size(-2));
  for (const Tensor& t : {w.q, w.k, w.v, w.out, w.grad, w.dq, w.dk, w.dv})
    views.push_back(t.defined() ? View(t) : View());
  for (const Tensor& t : {w.rule.mask, w.dmask}) views.push_back(t.defined() ? broadcast_to_view(t, scores) : View());
  auto each = [&](auto f) {
    for (View& x : views)
      if (x.data) f(x);
  };
  each([](View& x) {
    while (x.ndim() < 4) x.shape.insert(0, 1), x.stride.insert(0, 0);
  });
  for (int d = 1; views[kQ].ndim() > 4 && d < views[kQ].ndim() - 2;) {
    bool even = true;
    each([&](const View& x) {
      even &= x.shape[d - 1] == 1 || x.shape[d] == 1 || x.stride[d - 1] == x.shape[d] * x.stride[d];
    });
    if (!even) {
      ++d;
      continue;
    }
    each([&](View& x) {
      if (x.shape[d] == 1) x.stride[d] = x.stride[d - 1];
      x.shape[d] *= x.shape[d - 1];
      x.shape.erase(d - 1), x.stride.erase(d - 1);
    });
  }
  return views[kQ].ndim() == 4;
}

bool by_kernel(const Work& all) {
  AttentionKernels* const kernels = attention_kernels(all.q.device());
  if (!kernels) return false;
  auto step = [](const Work& w, int64_t n) {
    Views v;
    return kernel_views(w, v) ? n : 1;
  };
  return by_parts(all, step, [&](const Work& w) {
    Views v;
    kernel_views(w, v);
    const Rule& r = w.rule;
    const AttentionOptions o{
        .causal = r.is_causal, .scale = r.factor, .mask = v[kMask], .dropout = r.dropout_p, .numbers = r.numbers};
    if (!w.grad.defined()) return kernels->attention(v[kQ], v[kK], v[kV], o, v[kOut]);
    return kernels->attention_grad(v[kQ], v[kK], v[kV], v[kGrad], o, v[kDq], v[kDk], v[kDv], v[kDmask]);
  });
}

// Weights in memory at a time: what stays in a core's cache, or fills a device.
constexpr int64_t kSliceOnCpu = 1 << 16, kSliceOnDevice = 1 << 20;

// Some heads, or some queries of one, at a time. Sums over slices are in float32 for half types.
void by_slices(Work all) {
  const int64_t most = all.q.device().is_cpu() ? kSliceOnCpu : kSliceOnDevice;
  auto step = [&](const Work& w, int64_t n) { return std::max<int64_t>(1, most / (w.weights() / n)); };
  if (!all.grad.defined()) {
    by_parts(all, step, [](const Work& w) {
      copy_into(w.out, attend(w.q, w.k, w.v, w.rule));
      return true;
    });
    return;
  }
  const Tensor dk = all.dk, dv = all.dv;
  all.dk = zeros(dk.sizes(), compute_type(dk.dtype()), dk.device());
  all.dv = zeros(dv.sizes(), compute_type(dv.dtype()), dv.device());
  by_parts(all, step, [](const Work& w) {
    const auto [q, k, v, scores] = attend_back(w.grad, w.q, w.k, w.v, w.rule);
    copy_into(w.dq, q);
    add_(w.dk, k), add_(w.dv, v);
    if (w.dmask.defined()) add_(w.dmask, sum_to_size(scores, w.dmask.sizes()));
    return true;
  });
  copy_into(dk, all.dk), copy_into(dv, all.dv);
}

// An empty tensor of t's positions; if t's heads lie within its positions in memory, as a projection leaves them, so do
// the new one's, and what joins the heads again need not copy.
Tensor empty_heads(const Tensor& t, int64_t features) {
  Dims sizes = t.sizes();
  sizes[t.ndim() - 1] = features;
  if (t.ndim() != 4 || t.stride(1) >= t.stride(2)) return empty_tensor(sizes, t.dtype(), t.device());
  std::swap(sizes[1], sizes[2]);
  Tensor memory = empty_tensor(sizes, t.dtype(), t.device());
  Dims strides = memory.strides();
  std::swap(sizes[1], sizes[2]);
  std::swap(strides[1], strides[2]);
  Tensor y = make_view(memory, sizes, strides, 0);
  y.impl()->base = nullptr;  // nobody else has this memory
  return y;
}

Work work_of(const Tensor& q, const Tensor& k, const Tensor& v, Rule rule) {
  if (rule.mask.defined()) {
    Dims sizes = rule.mask.sizes();
    while (sizes.size() < q.ndim()) sizes.insert(0, 1);
    rule.mask = reshape(rule.mask, sizes);
  }
  const AttentionKernels* kernels = attention_kernels(q.device());
  if (kernels && kernels->attends_halves()) return {q, k, v, rule};
  return {widen(q), widen(k), widen(v), rule};
}

bool is_empty(const Tensor& q, const Tensor& k, const Tensor& v) {
  return q.numel() == 0 || k.numel() == 0 || v.numel() == 0;
}

Rule rule_of(bool is_causal, double factor, const Tensor& mask, double dropout_p, int64_t seed, int64_t offset,
             const Tensor& origin) {
  return {
      is_causal, factor, mask, dropout_p,
      RandomPlace{
          .seed = uint64_t(seed), .offset = uint64_t(offset), .origin = origin.defined() ? origin.data() : nullptr}};
}

Tensor tiled_body(const Tensor& q, const Tensor& k, const Tensor& v, bool is_causal, double factor, const Tensor& mask,
                  double dropout_p, int64_t seed, int64_t offset, const Tensor& origin) {
  return attend(q, k, v, rule_of(is_causal, factor, mask, dropout_p, seed, offset, origin));
}

Tensor tiled_primitive(const Tensor& q, const Tensor& k, const Tensor& v, bool is_causal, double factor,
                       const Tensor& mask, double dropout_p, int64_t seed, int64_t offset, const Tensor& origin) {
  const Rule rule = rule_of(is_causal, factor, mask, dropout_p, seed, offset, origin);
  if (is_empty(q, k, v)) return attend(q, k, v, rule);
  Work w = work_of(q, k, v, rule);
  w.out = empty_heads(w.q, v.size(-1));
  if (!by_kernel(w)) by_slices(w);
  return narrow_to(w.out, q.dtype());
}

Four tiled_backward_body(const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v, bool is_causal,
                         double factor, const Tensor& mask, double dropout_p, int64_t seed, int64_t offset,
                         const Tensor& origin, bool of_mask) {
  auto [dq, dk, dv, scores] =
      attend_back(grad, q, k, v, rule_of(is_causal, factor, mask, dropout_p, seed, offset, origin));
  return {dq, dk, dv,
          of_mask ? narrow_to(sum_to_size(scores, mask.sizes()), mask.dtype()) : zeros({0}, q.dtype(), q.device())};
}

// Zeros to add the gradient of a work's mask to. A mask that has a row for each query and a column for each key gets as
// many; others, of which all queries or keys of a head share a number, as many for each head.
Tensor sums_for_mask(const Work& w) {
  const Tensor& m = w.rule.mask;
  const bool whole = m.size(-2) == w.q.size(-2) && m.size(-1) == w.k.size(-2);
  const Dims sizes = whole ? m.sizes() : with_last_two(leading(w.q), m.size(-2), m.size(-1));
  return zeros(sizes, m.numel() == w.weights() ? m.dtype() : compute_type(m.dtype()), m.device());
}

Four tiled_backward_primitive(const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v, bool is_causal,
                              double factor, const Tensor& mask, double dropout_p, int64_t seed, int64_t offset,
                              const Tensor& origin, bool of_mask) {
  if (is_empty(q, k, v))
    return tiled_backward_body(grad, q, k, v, is_causal, factor, mask, dropout_p, seed, offset, origin, of_mask);
  Work w = work_of(q, k, v, rule_of(is_causal, factor, mask, dropout_p, seed, offset, origin));
  w.grad = narrow_to(grad, w.q.dtype());
  w.dq = empty_heads(w.q, q.size(-1)), w.dk = empty_heads(w.k, k.size(-1)), w.dv = empty_heads(w.v, v.size(-1));
  if (of_mask) w.dmask = sums_for_mask(w);
  if (!by_kernel(w)) by_slices(w);
  const DType t = q.dtype();
  const Tensor dmask = of_mask ? reshape(sum_to_size(w.dmask, w.rule.mask.sizes()), mask.sizes())  // not a copy of it
                               : zeros({0}, t, q.device());
  return {narrow_to(w.dq, t), narrow_to(w.dk, t), narrow_to(w.dv, t), of_mask ? narrow_to(dmask, mask.dtype()) : dmask};
}

void tiled_grad(GradCtx& c) {
  const auto [dq, dk, dv, dmask] = tiled_attention_backward(
      c.g(), c.x(0), c.x(1), c.x(2), c.arg<bool>(3), c.arg<double>(4), c.is_none(5) ? Tensor() : c.x(5),
      c.arg<double>(6), c.arg<int64_t>(7), c.arg<int64_t>(8), c.is_none(9) ? Tensor() : c.x(9), c.needs(5));
  if (c.needs(0)) c.set(0, dq);
  if (c.needs(1)) c.set(1, dk);
  if (c.needs(2)) c.set(2, dv);
  if (c.needs(5)) c.set(5, dmask);
}

TG_OP(
    "scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, "
    "float dropout_p=0.0, bool is_causal=False, *, float? scale=None, bool enable_gqa=False) -> Tensor",
    .doc =
        "softmax(query key^T * scale + mask) value; a bool mask is True where attention may look. A row with "
        "nothing to look at gives 0.",
    .composite = box<attention_body>, .flags = kNN, .autocast = Autocast::Low,
    .samples =
        "T(2,3,4), T(2,5,4), T(2,5,6); T(1,2,4,3), T(1,2,4,3), T(1,2,4,3), is_causal=True; T(2,3,4), T(2,5,4), "
        "T(2,5,4), T(3,5); T(2,2,3,4), T(2,2,5,4), T(2,2,5,4), B(2,1,3,5), scale=0.3; T(3,4), T(5,4), T(5,4); "
        "T(1,4,3,4), T(1,2,5,4), T(1,2,5,4), enable_gqa=True; T(1,2,17,8), T(1,2,17,8), T(1,2,17,8), "
        "is_causal=True; T(2,1,2,3,4), T(2,1,2,5,4), T(2,1,2,5,6), T(2,1,1,1,5); T(1,2,3,4), T(2,1,5,4), T(2,2,5,6), "
        "B(2,1,3,5)");

TG_OP(
    "tiled_attention(Tensor query, Tensor key, Tensor value, bool is_causal, float scale, Tensor? attn_mask=None, "
    "float dropout_p=0.0, int seed=0, int offset=0, Tensor? origin=None) -> Tensor",
    .doc =
        "Attention of operands with the same leading sizes: no matrix of queries times keys is in memory. Dropout is "
        "by "
        "the numbers of a seed and offset; in a graph the seed is origin[0], and the offset counts from origin[1].",
    .composite = box<tiled_body>, .primitive = box<tiled_primitive>,
    .joint = {in(0) | in(1) | in(2) | in(5) | in(9), tiled_grad}, .flags = kHidden, .autocast = Autocast::Low,
    .torch = "none",
    .samples =
        "T(2,3,4), T(2,5,4), T(2,5,6), False, 0.5; T(1,2,4,3), T(1,2,4,3), T(1,2,4,3), True, 0.6; "
        "T(3,4), T(5,4), T(5,4), True, 0.5; T(5,4), T(3,4), T(3,2), True, 0.5; "
        "T(0,4), T(3,4), T(3,4), False, 0.5; T(2,1,2,3,4), T(2,1,2,5,4), T(2,1,2,5,4), False, 0.5, T(2,1,1,1,5); "
        "T(1,2,17,8), T(1,2,17,8), T(1,2,17,8), True, 0.35; "
        "T(1,1,70,4), T(1,1,67,4), T(1,1,67,3), True, 0.5; "
        "T(1,1,65,3), T(1,1,33,3), T(1,1,33,5), False, 0.5; "
        "T(2,3,4), T(2,5,4), T(2,5,6), False, 0.5, B(2,1,5); T(2,2,3,4), T(2,2,5,4), T(2,2,5,4), False, 0.5, T(3,5); "
        "T(2,3,4), T(2,5,4), T(2,5,6), False, 0.5, T(3,1), 0.4, 3, 1; "
        "T(1,2,17,4), T(1,2,17,4), T(1,2,17,4), True, 0.5, None, 0.3, 5, 7");
TG_OP(
    "tiled_attention_backward(Tensor grad, Tensor query, Tensor key, Tensor value, bool is_causal, float scale, "
    "Tensor? attn_mask=None, float dropout_p=0.0, int seed=0, int offset=0, Tensor? origin=None, bool of_mask=False) "
    "-> (Tensor query, Tensor key, Tensor value, Tensor attn_mask)",
    .doc =
        "The gradients of tiled_attention, which computes the weights anew; that of the mask is empty unless asked "
        "for.",
    .composite = box<tiled_backward_body>, .primitive = box<tiled_backward_primitive>, .flags = kHidden,
    .autocast = Autocast::Low, .torch = "none",
    .samples =
        "T(2,3,6), T(2,3,4), T(2,5,4), T(2,5,6), False, 0.5; "
        "T(1,2,4,3), T(1,2,4,3), T(1,2,4,3), T(1,2,4,3), True, 0.6; "
        "T(5,2), T(5,4), T(3,4), T(3,2), True, 0.5; T(1,1,70,3), T(1,1,70,4), T(1,1,67,4), T(1,1,67,3), True, 0.5; "
        "T(1,1,65,5), T(1,1,65,3), T(1,1,33,3), T(1,1,33,5), False, 0.5; "
        "T(2,3,6), T(2,3,4), T(2,5,4), T(2,5,6), False, 0.5, B(2,1,5); "
        "T(2,3,6), T(2,3,4), T(2,5,4), T(2,5,6), False, 0.5, T(3,5), 0.4, 3, 1, None, True; "
        "T(2,3,6), T(2,3,4), T(2,5,4), T(2,5,6), False, 0.5, T(2,1,5), 0.0, 0, 0, None, True");

}  // namespace
}  // namespace tg
