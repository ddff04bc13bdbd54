#include "core/device.h"

#include "core/error.h"

namespace tg {

Device::Device(std::string_view s) {
  auto colon = s.find(':');
  std::string_view kind = s.substr(0, colon);
  TG_CHECK(kind == "cpu" || kind == "cuda", ValueError, "device: expected 'cpu', 'cuda' or 'cuda:N', got '", s, "'");
  type = kind == "cpu" ? DeviceType::CPU : DeviceType::CUDA;
  if (colon == s.npos) return;
  std::string_view num = s.substr(colon + 1);
  int v = 0;
  bool ok = !num.empty() && num.size() <= 3;
  for (char c : num) {
    ok = ok && c >= '0' && c <= '9';
    v = v * 10 + (c - '0');
  }
  TG_CHECK(ok, ValueError, "device: bad index in '", s, "'");
  index = int16_t(v);
}

const char* (*device_note)(Device) = nullptr;

std::string to_string(Device d) { return d.is_cpu() ? "cpu" : "cuda:" + std::to_string(d.index); }

}  // namespace tg
