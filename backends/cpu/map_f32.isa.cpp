#define TG_T float
#define TG_FILL fill_map_f32
#include "backends/cpu/map_loops.h"
