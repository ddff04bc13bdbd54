// The ways of computing attention on the current device. As AttentionKernels::attention: false if nothing was done.
#pragma once
#include "backends/attention.h"

namespace tg::cuda {

bool attention_by_tiles(const View& q, const View& k, const View& v, const AttentionOptions& o, const View& out);
// Without a mask and dropout.
bool attention_by_dnn(const View& q, const View& k, const View& v, bool causal, double scale, const View& out);

}  // namespace tg::cuda
