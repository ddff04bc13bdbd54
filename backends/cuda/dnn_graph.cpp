#include "backends/cuda/dnn_graph.h"

#include "core/vendor.h"

namespace tg::cuda {
#ifdef TG_CUDA_EMULATION
const DnnGraphs& emulated_dnn_graphs();  // emu/dnn_graph.cpp
#endif
namespace {

#ifdef TG_CUDA_EMULATION
DnnGraphs open_graphs() { return emulated_dnn_graphs(); }
#else
DnnGraphs open_graphs() {
  const VendorLibrary& lib = dnn_library();
  DnnGraphs g;
  lib.get(g.version, "cudnnGetVersion");
  lib.get(g.create, "cudnnBackendCreateDescriptor");
  lib.get(g.destroy, "cudnnBackendDestroyDescriptor");
  lib.get(g.set, "cudnnBackendSetAttribute");
  lib.get(g.get, "cudnnBackendGetAttribute");
  lib.get(g.finalize, "cudnnBackendFinalize");
  lib.get(g.execute, "cudnnBackendExecute");
  return g;
}
#endif

}  // namespace

const DnnGraphs& dnn_graphs(const Dnn&) { return opened_once<open_graphs>(); }

}  // namespace tg::cuda
