// Line and bar charts as PNG files, for training curves and comparisons: no dependency, small on purpose.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/api.h"

namespace tg::io {

// 8-bit RGB image.
struct Image {
  int width = 0, height = 0;
  std::vector<uint8_t> rgb;  // height * width * 3
  Image(int w, int h) : width(w), height(h), rgb(size_t(w) * size_t(h) * 3, 255) {}
};

// PNG bytes (ISO/IEC 15948). Only runs of one pixel are compressed, which suits flat colours.
TG_API std::string to_png(const Image& image);

struct Curve {
  std::string label;
  std::vector<double> y;       // values that are not finite leave a gap
  std::vector<double> x = {};  // ascending, one per y; empty: 1..n
};
struct Chart {
  std::string title;
  std::vector<Curve> curves;
  bool log = false;  // both axes logarithmic; values that are not positive leave a gap
};
// Horizontal bars: a group per label, in it one bar per series; values that are not finite are left out.
struct Bars {
  std::string title;
  std::vector<std::string> labels;
  std::vector<Curve> series;  // y has one value per label
  double line = 0;            // value of a vertical line to compare with
  double most = 0;            // longest bar: longer ones are cut and say their value; 0: the largest value
};
// Charts side by side, one panel each, with axes, ticks and a legend. ValueError if there is nothing to draw.
TG_API Image draw(const std::vector<Chart>& charts, int panel_width = 460, int height = 320);
TG_API void save_plot(const std::vector<Chart>& charts, const std::string& path);
// ValueError where a series has not one value per label.
TG_API Image draw(const Bars& bars, int width = 900);
TG_API void save_plot(const Bars& bars, const std::string& path);

}  // namespace tg::io
