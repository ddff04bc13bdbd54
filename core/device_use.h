// Whether a device other than the CPU has been used. Programs of the CPU alone then need not compare devices.
#pragma once
#include <atomic>

#include "core/api.h"

namespace tg {

TG_API extern std::atomic<bool> devices_used;

}  // namespace tg
