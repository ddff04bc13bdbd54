// Sliding windows over the last axes of a tensor: what convolution, pooling and unfold share.
#pragma once
#include "backends/backend.h"

namespace tg {

// An option given once for all spatial dimensions or once for each. ValueError unless every entry is at least `least`
// and below 2^31 (so that window arithmetic cannot overflow).
Dims spatial_option(const char* op, const char* name, IntList values, int n, int64_t least);

// Elements that a window of `kernel` taps covers.
inline int64_t window_span(int64_t kernel, int64_t dilation) { return dilation * (kernel - 1) + 1; }

// v (.., s1, .., sn) seen as (.., o1, .., on, k1, .., kn); windows overlap where stride < span. Bounds are the
// caller's.
View window_view(const View& v, const Dims& out, const Dims& kernel, const Dims& stride, const Dims& dilation);
// The same with the taps before the positions: (.., k1, .., kn, o1, .., on).
View column_view(const View& v, const Dims& out, const Dims& kernel, const Dims& stride, const Dims& dilation);

}  // namespace tg
