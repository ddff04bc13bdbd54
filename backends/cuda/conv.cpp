// Convolutions by cuDNN, by the fastest algorithm its heuristics know that gives the same bits each time and whose
// workspace there is room for.
#include <list>
#include <map>
#include <memory>
#include <mutex>

#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/device.h"
#include "backends/cuda/dnn.h"

namespace tg::cuda {
namespace {

constexpr size_t kMostWorkspace = size_t(1) << 30, kMostPlans = 1024;
constexpr int kMostAlgorithms = 10;

template <class D>
struct Descriptor {
  D d = nullptr;
  DnnStatus (*destroy)(D) = nullptr;
  Descriptor() = default;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (d) destroy(d);
  }
  void make(const Dnn& lib, DnnStatus (*create)(D*), DnnStatus (*destroy_it)(D), const char* what) {
    check_dnn(lib, create(&d), what);
    destroy = destroy_it;
  }
};

struct Algorithm {
  Descriptor<DnnConvolution> conv;
  int number;
  size_t workspace;
};

// How one convolution is computed: the fastest algorithm, then those that need less memory than all before. None: not
// by cuDNN.
struct ConvPlan {
  Descriptor<DnnTensor> x, y;
  Descriptor<DnnFilter> w;
  std::list<Algorithm> algorithms;
};

struct Request {
  ConvPart part;
  DnnType type;
  bool tf32;
  int groups;
  // Sizes and options as cuDNN takes them: at least two spatial axes.
  std::vector<int> x, w, y, padding, stride, dilation;
};

// False if a size is beyond cuDNN's 32 bits.
bool as_ints(const Dims& from, int spatial, std::vector<int>& to, int one) {
  int64_t n = 1;
  for (int d = 0; d < from.size(); ++d) {
    if (spatial == 1 && d == from.size() - 1) to.push_back(one);
    n *= std::max<int64_t>(from[d], 1);
    if (n >= int64_t(1) << 31) return false;
    to.push_back(int(from[d]));
  }
  return true;
}

std::vector<int> dense_strides(const std::vector<int>& sizes) {
  std::vector<int> s(sizes.size());
  int step = 1;
  for (size_t d = sizes.size(); d-- > 0;) s[d] = step, step *= sizes[d];
  return s;
}

void describe_tensor(const Dnn& lib, Descriptor<DnnTensor>& t, DnnType type, const std::vector<int>& sizes) {
  t.make(lib, lib.create_tensor, lib.destroy_tensor, "cudnnCreateTensorDescriptor");
  const auto strides = dense_strides(sizes);
  check_dnn(lib, lib.set_tensor(t.d, type, int(sizes.size()), sizes.data(), strides.data()),
            "cudnnSetTensorNdDescriptor");
}

// float32 stays so unless TF32 is allowed; half types go through the tensor cores.
DnnMath math_of(const Request& r) {
  return r.type != kDnnF32 ? kDnnTensorMath : r.tf32 ? kDnnDefaultMath : kDnnFmaMath;
}

void describe_convolution(const Dnn& lib, const Request& r, DnnMath math, Descriptor<DnnConvolution>& conv) {
  conv.make(lib, lib.create_convolution, lib.destroy_convolution, "cudnnCreateConvolutionDescriptor");
  check_dnn(lib,
            lib.set_convolution(conv.d, int(r.padding.size()), r.padding.data(), r.stride.data(), r.dilation.data(),
                                kDnnCrossCorrelation, kDnnF32),
            "cudnnSetConvolutionNdDescriptor");
  check_dnn(lib, lib.set_groups(conv.d, r.groups), "cudnnSetConvolutionGroupCount");
  check_dnn(lib, lib.set_math(conv.d, math), "cudnnSetConvolutionMathType");
}

// False for what cuDNN does not support; other failures are errors.
bool supported(const Dnn& lib, DnnStatus s, const char* what) {
  if (!dnn_succeeded(s) && s >= kDnnNotSupported && s < kDnnNotSupportedEnd) return false;
  check_dnn(lib, s, what);
  return true;
}

void choose_algorithms(const Dnn& lib, DnnHandle h, const Request& r, ConvPlan& p) {
  const bool fma = math_of(r) == kDnnFmaMath;
  Descriptor<DnnConvolution> conv;
  describe_convolution(lib, r, math_of(r), conv);
  DnnAlgorithm found[kMostAlgorithms];
  int n = 0;
  const DnnStatus s =
      r.part == ConvPart::Output  ? lib.find_output(h, p.x.d, p.w.d, conv.d, p.y.d, kMostAlgorithms, &n, found)
      : r.part == ConvPart::Input ? lib.find_input(h, p.w.d, p.y.d, conv.d, p.x.d, kMostAlgorithms, &n, found)
                                  : lib.find_weight(h, p.x.d, p.y.d, conv.d, p.w.d, kMostAlgorithms, &n, found);
  if (!supported(lib, s, "the heuristics for convolutions")) return;
  for (int i = 0; i < n; ++i) {
    const DnnAlgorithm& a = found[i];
    if (a.status != kDnnSuccess || a.determinism != kDnnDeterministic || a.memory > kMostWorkspace) continue;
    if (fma && (a.math == kDnnTensorMath || a.math == kDnnTensorMathConverting)) continue;
    if (!p.algorithms.empty() && a.memory >= p.algorithms.back().workspace) continue;
    Algorithm& kept = p.algorithms.emplace_back();
    describe_convolution(lib, r, fma ? kDnnFmaMath : a.math, kept.conv);
    kept.number = a.algorithm, kept.workspace = a.memory;
  }
}

std::shared_ptr<const ConvPlan> make_plan(const Dnn& lib, DnnHandle h, const Request& r) {
  auto p = std::make_shared<ConvPlan>();
  describe_tensor(lib, p->x, r.type, r.x);
  describe_tensor(lib, p->y, r.type, r.y);
  p->w.make(lib, lib.create_filter, lib.destroy_filter, "cudnnCreateFilterDescriptor");
  check_dnn(lib, lib.set_filter(p->w.d, r.type, kDnnRowMajor, int(r.w.size()), r.w.data()),
            "cudnnSetFilterNdDescriptor");
  choose_algorithms(lib, h, r, *p);
  return p;
}

using Key = std::vector<int>;
Key key_of(const Request& r) {
  Key k{current_device(), int(r.part), r.type, r.tf32, r.groups, int(r.x.size())};
  for (const auto* sizes : {&r.x, &r.w, &r.y, &r.padding, &r.stride, &r.dilation})
    k.insert(k.end(), sizes->begin(), sizes->end());
  return k;
}

// Plans are kept, as the heuristics cost more than a small convolution; all are dropped when there are too many. None
// is made while a graph is recorded: null then.
std::shared_ptr<const ConvPlan> plan_for(const Dnn& lib, DnnHandle h, const Request& r) {
  static std::mutex mutex;
  static auto* const plans = new std::map<Key, std::shared_ptr<const ConvPlan>>;
  const Key key = key_of(r);
  {
    std::lock_guard lock(mutex);
    if (auto at = plans->find(key); at != plans->end()) return at->second;
  }
  if (recording_graph()) return nullptr;
  auto plan = make_plan(lib, h, r);
  std::lock_guard lock(mutex);
  if (plans->size() >= kMostPlans) plans->clear();
  return plans->emplace(key, plan).first->second;
}

// False if it is no convolution that cuDNN knows: another type, too large, or with fewer windows than fit.
bool request(ConvPart part, const ConvShape& g, const Dims& padding, const View& x, const View& w, const View& y,
             Request& r) {
  const int n = g.kernel.size();
  if (x.dtype != DType::F32 && !is_half(x.dtype)) return false;
  if (x.numel() == 0 || w.numel() == 0 || y.numel() == 0 || g.groups > INT32_MAX) return false;
  for (int i = 0; i < n; ++i)
    if (g.windows[i] != (g.padded[i] - (g.kernel[i] - 1) * g.dilation[i] - 1) / g.stride[i] + 1) return false;
  r.part = part, r.groups = int(g.groups), r.tf32 = allow_tf32_in_convolutions();
  r.type = x.dtype == DType::F32 ? kDnnF32 : x.dtype == DType::F16 ? kDnnF16 : kDnnBF16;
  return as_ints(x.shape, n, r.x, 1) && as_ints(w.shape, n, r.w, 1) && as_ints(y.shape, n, r.y, 1) &&
         as_ints(padding, n, r.padding, 0) && as_ints(g.stride, n, r.stride, 1) &&
         as_ints(g.dilation, n, r.dilation, 1);
}

DnnStatus run_algorithm(const Dnn& lib, DnnHandle h, ConvPart part, const ConvPlan& p, const Algorithm& a, void* space,
                        const View& x, const View& w, const View& y) {
  const float one = 1, zero = 0;
  switch (part) {
    case ConvPart::Output:
      return lib.output(h, &one, p.x.d, x.data, p.w.d, w.data, a.conv.d, a.number, space, a.workspace, &zero, p.y.d,
                        y.data);
    case ConvPart::Input:
      return lib.input(h, &one, p.w.d, w.data, p.y.d, y.data, a.conv.d, a.number, space, a.workspace, &zero, p.x.d,
                       x.data);
    default:
      return lib.weight(h, &one, p.x.d, x.data, p.y.d, y.data, a.conv.d, a.number, space, a.workspace, &zero, p.w.d,
                        w.data);
  }
}

}  // namespace

bool CudaBackend::convolve(ConvPart part, const ConvShape& g, const Dims& padding, View x, View w, View y,
                           const std::function<void*()>& allocate) {
  DeviceGuard guard(device_);
  const Dnn* lib = dnn();
  Request r;
  if (!lib || !request(part, g, padding, x, w, y, r)) return false;
  DnnHandle h = nullptr;
  check_dnn(*lib, find_dnn_handle(*lib, h), "cudnnCreate");
  const auto p = h ? plan_for(*lib, h, r) : nullptr;
  if (!p || p->algorithms.empty()) return false;
  (part == ConvPart::Output ? y : part == ConvPart::Input ? x : w).data = allocate();
  for (const Algorithm& a : p->algorithms) {
    const auto workspace = scratch_if_it_fits(std::max<size_t>(a.workspace, 1));
    if (!workspace) continue;
    note_work("a convolution by cuDNN");
    const DnnStatus s = run_algorithm(*lib, h, part, *p, a, workspace->as<void>(), x, w, y);
    return supported(*lib, s, "a convolution by cuDNN");  // what is not was not queued
  }
  return false;
}

}  // namespace tg::cuda
