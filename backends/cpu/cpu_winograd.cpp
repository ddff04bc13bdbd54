// Convolutions by 3 x 3 kernels as 16 products of transformed tiles (winograd.h).
#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/cpu_conv.h"
#include "backends/cpu/loops.h"
#include "backends/cpu/nd.h"

namespace tg::cpu {
namespace {

constexpr int kParts = kWinogradParts;
constexpr int64_t kBlockFloats = 1 << 19;  // transformed tiles of both sides that a thread works on at once
constexpr int64_t kFewestChannels = 16;
constexpr int64_t kFewestTiles = 32, kMostTiles = 256;  // of a block
constexpr int64_t kChannels = 64;                       // of a part of the weight's gradient, on either side
constexpr int64_t kUnits = 8;                           // pieces of work to aim at

// The tiles of all samples of a group: rows of `across` tiles, `down` rows a sample, cut into blocks of `step` rows.
struct Tiles {
  int64_t across, down, rows, step;

  Tiles(const ConvShape& g, int64_t channels)
      : across((g.windows[1] + 1) / 2), down((g.windows[0] + 1) / 2), rows(g.batch * down) {
    const int64_t most = std::clamp(kBlockFloats / (kParts * channels), kFewestTiles, kMostTiles) / across;
    const int64_t fewest = (kFewestTiles + across - 1) / across;
    step = std::min(rows, std::max(fewest, std::min(most, (rows + kUnits - 1) / kUnits)));
    most_ = std::min(rows, std::max(fewest, most));
  }
  // Blocks whose products fill their panels, and that go round. Only where no sum goes from one block to the next: the
  // number of threads counts.
  void fill_panels(int64_t groups) {
    int64_t best = INT64_MAX;
    for (int64_t some = step; some <= most_; ++some) {
      const int64_t n = (rows + some - 1) / some, threads = num_threads(), turns = (groups * n + threads - 1) / threads;
      const int64_t all = groups * ((n - 1) * cost(some) + cost(rows - (n - 1) * some));
      const int64_t time = std::max((all + threads - 1) / threads, turns * cost(some));
      if (time < best) best = time, step = some;
    }
  }
  int64_t blocks() const { return (rows + step - 1) / step; }
  // Floats from one channel to the next: room for what a stretch writes too much.
  int64_t line() const { return step * across + kWinogradStretch; }

 private:
  int64_t most_;  // rows of a block

  // Of a block's products, in columns that are computed: half a panel takes a little more than half the time of one,
  // and packing the weights as long as kPacking columns (256 channels, Zen 5).
  int64_t cost(int64_t some) const {
    constexpr int64_t kPacking = 10, kHalf = kGemmColumns / 2;
    const int64_t whole = some * across / kGemmColumns * kGemmColumns, left = some * across - whole;
    return kPacking + whole + (left > kHalf ? kGemmColumns : left > 0 ? kHalf + 2 : 0);
  }
};

// What the blocks share.
struct Shape {
  const ConvShape& g;
  Tiles t;
  const float* x;  // image
  const float* y;  // results or their gradient
  int64_t image = g.padded[0] * g.padded[1], points = g.windows[0] * g.windows[1];

