#define TG_T int64_t
#define TG_FILL fill_map_i64
#include "backends/cpu/map_loops.h"
