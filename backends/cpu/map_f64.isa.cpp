#define TG_T double
#define TG_FILL fill_map_f64
#include "backends/cpu/map_loops.h"
