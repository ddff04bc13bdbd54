// cuDNN of the emulation: plain loops in stream order, with the interface and the rules of the library. Its heuristics
// begin with algorithms that nobody may take: one whose sums have no fixed order, and one with a huge workspace. Of the
// two that may be taken the second needs less memory.
#include "backends/cuda/dnn.h"

#include <bit>
#include <vector>

#include "backends/cuda/device.h"
#include "backends/cuda/emu/emu.h"
#include "core/convert.h"

namespace tg::cuda {

// Not supported, with an error left behind that the next launch of a kernel would report.
DnnStatus emulated_refusal() {
  cudaSetDevice(-1);
  return kDnnNotSupported;
}

namespace {

constexpr int kDisordered = 0, kUsable = 1, kGreedy = 2, kSmall = 3;
constexpr size_t kWorkspace = 128 << 10, kSmallWorkspace = 32 << 10;

struct Tensor {
  DnnType type = kDnnF32;
  std::vector<int> sizes, strides;
};
struct Convolution {
  std::vector<int> padding, stride, dilation;
  int groups = 1;
  DnnMath math = kDnnDefaultMath;
};
struct Handle {
  cudaStream_t stream = nullptr;
};
Tensor& at(DnnTensor t) { return *reinterpret_cast<Tensor*>(t); }
Tensor& at(DnnFilter t) { return *reinterpret_cast<Tensor*>(t); }
Convolution& at(DnnConvolution c) { return *reinterpret_cast<Convolution*>(c); }

template <class T, class D>
DnnStatus create(D* d) {
  *d = reinterpret_cast<D>(new T);
  return kDnnSuccess;
}
template <class T, class D>
DnnStatus destroy(D d) {
  delete reinterpret_cast<T*>(d);
  return kDnnSuccess;
}

DnnStatus set_tensor(DnnTensor t, DnnType type, int n, const int* sizes, const int* strides) {
  if (n < 4 || n > 8) return kDnnBadParam;
  at(t) = {type, {sizes, sizes + n}, {strides, strides + n}};
  return kDnnSuccess;
}
DnnStatus set_filter(DnnFilter t, DnnType type, DnnFormat, int n, const int* sizes) {
  if (n < 4 || n > 8) return kDnnBadParam;
  std::vector<int> strides(size_t(n), 1);
  for (int d = n - 2; d >= 0; --d) strides[size_t(d)] = strides[size_t(d) + 1] * sizes[d + 1];
  at(t) = {type, {sizes, sizes + n}, strides};
  return kDnnSuccess;
}
DnnStatus set_convolution(DnnConvolution c, int n, const int* padding, const int* stride, const int* dilation, DnnMode,
                          DnnType compute) {
  if (n < 2 || compute != kDnnF32) return kDnnBadParam;
  at(c).padding = {padding, padding + n}, at(c).stride = {stride, stride + n},
  at(c).dilation = {dilation, dilation + n};
  return kDnnSuccess;
}

// One call: what each pass reads and writes.
struct Call {
  Tensor x, w, y;
  Convolution c;
  void *px, *pw, *py;

  bool valid() const {
    const size_t n = x.sizes.size();
    if (w.sizes.size() != n || y.sizes.size() != n || c.padding.size() != n - 2) return false;
    if (x.type != w.type || x.type != y.type || x.sizes[0] != y.sizes[0]) return false;
    if (x.sizes[1] != w.sizes[1] * c.groups || y.sizes[1] != w.sizes[0] || w.sizes[0] % c.groups) return false;
    for (size_t d = 2; d < n; ++d) {
      const int span = (w.sizes[d] - 1) * c.dilation[d - 2] + 1, room = x.sizes[d] + 2 * c.padding[d - 2] - span;
      if (room < 0 || y.sizes[d] != room / c.stride[d - 2] + 1) return false;
    }
    return true;
  }

