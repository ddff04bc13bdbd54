// Convolutions as products whose right operand is read from the image itself: no matrix of columns is made.
#include "backends/cpu/cpu_conv.h"

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/loops.h"
#include "backends/cpu/nd.h"

namespace tg::cpu {
namespace {

// Where the taps and points of a convolution lie in the padded image of one sample and group.
struct ImageWindows {
  std::vector<int64_t> tap, row;
  int64_t taps = 0, points = 1, image = 1;  // image: elements of one channel
  Windows windows{};

  explicit ImageWindows(const ConvShape& g) {
    const int n = g.kernel.size();
    Dims plane = contiguous_strides(g.padded);
    for (int64_t s : g.padded) image *= s;
    for (int64_t s : g.windows) points *= s;
    for (int64_t c = 0; c < g.in; ++c) add_taps(g, plane, 0, c * image);
    taps = int64_t(tap.size());
    add_rows(g, plane, 0, 0);
    windows = {tap.data(), row.data(), g.windows[n - 1], g.stride[n - 1]};
    merge_rows();
  }

 private:
  void add_taps(const ConvShape& g, const Dims& plane, int axis, int64_t at) {
    if (axis == g.kernel.size()) return tap.push_back(at);
    for (int64_t k = 0; k < g.kernel[axis]; ++k) add_taps(g, plane, axis + 1, at + k * g.dilation[axis] * plane[axis]);
  }
  void add_rows(const ConvShape& g, const Dims& plane, int axis, int64_t at) {
    if (axis + 1 == g.windows.size()) return row.push_back(at);
    for (int64_t i = 0; i < g.windows[axis]; ++i) add_rows(g, plane, axis + 1, at + i * g.stride[axis] * plane[axis]);
  }
  // Rows that follow each other without a gap are one row.
  void merge_rows() {
    for (size_t i = 0; i + 1 < row.size(); ++i)
      if (row[i + 1] - row[i] != windows.inner * windows.step) return;
    windows.inner = points;
  }
};

bool usable(const View& x, const View& w, const View& y) {
  return loops().gemm && x.dtype == DType::F32 && w.dtype == DType::F32 && y.dtype == DType::F32;
}
float* floats(const View& v, int64_t offset) { return static_cast<float*>(v.data) + offset; }

}  // namespace

bool CpuBackend::convolution(const ConvShape& g, const View& x, const View& w, const View& y) {
  if (!usable(x, w, y)) return false;
  if (winograd_fits(g)) return winograd(g, floats(x, 0), floats(w, 0), floats(y, 0)), true;
  const ImageWindows at(g);
  const GemmGrid grid = gemm_grid(g.out, at.points, at.taps);
  const int64_t per = grid.mb * grid.nb;
  parallel_for(g.batch * g.groups * per, 1, [&](int64_t ub, int64_t ue) {
    const Temp buffer(gemm_buffer_bytes(grid.m));
    for (int64_t u = ub; u < ue; ++u) {
      const int64_t i = u / per, group = i % g.groups, row = u % per / grid.nb * grid.m, col = u % grid.nb * grid.n;
      GemmProduct p;
      p.a = {floats(w, (group * g.out + row) * at.taps), DType::F32, 1, at.taps};
      p.b = {floats(x, i * g.in * at.image), DType::F32, 0, 0, &at.windows, true, col};
      p.c = floats(y, (i * g.out + row) * at.points + col);
      p.ldc = at.points;
      p.m = std::min(grid.m, g.out - row), p.n = std::min(grid.n, at.points - col), p.k = at.taps;
      p.buffer = buffer.as<float>();
      loops().gemm(p);
    }
  });
  return true;
}

// The samples follow each other in the sum of each element.
bool CpuBackend::convolution_weight(const ConvShape& g, const View& x, const View& y, const View& w) {
  if (!usable(x, w, y)) return false;
  if (winograd_fits(g)) return winograd_weight(g, floats(x, 0), floats(y, 0), floats(w, 0)), true;
  const ImageWindows at(g);
  const GemmGrid grid = gemm_grid(g.out, at.taps, at.points * g.batch);
  const int64_t per = grid.mb * grid.nb;
  parallel_for(g.groups * per, 1, [&](int64_t ub, int64_t ue) {
    const Temp buffer(gemm_buffer_bytes(grid.m));
    for (int64_t u = ub; u < ue; ++u) {
      const int64_t group = u / per, row = u % per / grid.nb * grid.m, col = u % grid.nb * grid.n;
      GemmProduct p;
      p.c = floats(w, (group * g.out + row) * at.taps + col);
      p.ldc = at.taps;
      p.m = std::min(grid.m, g.out - row), p.n = std::min(grid.n, at.taps - col), p.k = at.points;
      p.buffer = buffer.as<float>();
      for (int64_t sample = 0; sample < g.batch; ++sample) {
        const int64_t i = sample * g.groups + group;
        p.a = {floats(y, (i * g.out + row) * at.points), DType::F32, 1, at.points};
        p.b = {floats(x, i * g.in * at.image), DType::F32, 0, 0, &at.windows, false, col};
        p.beta = sample == 0 ? 0.0f : 1.0f;
        loops().gemm(p);
      }
    }
  });
  return true;
}

}  // namespace tg::cpu
