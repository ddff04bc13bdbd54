// NCCL of the emulation: plain loops in stream order, with the interface and the rules of the library. Every device of
// a communicator must take part in every call, and one thread must group the calls of its devices. All inputs are read
// before any output is written, each on the stream of its device.
#include "backends/cuda/nccl.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "backends/cuda.h"
#include "backends/cuda/device.h"
#include "backends/cuda/emu/emu.h"
#include "core/convert.h"

namespace tg::cuda {
namespace {

struct Comm {
  int device, rank, size, clique;
};
struct Call {
  Collective kind;
  const void* in;
  void* out;
  size_t n;
  NcclType type;
  NcclOp op;
  int root;
  const Comm* comm;
  cudaStream_t stream;

  bool matches(const Call& o) const {
    return kind == o.kind && n == o.n && type == o.type && op == o.op && root == o.root;
  }
};
thread_local int t_depth = 0;
thread_local std::vector<Call> t_calls;  // of the group that is open

size_t size_of(NcclType t) {
  return t == kNcclI8 || t == kNcclU8      ? 1
         : t == kNcclF16 || t == kNcclBF16 ? 2
         : t == kNcclI32 || t == kNcclF32  ? 4
                                           : 8;
}

// Sums and the like in the order of `ins`; A is what T is added up in.
template <class T, class A>
void reduce_as(const std::vector<const void*>& ins, size_t from, size_t n, NcclOp op, void* out) {
  for (size_t i = 0; i < n; ++i) {
    auto at = [&](size_t rank) { return A(convert<A>(static_cast<const T*>(ins[rank])[from + i])); };
    A a = at(0);
    for (size_t r = 1; r < ins.size(); ++r) {
      const A b = at(r);
      a = op == kNcclProd ? a * b : op == kNcclMax ? (a < b ? b : a) : op == kNcclMin ? (b < a ? b : a) : a + b;
    }
    if (op == kNcclAvg) a = a / A(ins.size());
    static_cast<T*>(out)[i] = convert<T>(a);
  }
}
void reduce(NcclType t, const std::vector<const void*>& ins, size_t from, size_t n, NcclOp op, void* out) {
  switch (t) {
    case kNcclI8:
      return reduce_as<int8_t, int64_t>(ins, from, n, op, out);
    case kNcclU8:
      return reduce_as<uint8_t, int64_t>(ins, from, n, op, out);
    case kNcclI32:
      return reduce_as<int32_t, int64_t>(ins, from, n, op, out);
    case kNcclI64:
      return reduce_as<int64_t, int64_t>(ins, from, n, op, out);
    case kNcclF16:
      return reduce_as<Half, float>(ins, from, n, op, out);
    case kNcclBF16:
      return reduce_as<BFloat16, float>(ins, from, n, op, out);
    case kNcclF32:
      return reduce_as<float, float>(ins, from, n, op, out);
    case kNcclF64:
      return reduce_as<double, double>(ins, from, n, op, out);
  }
}

// Sums have the order of the ranks, unless the switch between devices may add up: then another one each time.
bool switch_may_add_up() {
  const char* set = std::getenv("NCCL_NVLS_ENABLE");
  return !set || std::strcmp(set, "0") != 0;
}

// What each rank gets.
using Results = std::vector<std::vector<char>>;
void compute(const std::vector<Call>& calls, Results& results) {
  const Call& c = calls[0];
  const size_t item = size_of(c.type), ranks = calls.size();
  std::vector<const void*> ins;
  for (const Call& each : calls) ins.push_back(each.in);
  if (c.kind != Collective::Broadcast && c.kind != Collective::AllGather && switch_may_add_up()) {
    static size_t made = 0;
    std::rotate(ins.begin(), ins.begin() + ptrdiff_t(++made % ranks), ins.end());
  }
  for (size_t r = 0; r < ranks; ++r) {
    std::vector<char>& to = results[r];
    if (c.kind == Collective::Reduce && int(r) != c.root) continue;
    to.resize(c.n * item * (c.kind == Collective::AllGather ? ranks : 1));
    if (c.kind == Collective::Broadcast)
      std::memcpy(to.data(), ins[size_t(c.root)], to.size());
    else if (c.kind == Collective::AllGather)
      for (size_t k = 0; k < ranks; ++k) std::memcpy(to.data() + k * c.n * item, ins[k], c.n * item);
    else
      reduce(c.type, ins, c.kind == Collective::ReduceScatter ? r * c.n : 0, c.n, c.op, to.data());
  }
}

// `s` waits for what `before` has queued, each the stream of its call's device.
void wait(const Call& s, const Call& before) {
  cudaEvent_t e;
  cudaEventCreateWithFlags(&e, cudaEventDisableTiming);
  {
    DeviceGuard guard(before.comm->device);
    cudaEventRecord(e, before.stream);
  }
  DeviceGuard guard(s.comm->device);
  cudaStreamWaitEvent(s.stream, e);
  cudaEventDestroy(e);
}
void enqueue_on(const Call& c, std::function<void()> work) {
  DeviceGuard guard(c.comm->device);
  emu::enqueue(c.stream, std::move(work));
}

void run(const std::vector<Call>& calls) {
  auto results = std::make_shared<Results>(calls.size());
  for (size_t r = 1; r < calls.size(); ++r) wait(calls[0], calls[r]);
  enqueue_on(calls[0], [=] { compute(calls, *results); });
  for (size_t r = 1; r < calls.size(); ++r) wait(calls[r], calls[0]);
  for (size_t r = 0; r < calls.size(); ++r)
    enqueue_on(calls[r], [=, out = calls[r].out] {
      const std::vector<char>& from = (*results)[r];
      if (!from.empty()) std::memcpy(out, from.data(), from.size());
    });
}

bool on_device(const void* p, int device) {
  cudaPointerAttributes a{};
  return cudaPointerGetAttributes(&a, p) == cudaSuccess && a.type == cudaMemoryTypeDevice && a.device == device;
}

NcclStatus submit(const Call& c) {
  const bool reads = c.kind != Collective::Broadcast || c.comm->rank == c.root;
  const bool writes = c.kind != Collective::Reduce || c.comm->rank == c.root;
  if ((reads && !on_device(c.in, c.comm->device)) || (writes && !on_device(c.out, c.comm->device)))
    return kNcclInvalidArgument;
  if (c.op < kNcclSum || c.op > kNcclAvg || c.root < 0 || c.root >= c.comm->size) return kNcclInvalidArgument;
  if (t_depth == 0 && c.comm->size > 1) return kNcclInvalidUsage;  // would wait for the others for ever
  if (t_depth == 0)
    run({c});
  else
    t_calls.push_back(c);
  return kNcclSuccess;
}

NcclStatus group_end() {
  if (t_depth == 0) return kNcclInvalidUsage;
  if (--t_depth > 0) return kNcclSuccess;
  std::vector<Call> calls = std::move(t_calls);
  t_calls.clear();
  if (std::getenv("TG_EMU_NCCL_FAULT")) {  // with an error left behind that the next launch would report
    cudaSetDevice(-1);
    return kNcclCudaError;
  }
  // One call of each device is what our host code puts into a group.
  for (size_t i = 0; i < calls.size(); ++i)
    if (calls.size() != size_t(calls[0].comm->size) || calls[i].comm->clique != calls[0].comm->clique ||
        calls[i].comm->rank != int(i) || !calls[i].matches(calls[0]))
      return kNcclInvalidUsage;
  if (!calls.empty()) run(calls);
  return kNcclSuccess;
}

NcclStatus init_all(NcclComm* comms, int n, const int* devices) {
  static int cliques = 0;
  int count = 0;
  cudaGetDeviceCount(&count);
  ++cliques;
  for (int i = 0; i < n; ++i) {
    if (devices[i] < 0 || devices[i] >= count) return kNcclInvalidArgument;
    comms[i] = reinterpret_cast<NcclComm>(new Comm{devices[i], i, n, cliques});
  }
  cudaSetDevice(devices[n - 1]);  // the library may leave any device current
  return kNcclSuccess;
}

Call call(Collective kind, const void* in, void* out, size_t n, NcclType t, NcclOp op, int root, NcclComm comm,
          cudaStream_t s) {
  return {kind, in, out, n, t, op, root, reinterpret_cast<const Comm*>(comm), s};
}

Nccl make_nccl() {
  Nccl n{};
  n.version = [](int* v) {
    *v = 22809;
    return kNcclSuccess;
  };
  n.error_string = [](NcclStatus s) {
    return s == kNcclCudaError      ? "emulated NCCL: unhandled cuda error"
           : s == kNcclInvalidUsage ? "emulated NCCL: invalid usage"
                                    : "emulated NCCL: invalid argument";
  };
  n.init_all = init_all;
  n.group_start = [] {
    ++t_depth;
    return kNcclSuccess;
  };
  n.group_end = group_end;
  n.all_reduce = [](const void* in, void* out, size_t k, NcclType t, NcclOp op, NcclComm c, cudaStream_t s) {
    return submit(call(Collective::AllReduce, in, out, k, t, op, 0, c, s));
  };
  n.reduce = [](const void* in, void* out, size_t k, NcclType t, NcclOp op, int root, NcclComm c, cudaStream_t s) {
    return submit(call(Collective::Reduce, in, out, k, t, op, root, c, s));
  };
  n.broadcast = [](const void* in, void* out, size_t k, NcclType t, int root, NcclComm c, cudaStream_t s) {
    return submit(call(Collective::Broadcast, in, out, k, t, kNcclSum, root, c, s));
  };
  n.all_gather = [](const void* in, void* out, size_t k, NcclType t, NcclComm c, cudaStream_t s) {
    return submit(call(Collective::AllGather, in, out, k, t, kNcclSum, 0, c, s));
  };
  n.reduce_scatter = [](const void* in, void* out, size_t k, NcclType t, NcclOp op, NcclComm c, cudaStream_t s) {
    return submit(call(Collective::ReduceScatter, in, out, k, t, op, 0, c, s));
  };
  return n;
}

}  // namespace

const Nccl& emulated_nccl() {
  static const Nccl n = make_nccl();
  return n;
}

}  // namespace tg::cuda
