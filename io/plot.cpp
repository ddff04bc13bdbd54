#include "io/plot.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>

#include "core/error.h"
#include "io/crc32.h"
#include "core/file.h"

namespace tg::io {
namespace {

// ---- PNG

std::string big_endian(uint32_t v) { return {char(v >> 24), char(v >> 16), char(v >> 8), char(v)}; }

std::string chunk(const std::string& type, const std::string& data) {
  std::string body = type + data;
  return big_endian(uint32_t(data.size())) + body + big_endian(crc32(body.data(), body.size()));
}

// zlib stream of stored blocks
std::string stored(const std::string& raw) {
  std::string out = "\x78\x01";
  uint32_t a = 1, b = 0;
  for (char ch : raw) {
    a = (a + uint8_t(ch)) % 65521;
    b = (b + a) % 65521;
  }
  for (size_t at = 0; at < raw.size() || at == 0;) {
    size_t n = std::min<size_t>(65535, raw.size() - at);
    out += char(at + n == raw.size());
    out += {char(n & 255), char(n >> 8), char(~n & 255), char(~n >> 8 & 255)};
    out += raw.substr(at, n);
    at += n;
    if (n == 0) break;
  }
  return out + big_endian(b << 16 | a);
}

// ---- text: 3x5 dots per character, one hexadecimal digit per row

struct Glyph {
  char c;
  std::array<uint8_t, 5> rows;
};
constexpr Glyph kFont[] = {
    {'0', {7, 5, 5, 5, 7}}, {'1', {2, 6, 2, 2, 7}}, {'2', {7, 1, 7, 4, 7}}, {'3', {7, 1, 7, 1, 7}},
    {'4', {5, 5, 7, 1, 1}}, {'5', {7, 4, 7, 1, 7}}, {'6', {7, 4, 7, 5, 7}}, {'7', {7, 1, 1, 2, 2}},
    {'8', {7, 5, 7, 5, 7}}, {'9', {7, 5, 7, 1, 7}}, {'a', {2, 5, 7, 5, 5}}, {'b', {6, 5, 6, 5, 6}},
    {'c', {3, 4, 4, 4, 3}}, {'d', {6, 5, 5, 5, 6}}, {'e', {7, 4, 6, 4, 7}}, {'f', {7, 4, 6, 4, 4}},
    {'g', {3, 4, 5, 5, 3}}, {'h', {5, 5, 7, 5, 5}}, {'i', {7, 2, 2, 2, 7}}, {'j', {1, 1, 1, 5, 2}},
    {'k', {5, 5, 6, 5, 5}}, {'l', {4, 4, 4, 4, 7}}, {'m', {5, 7, 7, 5, 5}}, {'n', {6, 5, 5, 5, 5}},
    {'o', {2, 5, 5, 5, 2}}, {'p', {6, 5, 6, 4, 4}}, {'q', {2, 5, 5, 6, 3}}, {'r', {6, 5, 6, 5, 5}},
    {'s', {3, 4, 2, 1, 6}}, {'t', {7, 2, 2, 2, 2}}, {'u', {5, 5, 5, 5, 7}}, {'v', {5, 5, 5, 5, 2}},
    {'w', {5, 5, 7, 7, 5}}, {'x', {5, 5, 2, 5, 5}}, {'y', {5, 5, 2, 2, 2}}, {'z', {7, 1, 2, 4, 7}},
    {'.', {0, 0, 0, 0, 2}}, {'-', {0, 0, 7, 0, 0}}, {'+', {0, 2, 7, 2, 0}}, {'%', {5, 1, 2, 4, 5}},
    {'/', {1, 1, 2, 4, 4}}, {'_', {0, 0, 0, 0, 7}}, {'(', {1, 2, 2, 2, 1}}, {')', {4, 2, 2, 2, 4}},
    {',', {0, 0, 0, 2, 4}}, {':', {0, 2, 0, 2, 0}}};

using Color = std::array<uint8_t, 3>;
constexpr Color kBlack{40, 40, 40}, kGrid{225, 225, 225};
constexpr Color kColors[] = {{31, 119, 180}, {255, 127, 14}, {44, 160, 44}, {214, 39, 40}, {148, 103, 189}};
constexpr int kScale = 2, kAdvance = 4 * kScale;

void dot(Image& im, int x, int y, Color c) {
  if (x < 0 || y < 0 || x >= im.width || y >= im.height) return;
  for (int k = 0; k < 3; ++k) im.rgb[(size_t(y) * size_t(im.width) + size_t(x)) * 3 + size_t(k)] = c[size_t(k)];
}

void text(Image& im, int x, int y, const std::string& s, Color c) {
  for (char ch : s) {
    char low = char(std::tolower(uint8_t(ch)));
    for (const Glyph& g : kFont)
      if (g.c == low)
        for (int r = 0; r < 5 * kScale; ++r)
          for (int k = 0; k < 3 * kScale; ++k)
            if (g.rows[size_t(r / kScale)] >> (2 - k / kScale) & 1) dot(im, x + k, y + r, c);
    x += kAdvance;
  }
}

void line(Image& im, double x0, double y0, double x1, double y1, Color c, int thick) {
  int n = std::max(1, int(std::max(std::fabs(x1 - x0), std::fabs(y1 - y0))));
  for (int i = 0; i <= n; ++i) {
    int x = int(std::lround(x0 + (x1 - x0) * i / n)), y = int(std::lround(y0 + (y1 - y0) * i / n));
    for (int dx = 0; dx < thick; ++dx)
      for (int dy = 0; dy < thick; ++dy) dot(im, x + dx, y + dy, c);
  }
}

std::string label(double v) {
  char buf[32];
  std::snprintf(buf, sizeof buf, "%.3g", v);
  return buf;
}

// 1, 2 or 5 times a power of ten, giving about five ticks.
double tick_step(double range) {
  double raw = range / 5, p = std::pow(10.0, std::floor(std::log10(raw))), m = raw / p;
  return (m < 1.5 ? 1 : m < 3.5 ? 2 : m < 7.5 ? 5 : 10) * p;
}

void panel(Image& im, const Chart& chart, int left, int width, int height) {
  double lo = INFINITY, hi = -INFINITY;
  size_t n = 1;
  for (const Curve& c : chart.curves) {
    n = std::max(n, c.y.size());
    for (double v : c.y)
      if (std::isfinite(v)) lo = std::min(lo, v), hi = std::max(hi, v);
  }
  if (!(lo <= hi)) lo = 0, hi = 1;
  if (hi - lo < 1e-12) lo -= 0.5, hi += 0.5;
  int x0 = left + 60, x1 = left + width - 16, y0 = height - 36, y1 = 34;
  auto px = [&](double i) { return x0 + (x1 - x0) * (n > 1 ? i / double(n - 1) : 0.5); };
  auto py = [&](double v) { return y0 - (y0 - y1) * (v - lo) / (hi - lo); };
  text(im, left + width / 2 - int(chart.title.size()) * kAdvance / 2, 10, chart.title, kBlack);
  double sy = tick_step(hi - lo);
  for (double v = std::ceil(lo / sy) * sy; v <= hi + sy * 1e-9; v += sy) {
    line(im, x0, py(v), x1, py(v), kGrid, 1);
    std::string s = label(std::fabs(v) < sy * 1e-9 ? 0 : v);
    text(im, x0 - 6 - int(s.size()) * kAdvance, int(py(v)) - 5, s, kBlack);
  }
  double sx = std::max(1.0, tick_step(double(std::max<size_t>(n, 2) - 1)));
  for (double i = 0; i <= double(n - 1); i += sx) {
    std::string s = label(i + 1);
    text(im, int(px(i)) - int(s.size()) * kAdvance / 2, y0 + 8, s, kBlack);
  }
  line(im, x0, y0, x1, y0, kBlack, 1);
  line(im, x0, y0, x0, y1, kBlack, 1);
  // The legend goes to the right, away from where the curves end.
  double ends = 0;
  for (const Curve& c : chart.curves)
    if (!c.y.empty() && std::isfinite(c.y.back())) ends += (c.y.back() - lo) / (hi - lo) - 0.5;
  int legend = ends > 0 ? y0 - 8 - 16 * int(chart.curves.size()) : y1 + 4;
  for (size_t k = 0; k < chart.curves.size(); ++k) {
    const Curve& c = chart.curves[k];
    Color color = kColors[k % std::size(kColors)];
    for (size_t i = 1; i < c.y.size(); ++i)
      if (std::isfinite(c.y[i - 1]) && std::isfinite(c.y[i]))
        line(im, px(double(i - 1)), py(c.y[i - 1]), px(double(i)), py(c.y[i]), color, 2);
    text(im, x1 - 8 - int(c.label.size()) * kAdvance, legend + int(k) * 16, c.label, color);
  }
}

}  // namespace

std::string to_png(const Image& im) {
  std::string raw;
  size_t row = size_t(im.width) * 3;
  for (int y = 0; y < im.height; ++y) {
    raw += '\0';  // filter: none
    raw.append(reinterpret_cast<const char*>(im.rgb.data()) + size_t(y) * row, row);
  }
  std::string head =
      big_endian(uint32_t(im.width)) + big_endian(uint32_t(im.height)) + std::string("\x08\x02\0\0\0", 5);
  return "\x89PNG\r\n\x1a\n" + chunk("IHDR", head) + chunk("IDAT", stored(raw)) + chunk("IEND", "");
}

Image draw(const std::vector<Chart>& charts, int panel_width, int height) {
  TG_CHECK(!charts.empty(), ValueError, "plot: no charts to draw");
  TG_CHECK(panel_width >= 120 && height >= 100 && panel_width <= 8192 && height <= 8192 && charts.size() <= 16,
           ValueError, "plot: panels of ", panel_width, " x ", height, " can't be drawn");
  Image im(panel_width * int(charts.size()), height);
  for (size_t i = 0; i < charts.size(); ++i) panel(im, charts[i], int(i) * panel_width, panel_width, height);
  return im;
}

void save_plot(const std::vector<Chart>& charts, const std::string& path) {
  std::string png = to_png(draw(charts));
  write_file(path, {{png.data(), png.size()}});
}

}  // namespace tg::io
