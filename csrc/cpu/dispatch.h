// The table of sweeps for this processor.
#pragma once

#include "isa.h"
#include "tasks.h"

namespace dadkit {

template <typename T>
const Sweeps<T>* sweeps() {
#if defined(DADKIT_X86_UNITS)
  switch (chosen_isa()) {
    case Isa::kAvx512: return sweeps_avx512(T());
    case Isa::kAvx2: return sweeps_avx2(T());
    default: break;
  }
#endif
  return sweeps_plain(T());
}

}  // namespace dadkit
