// Programs without a kernel of their own, compiled at run time.
#pragma once
#include "backends/backend.h"

namespace tg::cuda {

// True if the program was compiled (now or before) and its kernel queued. False where there is no compiler: the caller
// interprets the program.
bool compiled_map(int device, const Program& p, const Views& ins, const Views& outs);

}  // namespace tg::cuda
