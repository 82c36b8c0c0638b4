// The sweeps for any processor (SSE2 on x86-64, NEON on ARM).
#define DADKIT_UNIT unit_plain

#include "sweeps.h"

namespace dadkit {

const Sweeps<float>* sweeps_plain(float) { return unit_plain::table<unit_plain::FloatVec>(); }
const Sweeps<double>* sweeps_plain(double) { return unit_plain::table<unit_plain::DoubleVec>(); }

}  // namespace dadkit
