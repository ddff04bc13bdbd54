// Convolutions in tiles of Winograd's (winograd.h): float32, contiguous, as Backend::convolution has them.
#pragma once
#include "backends/backend.h"

namespace tg::cpu {

// Whether the kernel is 3 x 3 of stride 1 and there is enough to do for the transforms to pay.
TG_API bool winograd_fits(const ConvShape& g);
void winograd(const ConvShape& g, const float* x, const float* w, float* y);
// w = the gradient of the weight from that of the results.
void winograd_weight(const ConvShape& g, const float* x, const float* y, float* w);

}  // namespace tg::cpu
