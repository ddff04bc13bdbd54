#include "io/plot.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>

#include "core/error.h"
#include "core/file.h"
#include "io/crc32.h"

namespace tg::io {
namespace {

// ---- PNG

std::string big_endian(uint32_t v) { return {char(v >> 24), char(v >> 16), char(v >> 8), char(v)}; }

std::string chunk(const std::string& type, const std::string& data) {
  std::string body = type + data;
  return big_endian(uint32_t(data.size())) + body + big_endian(crc32(body.data(), body.size()));
}

// A deflate block (RFC 1951) of the fixed code, whose only matches repeat the pixel before them.
class Deflate {
 public:
  std::string run(const std::string& raw) {
    bits(1, 1), bits(1, 2);  // the last block, fixed code
    for (size_t at = 0; at < raw.size();) {
      size_t n = 0;
      while (n < 258 && at >= 3 && at + n < raw.size() && raw[at + n] == raw[at + n - 3]) ++n;
      if (n == 258) {
        code(0xC5, 8);  // length 258
      } else if (n >= 3) {
        n = std::min<size_t>(n, 10);  // lengths 3 to 10 have no further bits
        code(uint32_t(n - 2), 7);
      } else {
        n = 1;
        literal(uint8_t(raw[at]));
      }
      if (n > 1) code(2, 5);  // distance 3
      at += n;
    }
    code(0, 7);  // end of block
    if (used_) out_ += char(held_);
    return std::move(out_);
  }

 private:
  void bits(uint32_t v, int n) {
    for (int i = 0; i < n; ++i) {
      held_ |= (v >> i & 1) << used_;
      if (++used_ == 8) out_ += char(held_), held_ = 0, used_ = 0;
    }
  }
  // Codes are sent from their highest bit on.
  void code(uint32_t v, int n) {
    for (int i = n - 1; i >= 0; --i) bits(v >> i & 1, 1);
  }
  void literal(uint32_t byte) { byte < 144 ? code(0x30 + byte, 8) : code(0x190 + byte - 144, 9); }

  std::string out_;
  uint32_t held_ = 0;
  int used_ = 0;
};

std::string zlib(const std::string& raw) {
  uint32_t a = 1, b = 0;
  for (char ch : raw) {
    a = (a + uint8_t(ch)) % 65521;
    b = (b + a) % 65521;
  }
  return "\x78\x01" + Deflate().run(raw) + big_endian(b << 16 | a);
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
    {',', {0, 0, 0, 2, 4}}, {':', {0, 2, 0, 2, 0}}, {'*', {0, 5, 2, 5, 0}}, {'=', {0, 7, 0, 7, 0}}};

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

// One axis: the range of its values, where they lie and which of them are written.
struct Axis {
  double lo = INFINITY, hi = -INFINITY;
  bool log = false;
  double start = 0, end = 1;  // pixels of lo and hi

