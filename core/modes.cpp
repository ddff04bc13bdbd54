#include "core/modes.h"

namespace tg {

thread_local constinit Modes modes_of_thread;

}  // namespace tg
