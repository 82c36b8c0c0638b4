// The sweeps for processors with AVX2.
#define DADKIT_UNIT unit_avx2
#define DADKIT_AVX2
#include "sweeps.h"

namespace dadkit {

const Sweeps<float>* sweeps_avx2(float) { return unit_avx2::table<unit_avx2::FloatVec>(); }
const Sweeps<double>* sweeps_avx2(double) { return unit_avx2::table<unit_avx2::DoubleVec>(); }

}  // namespace dadkit
