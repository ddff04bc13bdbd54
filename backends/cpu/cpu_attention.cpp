// Attention in tiles of query rows: the weights of one tile are all of the T x T matrix that is ever in memory. A tile
// sees all its keys at once, so its rows go through the softmax that whole matrices go through, and backward computes
// them anew instead of keeping them.
#include <limits>
#include <numeric>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/loops.h"
#include "backends/cpu/nd.h"
#include "backends/random_bits.h"

namespace tg::cpu {
namespace {

constexpr int64_t kTileFloats = 1 << 16, kFewestRows = 16, kMostRows = 64;

// The views are (batch, heads, positions, features).
struct Attention {
  const View &q, &k, &v;
  const AttentionOptions& o;
  const Loops& l = loops();
  int64_t groups() const { return q.shape[0] * q.shape[1]; }
  int64_t queries() const { return q.shape[2]; }
  int64_t keys() const { return k.shape[2]; }
  int64_t tile() const { return std::clamp(kTileFloats / keys(), kFewestRows, kMostRows); }
  int64_t tiles() const { return (queries() + tile() - 1) / tile(); }
  // Keys that some query before row `end` sees, and that query `row` sees.
  int64_t seen_before(int64_t end) const { return o.causal ? std::min(end, keys()) : keys(); }
  int64_t seen_by(int64_t row) const { return seen_before(row + 1); }
  // The part of a tile's row that the kernels run over: whole vectors where there are that many.
  int64_t width(int64_t row, int64_t of_tile) const { return std::min((seen_by(row) + 15) & ~int64_t(15), of_tile); }

  // Positions [first, first + n) of one group, as a batch of one matrix.
  View part(const View& t, int64_t group, int64_t first, int64_t n) const {
    View m = t;
    const int64_t b = group / q.shape[1], h = group % q.shape[1];
    m.data = static_cast<char*>(t.data) + (b * t.stride[0] + h * t.stride[1] + first * t.stride[2]) * itemsize(t.dtype);
    m.shape = {1, n, t.shape[3]};
    m.stride = {0, t.stride[2], t.stride[3]};
    return m;
  }
  static View turned(View m) {
    std::swap(m.shape[1], m.shape[2]);
    std::swap(m.stride[1], m.stride[2]);
    return m;
  }
  static View dense(float* p, int64_t rows, int64_t columns) {
    View m;
    m.data = p;
    m.shape = {1, rows, columns};
    m.stride = {0, columns, 1};
    return m;
  }

  // The weights of queries [first, first + n) for the keys any of them sees.
  View weights(int64_t group, int64_t first, int64_t n, float* memory) const {
    const int64_t seen = seen_before(first + n);
    const View p = dense(memory, n, seen);
    cpu_backend().gemm(o.scale, part(q, group, first, n), turned(part(k, group, 0, seen)), 0, p);
    if (o.mask.data) add_mask(group, first, n, seen, memory);
    for (int64_t i = 0; i < n; ++i) {
      float* row = memory + i * seen;
      const int64_t m = width(first + i, seen);
      std::fill(row + seen_by(first + i), row + m, -std::numeric_limits<float>::infinity());
      l.fused[int(Fused::Softmax)](&row, &row, m, o.causal || o.mask.data);
      std::fill(row + m, row + seen, 0.0f);
    }
    return p;
  }
  // Hides or adds to scores of queries [first, first + n), in rows of `seen`.
  void add_mask(int64_t group, int64_t first, int64_t n, int64_t seen, float* scores) const {
    const View& m = o.mask;
    const int64_t heads = q.shape[1];
    const char* const head = static_cast<const char*>(m.data) +
                             (group / heads * m.stride[0] + group % heads * m.stride[1]) * itemsize(m.dtype);
    const Temp memory(2 * seen * 4);
    float *const x = memory.as<float>(), *const hide = x + seen;
    std::fill_n(hide, seen, -std::numeric_limits<float>::infinity());
    for (int64_t i = 0; i < n; ++i, scores += seen) {
      const char* const row = head + (first + i) * m.stride[2] * itemsize(m.dtype);
      if (i == 0 || m.stride[2] != 0) load_mask(row, seen, x);
      if (m.dtype == DType::Bool)
        run(Opc::where, x, scores, hide, scores, seen);
      else
        run(Opc::add, scores, x, nullptr, scores, seen);
    }
  }

