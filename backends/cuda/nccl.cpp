#include "backends/cuda/nccl.h"

#include <cstdlib>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "backends/cuda/device.h"
#include "core/vendor.h"

namespace tg::cuda {
#ifdef TG_CUDA_EMULATION
const Nccl& emulated_nccl();  // emu/nccl.cpp
#endif
namespace {

// Sums made by the switch between devices may differ from call to call. Read when the first communicator is made.
void fix_order() { setenv("NCCL_NVLS_ENABLE", "0", 0); }

#ifdef TG_CUDA_EMULATION
std::optional<Nccl> open_nccl() {
  if (std::getenv("TG_EMU_NO_NCCL")) return std::nullopt;
  fix_order();
  return emulated_nccl();
}
#else
std::optional<Nccl> open_nccl() {
  const VendorLibrary lib({"libnccl.so.2"});
  if (!lib) return std::nullopt;
  fix_order();
  Nccl n;
  lib.get(n.version, "ncclGetVersion");
  lib.get(n.error_string, "ncclGetErrorString");
  lib.get(n.init_all, "ncclCommInitAll");
  lib.get(n.group_start, "ncclGroupStart");
  lib.get(n.group_end, "ncclGroupEnd");
  lib.get(n.all_reduce, "ncclAllReduce");
  lib.get(n.reduce, "ncclReduce");
  lib.get(n.broadcast, "ncclBroadcast");
  lib.get(n.all_gather, "ncclAllGather");
  lib.get(n.reduce_scatter, "ncclReduceScatter");
  return n;
}
#endif

void check_nccl(const Nccl& lib, NcclStatus s, const char* what) {
  if (s == kNcclSuccess) return;
  cudaGetLastError();  // would be blamed on the next kernel, unless the device can do nothing any more
  check(cudaGetLastError(), what);
  fail<DeviceError>("cuda: ", what, ": ", lib.error_string(s));
}

NcclType type_of(DType t) {
  constexpr NcclType types[] = {kNcclU8,  kNcclU8,  kNcclI8,   kNcclI8,  kNcclI32,
                                kNcclI64, kNcclF16, kNcclBF16, kNcclF32, kNcclF64};
  return types[int(t)];  // I16 is moved as bytes only, as are all types that are not added up
}

const char* name_of(Collective kind) {
  constexpr const char* names[] = {"ncclAllReduce", "ncclReduce", "ncclBroadcast", "ncclAllGather",
                                   "ncclReduceScatter"};
  return names[int(kind)];
}

// One communicator for each device of a list, in its order. They live as long as the process.
struct Cliques {
  std::mutex mutex;  // also of their calls: NCCL wants those of one list in one order
  std::map<std::vector<int>, std::vector<NcclComm>> comms;
};
Cliques& cliques() {
  static auto* c = new Cliques;
  return *c;
}

const std::vector<NcclComm>& comms_of(const Nccl& lib, const std::vector<int>& devices) {
  std::vector<NcclComm>& comms = cliques().comms[devices];
  if (!comms.empty()) return comms;
  std::vector<NcclComm> made(devices.size());
  const NcclStatus s = lib.init_all(made.data(), int(devices.size()), devices.data());
  check(cudaSetDevice(current_device()), "cudaSetDevice");  // whatever it left
  check_nccl(lib, s, "ncclCommInitAll");
  return comms = made;
}

NcclStatus queue(const Nccl& lib, const CollectiveCall& c, size_t rank, NcclComm comm) {
  const auto& [device, in, out] = c.parts[rank];
  const auto s = static_cast<cudaStream_t>(stream_slot(device));
  const auto n = size_t(c.n), bytes = n * size_t(itemsize(c.dtype));
  const NcclType type = type_of(c.dtype);
  const auto op = NcclOp(c.op);
  switch (c.kind) {
    case Collective::AllReduce:
      return lib.all_reduce(in, out, n, type, op, comm, s);
    case Collective::Reduce:
      return lib.reduce(in, out, n, type, op, c.root, comm, s);
    case Collective::Broadcast:
      return lib.broadcast(in, out, bytes, kNcclU8, c.root, comm, s);
    case Collective::AllGather:
      return lib.all_gather(in, out, bytes, kNcclU8, comm, s);
    default:
      return lib.reduce_scatter(in, out, n, type, op, comm, s);
  }
}

}  // namespace

int nccl_version() {
  const std::optional<Nccl>& lib = opened_once<open_nccl>();
  int v = 0;
  if (lib) check_nccl(*lib, lib->version(&v), "ncclGetVersion");
  return v;
}

void run_collective(const CollectiveCall& call) {
  const Nccl& lib = *opened_once<open_nccl>();
  std::vector<int> devices;
  for (const CollectiveCall::Part& p : call.parts) devices.push_back(p.device);
  std::lock_guard lock(cliques().mutex);
  const std::vector<NcclComm>& comms = comms_of(lib, devices);
  check_nccl(lib, lib.group_start(), "ncclGroupStart");
  NcclStatus failed = kNcclSuccess;
  for (size_t i = 0; i < comms.size() && failed == kNcclSuccess; ++i) failed = queue(lib, call, i, comms[i]);
  const NcclStatus end = lib.group_end();  // closes the group in any case
  check_nccl(lib, failed != kNcclSuccess ? failed : end, name_of(call.kind));
  note_work(name_of(call.kind));
}

}  // namespace tg::cuda
