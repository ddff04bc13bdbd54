// Errors that the device finds while a graph is replayed, when the host cannot look: they are raised where it waits
// next.
#pragma once
#include <cstdint>
#include <string>

namespace tg::cuda {

// No value was noted. Values are noted by atomicMin, so that the smallest is told whatever the order of threads.
inline constexpr int64_t kNothingNoted = INT64_MAX;

// Memory that the host and every device reach, in which kernels note a value that must not be; one place per text.
// It lives as long as the process. NotImplementedError when there are none left.
int64_t* late_error_place(const std::string& text);
// After a wait: IndexError with the text and the value if there is one, which is forgotten.
void raise_late_error();

}  // namespace tg::cuda
