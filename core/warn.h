// Warnings to the user, for what goes on but is hardly meant.
#pragma once
#include <string>

#include "core/api.h"

namespace tg {

// Shows a warning to the user; set by the Python layer, null elsewhere.
TG_API extern void (*warn_user)(const std::string& text);

// By warn_user, or on stderr where there is none.
TG_API void warn(const std::string& text);

}  // namespace tg
