#include <tg/tg.h>

#include <cstdio>

#include "core/version.h"

int main() { std::printf("tinygrad_cpp %s\n", TG_VERSION); }
