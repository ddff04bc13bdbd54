#include "core/modes.h"

namespace tg {

Modes& modes() {
  thread_local Modes m;
  return m;
}

}  // namespace tg
