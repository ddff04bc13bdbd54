// Whether a library's attention is right, by the own kernel.
#pragma once
#include "backends/backend.h"

namespace tg::cuda {

// Same: as the own kernel's, but so would have been the result of another mask. Untested: there was no room to compare,
// or the own result is not finite.
enum class Verdict { Right, Same, Wrong, Untested };

// Compares the last head of `out` with what the own kernel computes of the same operands, which must be of a half type.
Verdict judge_attention(const View& q, const View& k, const View& v, bool causal, double scale, const View& out);

}  // namespace tg::cuda
