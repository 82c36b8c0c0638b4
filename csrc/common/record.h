// What forward leaves for backward, per image, in doubles: a head and then the fields of every context.
#pragma once

#include "segmentation.h"

namespace dadkit {
namespace record {
constexpr int kStatus = 0, kNumber = 1, kFlatPred = 2, kEdges = 3, kHead = 12;
enum Field { kCount, kTargetMedian, kTargetInverse, kMedian, kScale, kFloored, kKept, kSignSum, kTies, kUpstream, kUpstreamZ, kFields };
enum Status { kFine = 0, kEmpty = 1, kPoisoned = 2 };

DADKIT_BOTH int contexts(const Options& o) { return o.contexts() + (o.variant == kDadkit && !o.has_whole() ? 1 : 0); }
DADKIT_BOTH int64_t width(const Options& o) { return kHead + static_cast<int64_t>(kFields) * contexts(o); }
DADKIT_BOTH double& at(double* r, int u, Field f) { return r[kHead + u * kFields + f]; }
DADKIT_BOTH double at(const double* r, int u, Field f) { return r[kHead + u * kFields + f]; }
}  // namespace record

// The same of the gradient matching loss; behind the head per scale: number of pixels, and on a GPU the sum of sign(dR) dN.
namespace matching_record {
enum Field { kStatus, kMedian, kInverse, kTargetMedian, kTargetInverse, kFlatPred, kFlatTarget, kCount, kSignSum, kTies, kHead };
DADKIT_BOTH int64_t width(int64_t scales) { return kHead + 2 * scales; }
DADKIT_BOTH double& pixels(double* r, int64_t scale) { return r[kHead + 2 * scale]; }
DADKIT_BOTH double pixels(const double* r, int64_t scale) { return r[kHead + 2 * scale]; }
}  // namespace matching_record

// The same of a map's median and deviation.
namespace median_record {
enum Field { kStatus, kMedian, kCount, kSignSum, kTies, kWidth };
}  // namespace median_record

}  // namespace dadkit
