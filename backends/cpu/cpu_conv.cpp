// Convolutions as products whose right operand is read from the image itself: no matrix of columns is made.
#include "backends/cpu/cpu_conv.h"

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/loops.h"
#include "backends/cpu/nd.h"

namespace tg::cpu {
namespace {

// Where the taps and points of a convolution lie in the padded images of one group. Several samples that follow each
// other make one product where one has few points.
struct ImageWindows {
  static constexpr int64_t kFewPoints = 256;
  std::vector<int64_t> tap, row;
  int64_t taps = 0, points = 1, image = 1;  // of one sample; image: elements of one channel
  int64_t samples = 1;                      // in a product
  Windows windows{};

  explicit ImageWindows(const ConvShape& g) {
    const int n = g.kernel.size();
    Dims plane = contiguous_strides(g.padded);
    for (int64_t s : g.padded) image *= s;
    for (int64_t s : g.windows) points *= s;
    for (int64_t c = 0; c < g.in; ++c) add_taps(g, plane, 0, c * image);
    taps = int64_t(tap.size());
    samples = std::clamp<int64_t>(kFewPoints / points, 1, std::max<int64_t>(g.batch, 1));
    for (int64_t i = 0; i < samples; ++i) add_rows(g, plane, 0, i * g.groups * g.in * image);
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
    windows.inner = points * samples;
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
  const int64_t blocks = (g.batch + at.samples - 1) / at.samples;
  const GemmGrid grid = gemm_grid(g.out, at.points * at.samples, at.taps, blocks * g.groups);
  const int64_t per = grid.mb * grid.nb;
  parallel_for(blocks * g.groups * per, 1, [&](int64_t ub, int64_t ue) {
    const Temp joined(at.samples > 1 ? 4 * grid.m * grid.n : 0);
    for (int64_t u = ub; u < ue; ++u) {
      const int64_t first = u / per / g.groups * at.samples, group = u / per % g.groups;
      const int64_t row = u % per / grid.nb * grid.m, col = u % grid.nb * grid.n;
      const int64_t points = at.points * std::min(at.samples, g.batch - first);
      if (col >= points) continue;  // the last block may have fewer samples
      GemmProduct p;
      p.a = {floats(w, (group * g.out + row) * at.taps), DType::F32, 1, at.taps};
      p.b = {floats(x, (first * g.groups + group) * g.in * at.image), DType::F32, 0, 0, &at.windows, true, col};
      p.m = std::min(grid.m, g.out - row), p.n = std::min(grid.n, points - col), p.k = at.taps;
      auto result = [&](int64_t sample, int64_t k) {
        return floats(y, (((first + sample) * g.groups + group) * g.out + k) * at.points);
      };
      p.c = at.samples > 1 ? joined.as<float>() : result(0, row) + col;
      p.ldc = at.samples > 1 ? p.n : at.points;
      loops().gemm(p);
      if (at.samples == 1) continue;
      for (int64_t k = 0; k < p.m; ++k)
        for (int64_t i = col, n; i < col + p.n; i += n) {
          n = std::min(at.points - i % at.points, col + p.n - i);
          std::copy_n(p.c + k * p.ldc + i - col, n, result(i / at.points, row + k) + i % at.points);
        }
    }
  });
  return true;
}

// The samples follow each other in the sum of each element.
bool CpuBackend::convolution_weight(const ConvShape& g, const View& x, const View& y, const View& w) {
  if (!usable(x, w, y)) return false;
  if (winograd_fits(g)) return winograd_weight(g, floats(x, 0), floats(y, 0), floats(w, 0)), true;
  const ImageWindows at(g);
  const GemmGrid grid = gemm_grid(g.out, at.taps, at.points * g.batch, g.groups);
  const int64_t per = grid.mb * grid.nb;
  // The gradient by the same table: channels for taps, a sample's points for a row.
  std::vector<int64_t> channel, sample;
  for (int64_t i = 0; i < g.out; ++i) channel.push_back(i * at.points);
  for (int64_t i = 0; i < at.samples; ++i) sample.push_back(i * g.groups * g.out * at.points);
  const Windows rows{channel.data(), sample.data(), at.points, 1};
  parallel_for(g.groups * per, 1, [&](int64_t ub, int64_t ue) {
    for (int64_t u = ub; u < ue; ++u) {
      const int64_t group = u / per, row = u % per / grid.nb * grid.m, col = u % grid.nb * grid.n;
      GemmProduct p;
      p.c = floats(w, (group * g.out + row) * at.taps + col);
      p.ldc = at.taps;
      p.m = std::min(grid.m, g.out - row), p.n = std::min(grid.n, at.taps - col);
      for (int64_t first = 0; first < g.batch; first += at.samples) {
        const int64_t i = first * g.groups + group;
        p.k = at.points * std::min(at.samples, g.batch - first);
        p.a = {floats(y, i * g.out * at.points), DType::F32, 0, 0, &rows, false, row};
        p.b = {floats(x, i * g.in * at.image), DType::F32, 0, 0, &at.windows, false, col};
        p.beta = first == 0 ? 0.0f : 1.0f;
        loops().gemm(p);
      }
    }
  });
  return true;
}

}  // namespace tg::cpu
