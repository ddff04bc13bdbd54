// Marks functions that run on a GPU as well as on the host. Kernels compiled at run time contain the text of this
// header and of those that use it (backends/rtc/text.py), so these use nothing but what the prelude there has.
#pragma once

#ifdef __CUDACC__
#define TG_HD __host__ __device__
#else
#define TG_HD
#endif
