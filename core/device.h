// Where a tensor's memory lives.
#pragma once
#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>

#include "core/api.h"

namespace tg {

enum class DeviceType : uint8_t { CPU, CUDA };

struct Device {
  DeviceType type = DeviceType::CPU;
  int16_t index = 0;
  constexpr Device() = default;
  constexpr Device(DeviceType t, int i = 0) : type(t), index(int16_t(i)) {}
  // "cpu", "cuda", "cuda:1"; ValueError for anything else.
  TG_API explicit Device(std::string_view s);
  bool operator==(const Device&) const = default;
  bool is_cpu() const { return type == DeviceType::CPU; }
};

TG_API std::string to_string(Device d);
// Set by backends/: what a reader of a tensor's printed form should know of its device, such as " (emulation)".
TG_API extern const char* (*device_note)(Device);
inline std::ostream& operator<<(std::ostream& o, Device d) { return o << to_string(d); }

}  // namespace tg