  static int64_t elements(const Tensor& t) {
    int64_t n = 1;
    for (int s : t.sizes) n *= s;
    return n;
  }
  // float32 as the tensor cores round it where the default math allows it.
  double load(const Tensor& t, const void* p, int64_t i) const {
    if (t.type == kDnnF16) return convert<float>(static_cast<const Half*>(p)[i]);
    if (t.type == kDnnBF16) return convert<float>(static_cast<const BFloat16*>(p)[i]);
    const auto bits = std::bit_cast<uint32_t>(static_cast<const float*>(p)[i]);
    return std::bit_cast<float>(c.math == kDnnFmaMath ? bits : (bits + 0x1000) & ~0x1fffu);
  }
  static void store(const Tensor& t, void* p, const std::vector<double>& v) {
    for (size_t i = 0; i < v.size(); ++i) {
      const float f = float(v[i]);
      if (t.type == kDnnF16)
        static_cast<Half*>(p)[i] = convert<Half>(f);
      else if (t.type == kDnnBF16)
        static_cast<BFloat16*>(p)[i] = convert<BFloat16>(f);
      else
        static_cast<float*>(p)[i] = f;
    }
  }

  // f(offset in x, in w, in y) for every product of the convolution.
  template <class F>
  void products(size_t d, int64_t ox, int64_t ow, int64_t oy, F& f) const {
    if (d == x.sizes.size()) return f(ox, ow, oy);
    for (int window = 0; window < y.sizes[d]; ++window)
      for (int tap = 0; tap < w.sizes[d]; ++tap) {
        const int i = window * c.stride[d - 2] + tap * c.dilation[d - 2] - c.padding[d - 2];
        if (i < 0 || i >= x.sizes[d]) continue;
        products(d + 1, ox + int64_t(i) * x.strides[d], ow + int64_t(tap) * w.strides[d],
                 oy + int64_t(window) * y.strides[d], f);
      }
  }
  template <class F>
  void all_products(F f) const {
    const int in = w.sizes[1], out = w.sizes[0] / c.groups;
    for (int b = 0; b < x.sizes[0]; ++b)
      for (int o = 0; o < w.sizes[0]; ++o)
        for (int i = 0; i < in; ++i)
          products(2, int64_t(b) * x.strides[0] + int64_t(o / out * in + i) * x.strides[1],
                   int64_t(o) * w.strides[0] + int64_t(i) * w.strides[1],
                   int64_t(b) * y.strides[0] + int64_t(o) * y.strides[1], f);
  }

