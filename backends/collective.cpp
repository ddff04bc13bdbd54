#include "backends/collective.h"

#include "core/modes.h"

namespace tg::cuda {
namespace {

const char* name_of(Collective kind) {
  constexpr const char* names[] = {"all_reduce", "reduce", "broadcast", "all_gather", "reduce_scatter"};
  return names[int(kind)];
}

// A tensor's part in a call, for its errors: "nccl.all_reduce: inputs[1]".
struct Place {
  Collective kind;
  const char* list;
  size_t i;
  friend std::string to_string(const Place& p) { return str("nccl.", name_of(p.kind), ": ", p.list, "[", p.i, "]"); }
};

void check_tensor(const Tensor& t, const Place& at) {
  TG_CHECK(t.defined(), TypeError, to_string(at), " is an undefined tensor");
  TG_CHECK(!t.device().is_cpu(), DeviceError, to_string(at), " is ", describe(t),
           ": NCCL works on tensors of CUDA devices");
  TG_CHECK(t.is_contiguous(), ValueError, to_string(at), " is not contiguous; call contiguous() first");
  TG_CHECK(!t.requires_grad() || !modes().grad, AutogradError, to_string(at),
           " requires grad, but collectives have no gradient: call them under no_grad()");
}

void check_inputs(Collective kind, const std::vector<Tensor>& ins) {
  TG_CHECK(!ins.empty(), ValueError, "nccl.", name_of(kind), ": expected at least one tensor");
  for (size_t i = 0; i < ins.size(); ++i) {
    const Place at{kind, "inputs", i};
    check_tensor(ins[i], at);
    for (size_t k = 0; k < i; ++k)
      TG_CHECK(ins[i].device() != ins[k].device(), DeviceError, to_string(at), " and inputs[", k, "] are both on ",
               ins[i].device(), "; expected one tensor of each device");
    TG_CHECK(ins[i].dtype() == ins[0].dtype(), DTypeError, to_string(at), " is ", describe(ins[i]), ", inputs[0] is ",
             describe(ins[0]), "; expected one dtype");
    TG_CHECK(ins[i].numel() == ins[0].numel(), ShapeError, to_string(at), " is ", describe(ins[i]), ", inputs[0] is ",
             describe(ins[0]), "; expected the same number of elements");
  }
}

void check_output(const Tensor& out, const Tensor& in, int64_t numel, const Place& at) {
  check_tensor(out, at);
  TG_CHECK(out.device() == in.device(), DeviceError, to_string(at), " is on ", out.device(), ", its input on ",
           in.device());
  TG_CHECK(out.dtype() == in.dtype(), DTypeError, to_string(at), " is ", describe(out), ", its input ", describe(in),
           "; expected one dtype");
  TG_CHECK(out.numel() == numel, ShapeError, to_string(at), " is ", describe(out), "; expected ", numel, " elements");
}

// Memory of an input may be that of an output in one place only, where NCCL reads it before it writes there.
void check_overlap(const Tensor& in, const Tensor& out, int64_t in_offset, int64_t out_offset, const Place& at) {
  const int64_t item = itemsize(in.dtype());
  const auto* a = static_cast<const char*>(in.data());
  const auto* b = static_cast<const char*>(out.data());
  if (a + in_offset * item == b + out_offset * item) return;
  TG_CHECK(a + in.numel() * item <= b || b + out.numel() * item <= a, ValueError, to_string(at),
           " shares memory with its input");
}

}  // namespace

bool has_nccl() noexcept {
  try {
    return is_available() && runtime().nccl_version() > 0;
  } catch (...) {
    return false;
  }
}

int nccl_version() {
  const int v = runtime().nccl_version();
  TG_CHECK(v > 0, DeviceError,
           "cuda: NCCL (libnccl.so.2) was not found; pip install \"nvidia-nccl-cu13>=2.28,<3\", or pip install "
           "\"tinygrad_cpp[cuda]\"");
  return v;
}

void collective(Collective kind, const std::vector<Tensor>& ins, const std::vector<Tensor>& outs, int op, int root) {
  check_inputs(kind, ins);
  const auto ranks = int64_t(ins.size());
  const std::string name = str("nccl.", name_of(kind));
  const bool gathers = kind == Collective::AllGather, scatters = kind == Collective::ReduceScatter;
  const DType type = ins[0].dtype();
  TG_CHECK(root >= 0 && root < ranks, ValueError, name, ": root is ", root, ", there are ", ranks, " tensors");
  if (kind != Collective::Broadcast && !gathers) {
    TG_CHECK(op >= 0 && op <= 4, ValueError, name, ": op is ", op,
             "; expected 0 (sum), 1 (product), 2 (max), 3 (min) or 4 (average)");
    TG_CHECK(type != DType::Bool && type != DType::I16, DTypeError, name, ": NCCL does not add up ", tg::name(type),
             "; inputs[0]=", describe(ins[0]));
  }
  const size_t wanted = kind == Collective::Reduce ? 1 : ins.size();
  TG_CHECK(outs.size() == wanted, ValueError, name, ": expected ", wanted, " outputs, got ", outs.size());
  const int64_t n = ins[0].numel();
  TG_CHECK(!scatters || n % ranks == 0, ShapeError, name, ": ", n, " elements are no multiple of ", ranks,
           " tensors; inputs[0]=", describe(ins[0]));
  CollectiveCall call{kind, op, root, type, scatters ? n / ranks : n, {}};
  for (size_t i = 0; i < ins.size(); ++i) {
    const bool writes = kind != Collective::Reduce || int(i) == root;
    const Tensor out = writes ? outs[kind == Collective::Reduce ? 0 : i] : Tensor();
    if (writes) {
      const Place at{kind, "outputs", kind == Collective::Reduce ? 0 : i};
      check_output(out, ins[i], gathers ? n * ranks : call.n, at);
      check_overlap(ins[i], out, scatters ? int64_t(i) * call.n : 0, gathers ? int64_t(i) * n : 0, at);
    }
    call.parts.push_back({ins[i].device().index, ins[i].data(), writes ? out.data() : nullptr});
  }
  nccl_version();
  TG_CHECK(!capturing(), NotImplementedError, name, ": collectives are not recorded in graphs");
  if (n == 0) return;
  runtime().collective(call);
  for (size_t i = 0; i < outs.size(); ++i)
    if (kind != Collective::Broadcast || int(i) != root) outs[i].bump_version(name_of(kind));
}

}  // namespace tg::cuda