  // Channels [c0, c0 + n) of a group's image in rows [row0, row1) of tiles: part[element][channel][tile].
  void transform_input(int64_t group, int64_t c0, int64_t n, int64_t row0, int64_t row1, float* part) const {
    for (int64_t c = 0; c < n; ++c)
      for (int64_t row = row0; row < row1; ++row) {
        const int64_t i = row / t.down * g.groups + group, at = row % t.down * 2;
        const float* from = x + (i * g.in + c0 + c) * image;
        WinogradRow r{{}, g.padded[1], t.across, part + c * t.line() + (row - row0) * t.across, n * t.line()};
        for (int d = 0; d < 4; ++d) r.rows[d] = at + d < g.padded[0] ? from + (at + d) * g.padded[1] : nullptr;
        loops().winograd.input(r);
      }
  }
  // The same of the results' gradient.
  void transform_grad(int64_t group, int64_t k0, int64_t n, int64_t row0, int64_t row1, float* part) const {
    for (int64_t k = 0; k < n; ++k)
      for (int64_t row = row0; row < row1; ++row) {
        const int64_t i = row / t.down * g.groups + group, at = row % t.down * 2;
        const float* from = y + (i * g.out + k0 + k) * points + at * g.windows[1];
        WinogradRow r{{from, at + 1 < g.windows[0] ? from + g.windows[1] : nullptr, nullptr, nullptr},
                      g.windows[1],
                      t.across,
                      part + k * t.line() + (row - row0) * t.across,
                      n * t.line()};
        loops().winograd.grad(r);
      }
  }
  void transform_output(int64_t group, int64_t row0, int64_t row1, const float* part, float* to) const {
    for (int64_t k = 0; k < g.out; ++k)
      for (int64_t row = row0; row < row1; ++row) {
        const int64_t i = row / t.down * g.groups + group, at = row % t.down * 2;
        float* y0 = to + (i * g.out + k) * points + at * g.windows[1];
        loops().winograd.output(part + k * t.line() + (row - row0) * t.across, g.out * t.line(), t.across, y0,
                                at + 1 < g.windows[0] ? y0 + g.windows[1] : nullptr, g.windows[1]);
      }
  }
};

// weight (out, in, 3, 3) of one group as u[element][out][in] = G g G'.
void transform_weight(const ConvShape& g, const float* w, float* u) {
  parallel_for(g.out, std::max<int64_t>(1, kGrain / (kParts * g.in)), [&](int64_t b, int64_t e) {
    for (int64_t k = b; k < e; ++k) loops().winograd.weight(w + k * g.in * 9, g.in, u + k * g.in, g.out * g.in);
  });
}

// A part of the weight's gradient: some channels on either side, some of the blocks of tiles.
struct WeightPart {
  int64_t group, k0, nk, c0, nc, first, last;
};

void weight_part(const Shape& s, const WeightPart& w, float* sum) {
  const Tiles& t = s.t;
  const int64_t line = t.line();
  const Temp memory(4 * kParts * (w.nk + w.nc) * line);
  float *dy = memory.as<float>(), *dx = dy + kParts * w.nk * line;
  for (int64_t block = w.first; block < w.last; ++block) {
    const int64_t row0 = block * t.step, row1 = std::min(t.rows, row0 + t.step);
    s.transform_grad(w.group, w.k0, w.nk, row0, row1, dy);
    s.transform_input(w.group, w.c0, w.nc, row0, row1, dx);
    for (int i = 0; i < kParts; ++i) {
      GemmProduct p;
      p.a = {dy + i * w.nk * line, DType::F32, 1, line};
      p.b = {dx + i * w.nc * line, DType::F32, 1, line};
      p.c = sum + i * w.nk * w.nc, p.ldc = w.nc;
      p.m = w.nk, p.n = w.nc, p.k = (row1 - row0) * t.across;
      p.beta = block == w.first ? 0.0f : 1.0f;
      loops().gemm(p);
    }
  }
}

}  // namespace

bool winograd_fits(const ConvShape& g) {
  return loops().winograd.input && g.kernel == Dims{3, 3} && g.stride == Dims{1, 1} && g.dilation == Dims{1, 1} &&
         std::min(g.in, g.out) >= kFewestChannels && g.windows[0] * g.windows[1] >= 4 * kFewestTiles;
}

void winograd(const ConvShape& g, const float* x, const float* w, float* y) {
  Shape s{g, Tiles(g, g.in + g.out), x, y};
  s.t.fill_panels(g.groups);
  const Tiles& t = s.t;
  const Temp weights(4 * kParts * g.groups * g.in * g.out);
  const int64_t per_group = g.in * g.out, line = t.line();
  for (int64_t group = 0; group < g.groups; ++group)
    transform_weight(g, w + group * per_group * 9, weights.as<float>() + group * kParts * per_group);
  parallel_for(g.groups * t.blocks(), 1, [&](int64_t b, int64_t e) {
    const Temp memory(4 * kParts * (g.in + g.out) * line);
    float *in = memory.as<float>(), *out = in + kParts * g.in * line;
    for (int64_t unit = b; unit < e; ++unit) {
      const int64_t group = unit / t.blocks(), row0 = unit % t.blocks() * t.step,
                    row1 = std::min(t.rows, row0 + t.step);
      s.transform_input(group, 0, g.in, row0, row1, in);
      for (int i = 0; i < kParts; ++i) {
        GemmProduct p;
        p.a = {weights.as<float>() + (group * kParts + i) * per_group, DType::F32, 1, g.in};
        p.b = {in + i * g.in * line, DType::F32, line, 1};
        p.c = out + i * g.out * line, p.ldc = line;
        p.m = g.out, p.n = (row1 - row0) * t.across, p.k = g.in;
        loops().gemm(p);
      }
      s.transform_output(group, row0, row1, out, y);
    }
  });
}

void winograd_weight(const ConvShape& g, const float* x, const float* y, float* w) {
  const Shape s{g, Tiles(g, 2 * kChannels), x, y};
  const int64_t kp = (g.out + kChannels - 1) / kChannels, cp = (g.in + kChannels - 1) / kChannels;
  const int64_t blocks = s.t.blocks(), slices = std::min(blocks, std::max<int64_t>(1, kUnits / (g.groups * kp * cp)));
  std::vector<WeightPart> parts;  // slices of one piece of the weight follow each other
  for (int64_t group = 0; group < g.groups; ++group)
    for (int64_t k = 0; k < kp; ++k)
      for (int64_t c = 0; c < cp; ++c)
        for (int64_t i = 0; i < slices; ++i) {
          const int64_t k0 = g.out * k / kp, c0 = g.in * c / cp;
          parts.push_back({group, k0, g.out * (k + 1) / kp - k0, c0, g.in * (c + 1) / cp - c0, blocks * i / slices,
                           blocks * (i + 1) / slices});
        }
  constexpr int64_t kPiece = kParts * kChannels * kChannels;
  const Temp sums(4 * kPiece * int64_t(parts.size()));
  parallel_for(int64_t(parts.size()), 1, [&](int64_t b, int64_t e) {
    for (int64_t u = b; u < e; ++u) weight_part(s, parts[size_t(u)], sums.as<float>() + u * kPiece);
  });
  parallel_for(int64_t(parts.size()) / slices, 1, [&](int64_t b, int64_t e) {
    for (int64_t piece = b; piece < e; ++piece) {
      const WeightPart& p = parts[size_t(piece * slices)];
      const float* sum = sums.as<float>() + piece * slices * kPiece;
      for (int64_t k = 0; k < p.nk; ++k)
        loops().winograd.weight_grad(sum + k * p.nc, p.nk * p.nc, slices, kPiece, p.nc,
                                     w + ((p.group * g.out + p.k0 + k) * g.in + p.c0) * 9);
    }
  });
}

}  // namespace tg::cpu