  void output() const {
    std::vector<double> sum(size_t(elements(y)));
    all_products([&](int64_t ix, int64_t iw, int64_t iy) { sum[size_t(iy)] += load(x, px, ix) * load(w, pw, iw); });
    store(y, py, sum);
  }
  void input() const {
    std::vector<double> sum(size_t(elements(x)));
    all_products([&](int64_t ix, int64_t iw, int64_t iy) { sum[size_t(ix)] += load(y, py, iy) * load(w, pw, iw); });
    store(x, px, sum);
  }
  void weight() const {
    std::vector<double> sum(size_t(elements(w)));
    all_products([&](int64_t ix, int64_t iw, int64_t iy) { sum[size_t(iw)] += load(x, px, ix) * load(y, py, iy); });
    store(w, pw, sum);
  }
};

// Results are dense, and what is added to them would be theirs: alpha = 1, beta = 0.
DnnStatus run(DnnHandle h, const Call& call, void (Call::*pass)() const, const void* alpha, const void* beta,
              int algorithm, void* workspace, size_t bytes) {
  if (!call.valid() || *static_cast<const float*>(alpha) != 1 || *static_cast<const float*>(beta) != 0)
    return kDnnBadParam;
  const size_t wanted = algorithm == kUsable ? kWorkspace : kSmallWorkspace;
  if ((algorithm != kUsable && algorithm != kSmall) || bytes != wanted || !workspace) return kDnnBadParam;
  emu::enqueue(reinterpret_cast<Handle*>(h)->stream, [=] {
    std::memset(workspace, 0xff, wanted);
    (call.*pass)();
  });
  return kDnnSuccess;
}

DnnStatus find(const Call& call, int wanted, int* n, DnnAlgorithm* found) {
  if (!call.valid()) return kDnnBadParam;
  if (call.c.groups > 64) return emulated_refusal();
  const DnnMath math = call.c.math;
  const DnnAlgorithm all[] = {
      {kDisordered, kDnnSuccess, 1, 0, DnnDeterminism(0), math, {}},
      {kGreedy, kDnnSuccess, 2, size_t(1) << 40, kDnnDeterministic, math, {}},
      {kDisordered, kDnnNotSupported, -1, 0, kDnnDeterministic, math, {}},
      {kUsable, kDnnSuccess, 3, kWorkspace, kDnnDeterministic, math, {}},
      {kSmall, kDnnSuccess, 4, kSmallWorkspace, kDnnDeterministic, math, {}},
  };
  for (*n = 0; *n < wanted && *n < 5; ++*n) found[*n] = all[*n];
  return kDnnSuccess;
}

Call call_of(DnnTensor x, DnnFilter w, DnnTensor y, DnnConvolution c, const void* px = nullptr,
             const void* pw = nullptr, const void* py = nullptr) {
  return {at(x), at(w), at(y), at(c), const_cast<void*>(px), const_cast<void*>(pw), const_cast<void*>(py)};
}

Dnn make_dnn() {
  Dnn d{};
  d.create = [](DnnHandle* h) { return recording_graph() ? emulated_refusal() : create<Handle>(h); };
  d.set_stream = [](DnnHandle h, cudaStream_t s) {
    reinterpret_cast<Handle*>(h)->stream = s;
    return kDnnSuccess;
  };
  d.error_string = [](DnnStatus) { return "emulated cuDNN: bad parameter"; };
  d.create_tensor = create<Tensor, DnnTensor>, d.destroy_tensor = destroy<Tensor, DnnTensor>;
  d.create_filter = create<Tensor, DnnFilter>, d.destroy_filter = destroy<Tensor, DnnFilter>;
  d.create_convolution = create<Convolution, DnnConvolution>;
  d.destroy_convolution = destroy<Convolution, DnnConvolution>;
  d.set_tensor = set_tensor, d.set_filter = set_filter, d.set_convolution = set_convolution;
  d.set_groups = [](DnnConvolution c, int groups) {
    at(c).groups = groups;
    return kDnnSuccess;
  };
  d.set_math = [](DnnConvolution c, DnnMath m) {
    at(c).math = m;
    return kDnnSuccess;
  };
  d.find_output = [](DnnHandle, DnnTensor x, DnnFilter w, DnnConvolution c, DnnTensor y, int wanted, int* n,
                     DnnAlgorithm* found) { return find(call_of(x, w, y, c), wanted, n, found); };
  d.find_input = [](DnnHandle, DnnFilter w, DnnTensor y, DnnConvolution c, DnnTensor x, int wanted, int* n,
                    DnnAlgorithm* found) { return find(call_of(x, w, y, c), wanted, n, found); };
  d.find_weight = [](DnnHandle, DnnTensor x, DnnTensor y, DnnConvolution c, DnnFilter w, int wanted, int* n,
                     DnnAlgorithm* found) { return find(call_of(x, w, y, c), wanted, n, found); };
  d.output = [](DnnHandle h, const void* alpha, DnnTensor x, const void* px, DnnFilter w, const void* pw,
                DnnConvolution c, int algorithm, void* space, size_t bytes, const void* beta, DnnTensor y, void* py) {
    return run(h, call_of(x, w, y, c, px, pw, py), &Call::output, alpha, beta, algorithm, space, bytes);
  };
  d.input = [](DnnHandle h, const void* alpha, DnnFilter w, const void* pw, DnnTensor y, const void* py,
               DnnConvolution c, int algorithm, void* space, size_t bytes, const void* beta, DnnTensor x, void* px) {
    return run(h, call_of(x, w, y, c, px, pw, py), &Call::input, alpha, beta, algorithm, space, bytes);
  };
  d.weight = [](DnnHandle h, const void* alpha, DnnTensor x, const void* px, DnnTensor y, const void* py,
                DnnConvolution c, int algorithm, void* space, size_t bytes, const void* beta, DnnFilter w, void* pw) {
    return run(h, call_of(x, w, y, c, px, pw, py), &Call::weight, alpha, beta, algorithm, space, bytes);
  };
  return d;
}

}  // namespace

cudaStream_t emulated_dnn_stream(DnnHandle h) { return reinterpret_cast<Handle*>(h)->stream; }

const Dnn& emulated_dnn() {
  static const Dnn d = make_dnn();
  return d;
}

}  // namespace tg::cuda
