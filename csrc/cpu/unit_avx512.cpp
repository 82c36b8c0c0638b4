// The sweeps for processors with AVX512.
#define DADKIT_UNIT unit_avx512
#define DADKIT_AVX512
#include "sweeps.h"

namespace dadkit {

const Sweeps<float>* sweeps_avx512(float) { return unit_avx512::table<unit_avx512::FloatVec>(); }
const Sweeps<double>* sweeps_avx512(double) { return unit_avx512::table<unit_avx512::DoubleVec>(); }

}  // namespace dadkit
