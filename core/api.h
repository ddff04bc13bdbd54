// Symbol visibility: the library is built with everything hidden, TG_API marks what users may link to.
#pragma once

#if defined(_WIN32)
#error "tinygrad_cpp supports Linux and macOS"
#endif
#define TG_API __attribute__((visibility("default")))
#define TG_LIKELY(x) __builtin_expect(!!(x), 1)
#define TG_UNLIKELY(x) __builtin_expect(!!(x), 0)