  void load_mask(const char* row, int64_t n, float* out) const {
    const int64_t step = o.mask.stride[3];
    if (o.mask.dtype != DType::F64) return l.load[int(o.mask.dtype)][0](row, step, out, n);
    for (int64_t j = 0; j < n; ++j) out[j] = mask_number(reinterpret_cast<const double*>(row)[j * step]);
  }

  // out = what belongs to the weights of queries [first, first + n), times 0 or, where dropout keeps them, 1.
  struct Dropped {
    const float* in;
    float* out;
  };
  void drop(int64_t group, int64_t first, int64_t n, int64_t seen, std::initializer_list<Dropped> all) const {
    const Temp memory(2 * seen * 4);
    float *const kept = memory.as<float>(), *const part = kept + seen;
    std::fill_n(part, seen, float(o.dropout));
    for (int64_t i = 0; i < n; ++i) {
      const int64_t place = o.numbers.first + (group * queries() + first + i) * keys();
      l.rand[int(rnd::Draw::Uniform)][0](o.numbers.seed, o.numbers.offset, place, kept, seen);
      run(Opc::ge, kept, part, nullptr, kept, seen);
      for (const Dropped& d : all) run(Opc::mul, d.in + i * seen, kept, nullptr, d.out + i * seen, seen);
    }
  }
  void run(Opc f, const float* a, const float* b, const float* c, float* out, int64_t n) const {
    l.map[0][int(f)](a, b, c, out, n);
  }
};

void attend(const Attention& a, const View& out) {
  const int64_t tile = a.tile(), tiles = a.tiles();
  const int64_t work = tile * a.keys() * (a.q.shape[3] + a.v.shape[3]);
  parallel_for(a.groups() * tiles, std::max<int64_t>(1, 4 * kGrain / work), [&](int64_t b, int64_t e) {
    const Temp memory(tile * a.keys() * 4);
    for (int64_t u = b; u < e; ++u) {
      const int64_t group = u / tiles, first = u % tiles * tile, n = std::min(tile, a.queries() - first);
      float* const weights = memory.as<float>();
      const View p = a.weights(group, first, n, weights);
      if (a.o.dropout > 0) a.drop(group, first, n, p.shape[2], {{weights, weights}});
      cpu_backend().gemm(a.o.kept(), p, a.part(a.v, group, 0, p.shape[2]), 0, a.part(out, group, first, n));
    }
  });
}

void clear(const View& m) {
  for (int64_t i = 0; i < m.shape[1]; ++i) std::fill_n(static_cast<float*>(m.data) + i * m.stride[1], m.shape[2], 0.0f);
}

// Operands and results of backward; no data in dmask: not asked for.
struct Backward {
  const Attention a;
  const View &g, &dq, &dk, &dv, &dmask;
  const bool drops = a.o.dropout > 0;

  // Heads that add to the same numbers of dmask are of one set, and come one after the other.
  bool apart(int axis) const { return !dmask.data || dmask.stride[axis] != 0; }
  int64_t sets() const { return (apart(0) ? a.q.shape[0] : 1) * (apart(1) ? a.q.shape[1] : 1); }
  void run(int64_t set, float* memory) const {
    const int64_t n = a.groups() / sets(), step = apart(1) ? sets() : 1;
    const int64_t first = apart(1) ? set : set * n;
    for (int64_t i = 0; i < n; ++i) run_group(first + i * step, memory);
  }

  int64_t floats() const { return (drops ? 3 : 2) * a.tile() * a.keys(); }

