// Line charts as PNG files, for training curves: no dependency, small on purpose.
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

// PNG bytes (ISO/IEC 15948), data stored without compression.
TG_API std::string to_png(const Image& image);

struct Curve {
  std::string label;
  std::vector<double> y;  // plotted over 1..n; values that are not finite leave a gap
};
struct Chart {
  std::string title;
  std::vector<Curve> curves;
};
// Charts side by side, one panel each, with axes, ticks and a legend. ValueError if there is nothing to draw.
TG_API Image draw(const std::vector<Chart>& charts, int panel_width = 460, int height = 320);
TG_API void save_plot(const std::vector<Chart>& charts, const std::string& path);

}  // namespace tg::io
