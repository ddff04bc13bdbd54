#include "core/warn.h"

#include <cstdio>

namespace tg {

void (*warn_user)(const std::string&) = nullptr;

void warn(const std::string& text) {
  if (warn_user)
    warn_user(text);
  else
    std::fprintf(stderr, "tinygrad_cpp: %s\n", text.c_str());
}

}  // namespace tg