 private:
  // With P the weights, dP = drop(g V^T) and dS = P (dP - sum(P dP)): dQ = scale dS K, dK = scale dS^T Q,
  // dV = drop(P)^T g. The tiles of a group come one after the other, as their sums into dK and dV must.
  void run_group(int64_t group, float* const weights) const {
    const int64_t tile = a.tile();
    float* const slopes = weights + tile * a.keys();
    float* const left = drops ? slopes + tile * a.keys() : weights;
    Backend& be = cpu_backend();
    double beta = 0;  // the last tile comes first: no other sees more keys, so it may write what the others add to
    for (int64_t first = (a.tiles() - 1) * tile; first >= 0; first -= tile, beta = 1) {
      const int64_t n = std::min(tile, a.queries() - first);
      if (const int64_t most = a.seen_before(a.queries()); beta == 0 && most < a.keys()) {
        clear(a.part(dk, group, most, a.keys() - most));
        clear(a.part(dv, group, most, a.keys() - most));
      }
      const View p = a.weights(group, first, n, weights);
      const int64_t seen = p.shape[2];
      const View ds = Attention::dense(slopes, n, seen), gt = a.part(g, group, first, n);
      be.gemm(a.o.kept(), gt, Attention::turned(a.part(a.v, group, 0, seen)), 0, ds);
      if (drops) a.drop(group, first, n, seen, {{slopes, slopes}, {weights, left}});
      be.gemm(a.o.kept(), Attention::turned(Attention::dense(left, n, seen)), gt, beta, a.part(dv, group, 0, seen));
      for (int64_t i = 0; i < n; ++i) {
        const float* in[] = {weights + i * seen, slopes + i * seen};
        float* out = slopes + i * seen;
        const int64_t m = a.width(first + i, seen);
        a.l.fused[int(Fused::SoftmaxGrad)](in, &out, m, 0);
        std::fill(out + m, out + seen, 0.0f);
        if (dmask.data) add_row(group, first + i, out, seen);
      }
      be.gemm(a.o.scale, ds, a.part(a.k, group, 0, seen), 0, a.part(dq, group, first, n));
      be.gemm(a.o.scale, Attention::turned(ds), a.part(a.q, group, first, n), beta, a.part(dk, group, 0, seen));
    }
  }

  // Adds a row of the scores' gradient to that of the mask.
  void add_row(int64_t group, int64_t query, const float* row, int64_t n) const {
    const int64_t heads = a.q.shape[1], step = dmask.stride[3];
    const int64_t at = group / heads * dmask.stride[0] + group % heads * dmask.stride[1] + query * dmask.stride[2];
    if (dmask.dtype == DType::F32 && step == 1) {
      float* const to = static_cast<float*>(dmask.data) + at;
      return a.run(Opc::add, to, row, nullptr, to, n);
    }
    visit(dmask.dtype, [&](auto tag) {
      using M = typename decltype(tag)::type;
      M* const to = static_cast<M*>(dmask.data) + at;
      auto add = [](M& x, double more) { x = convert<M>(convert<double>(x) + more); };
      if (step == 0)
        add(*to, std::accumulate(row, row + n, 0.0));
      else
        for (int64_t j = 0; j < n; ++j) add(to[j * step], row[j]);
    });
  }
};

void attend_back(const Backward& b) {
  parallel_for(b.sets(), 1, [&](int64_t first, int64_t end) {
    const Temp memory(b.floats() * 4);
    for (int64_t set = first; set < end; ++set) b.run(set, memory.as<float>());
  });
}

// Vectors of float32 whose results lie side by side.
bool usable(std::initializer_list<const View*> ins, std::initializer_list<const View*> outs) {
  for (auto views : {ins, outs})
    for (const View* v : views)
      if (v->ndim() != 4 || v->dtype != DType::F32 || v->numel() == 0) return false;
  for (const View* v : outs)
    if (v->stride[3] != 1) return false;
  return true;
}

}  // namespace

bool CpuBackend::attention(const View& q, const View& k, const View& v, const AttentionOptions& o, const View& out) {
  if (!usable({&q, &k, &v}, {&out})) return false;
  attend({q, k, v, o}, out);
  return true;
}

bool CpuBackend::attention_grad(const View& q, const View& k, const View& v, const View& g, const AttentionOptions& o,
                                const View& dq, const View& dk, const View& dv, const View& dmask) {
  if (!usable({&q, &k, &v, &g}, {&dq, &dk, &dv})) return false;
  attend_back({{q, k, v, o}, g, dq, dk, dv, dmask});
  return true;
}

}  // namespace tg::cpu