  bool shows(double v) const { return std::isfinite(v) && (!log || v > 0); }
  void include(double v) {
    if (shows(v)) lo = std::min(lo, v), hi = std::max(hi, v);
  }
  void place(double from, double to) {
    start = from, end = to;
    if (!(lo <= hi)) lo = log ? 1 : 0, hi = log ? 10 : 1;
    if (log) lo = std::pow(10, std::floor(std::log10(lo) + 1e-9)), hi = std::pow(10, std::ceil(std::log10(hi) - 1e-9));
    if (hi - lo < 1e-12) log ? hi *= 10 : (lo -= 0.5, hi += 0.5);
  }
  double at(double v) const {
    const double part = log ? std::log(v / lo) / std::log(hi / lo) : (v - lo) / (hi - lo);
    return start + (end - start) * part;
  }
  std::vector<double> ticks(double least_step) const {
    std::vector<double> r;
    if (log) {
      for (double v = lo; v <= hi * 1.001; v *= 10) r.push_back(v);
      return r;
    }
    const double step = std::max(least_step, tick_step(hi - lo));
    for (double v = std::ceil(lo / step) * step; v <= hi + step * 1e-9; v += step)
      r.push_back(std::fabs(v) < step * 1e-9 ? 0 : v);
    return r;
  }
};

double x_of(const Curve& c, size_t i) { return c.x.empty() ? double(i + 1) : c.x[i]; }

void legend(Image& im, const std::vector<Curve>& curves, int right, int top) {
  for (size_t k = 0; k < curves.size(); ++k)
    text(im, right - int(curves[k].label.size()) * kAdvance, top + int(k) * 16, curves[k].label,
         kColors[k % std::size(kColors)]);
}

void panel(Image& im, const Chart& chart, int left, int width, int height) {
  Axis x{.log = chart.log}, y{.log = chart.log};
  bool counted = false;
  for (const Curve& c : chart.curves)
    for (size_t i = 0; i < c.y.size(); ++i) {
      y.include(c.y[i]), x.include(x_of(c, i));
      counted = counted || c.x.empty();
    }
  int x0 = left + 60, x1 = left + width - 16, y0 = height - 36, y1 = 34;
  x.place(x0, x1), y.place(y0, y1);
  text(im, left + width / 2 - int(chart.title.size()) * kAdvance / 2, 10, chart.title, kBlack);
  for (double v : y.ticks(0)) {
    line(im, x0, y.at(v), x1, y.at(v), kGrid, 1);
    std::string s = label(v);
    text(im, x0 - 6 - int(s.size()) * kAdvance, int(y.at(v)) - 5, s, kBlack);
  }
  for (double v : x.ticks(counted ? 1 : 0)) {
    std::string s = label(v);
    text(im, int(x.at(v)) - int(s.size()) * kAdvance / 2, y0 + 8, s, kBlack);
  }
  line(im, x0, y0, x1, y0, kBlack, 1);
  line(im, x0, y0, x0, y1, kBlack, 1);
  // The legend goes to the right, away from where the curves end.
  double ends = 0;
  for (const Curve& c : chart.curves)
    if (!c.y.empty() && y.shows(c.y.back())) ends += (y0 - y.at(c.y.back())) / (y0 - y1) - 0.5;
  legend(im, chart.curves, x1 - 8, ends > 0 ? y0 - 8 - 16 * int(chart.curves.size()) : y1 + 4);
  for (size_t k = 0; k < chart.curves.size(); ++k) {
    const Curve& c = chart.curves[k];
    for (size_t i = 1; i < c.y.size(); ++i)
      if (y.shows(c.y[i - 1]) && y.shows(c.y[i]) && x.shows(x_of(c, i - 1)))
        line(im, x.at(x_of(c, i - 1)), y.at(c.y[i - 1]), x.at(x_of(c, i)), y.at(c.y[i]),
             kColors[k % std::size(kColors)], 2);
  }
}

}  // namespace

std::string to_png(const Image& im) {
  std::string raw;
  size_t row = size_t(im.width) * 3;
  for (size_t at = 0; at < im.rgb.size(); at += row) {
    raw += '\x02';  // filter: the difference to the row above, mostly zero
    for (size_t i = at; i < at + row; ++i) raw += char(im.rgb[i] - (i >= row ? im.rgb[i - row] : 0));
  }
  std::string head =
      big_endian(uint32_t(im.width)) + big_endian(uint32_t(im.height)) + std::string("\x08\x02\0\0\0", 5);
  return "\x89PNG\r\n\x1a\n" + chunk("IHDR", head) + chunk("IDAT", zlib(raw)) + chunk("IEND", "");
}

Image draw(const std::vector<Chart>& charts, int panel_width, int height) {
  TG_CHECK(!charts.empty(), ValueError, "plot: no charts to draw");
  TG_CHECK(panel_width >= 120 && height >= 100 && panel_width <= 8192 && height <= 8192 && charts.size() <= 16,
           ValueError, "plot: panels of ", panel_width, " x ", height, " can't be drawn");
  for (const Chart& chart : charts)
    for (const Curve& c : chart.curves)
      TG_CHECK(c.x.empty() || c.x.size() == c.y.size(), ValueError, "plot: curve '", c.label, "' has ", c.x.size(),
               " places for ", c.y.size(), " values");
  Image im(panel_width * int(charts.size()), height);
  for (size_t i = 0; i < charts.size(); ++i) panel(im, charts[i], int(i) * panel_width, panel_width, height);
  return im;
}

Image draw(const Bars& bars, int width) {
  constexpr int kBar = 7, kGap = 6, kTop = 34;
  const int each = kBar * int(bars.series.size()) + kGap;
  TG_CHECK(!bars.labels.empty() && !bars.series.empty(), ValueError, "plot: no bars to draw");
  TG_CHECK(width >= 300 && width <= 8192 && bars.labels.size() <= 1000 && bars.series.size() <= 8, ValueError,
           "plot: ", bars.labels.size(), " x ", bars.series.size(), " bars on ", width, " pixels can't be drawn");
  size_t letters = 1;
  for (const std::string& s : bars.labels) letters = std::max(letters, s.size());
  Axis x{.lo = 0, .hi = bars.line};
  for (const Curve& s : bars.series) {
    TG_CHECK(s.y.size() == bars.labels.size(), ValueError, "plot: series '", s.label, "' has ", s.y.size(),
             " values for ", bars.labels.size(), " labels");
    for (double v : s.y) x.include(v);
  }
  if (bars.most > 0) x.hi = bars.most;
  Image im(width, kTop + each * int(bars.labels.size()) + 30);
  const int bottom = im.height - 28;
  x.place(std::min(width / 2, 16 + int(letters) * kAdvance), width - 52);
  text(im, 8, 10, bars.title, kBlack);
  for (double v : x.ticks(0)) {
    line(im, x.at(v), kTop - 6, x.at(v), bottom, kGrid, 1);
    text(im, int(x.at(v)) - int(label(v).size()) * kAdvance / 2, bottom + 8, label(v), kBlack);
  }
  for (size_t i = 0; i < bars.labels.size(); ++i) {
    const int top = kTop + each * int(i);
    text(im, 8, top + (each - kGap - 5 * kScale) / 2, bars.labels[i], kBlack);
    for (size_t k = 0; k < bars.series.size(); ++k) {
      const double v = bars.series[k].y[i];
      if (!std::isfinite(v)) continue;
      const int y = top + kBar * int(k), end = int(x.at(std::clamp(v, 0.0, x.hi)));
      for (int dy = 0; dy + 1 < kBar; ++dy) line(im, x.start, y + dy, end, y + dy, kColors[k % std::size(kColors)], 1);
      if (v > x.hi) text(im, end + 4, y - 2, label(v), kBlack);
    }
  }
  if (bars.line > 0) line(im, x.at(bars.line), kTop - 6, x.at(bars.line), bottom, kBlack, 1);
  int right = width - 8;
  for (size_t k = bars.series.size(); k-- > 0;) {
    right -= int(bars.series[k].label.size()) * kAdvance;
    text(im, right, 10, bars.series[k].label, kColors[k % std::size(kColors)]);
    right -= 2 * kAdvance;
  }
  return im;
}

namespace {

void save(const Image& image, const std::string& path) {
  std::string png = to_png(image);
  write_file(path, {{png.data(), png.size()}});
}

}  // namespace

void save_plot(const std::vector<Chart>& charts, const std::string& path) { save(draw(charts), path); }

void save_plot(const Bars& bars, const std::string& path) { save(draw(bars), path); }

}  // namespace tg::io
