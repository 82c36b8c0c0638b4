// What forward leaves for backward in an image's record (common/record.h), written and read back.
#pragma once

#include "pixels.h"

namespace dadkit {
namespace device {

// number: of the pixels that take part
template <typename T>
DADKIT_DEVICE void save_head(const Call<T>& c, int64_t b, int64_t number, double* r) {
  const Image& m = c.image[b];
  for (int k = 0; k < record::kHead; ++k) r[k] = 0;
  r[record::kStatus] = m.status;
  r[record::kNumber] = static_cast<double>(number);
  r[record::kFlatPred] = m.flat[kPred];
  for (int k = 0; k < 9; ++k) r[record::kEdges + k] = m.edges[k];
}

template <typename T>
DADKIT_DEVICE void save_context(const Call<T>& c, int64_t b, int u, double* r) {
  const Context& k = c.at(b, u);
  const bool fine = c.image[b].status == record::kFine;
  record::at(r, u, record::kCount) = static_cast<double>(k.count);
  record::at(r, u, record::kTargetMedian) = fine ? k.median[kTarget] : 0;
  record::at(r, u, record::kTargetInverse) = k.scale[kTarget] > 0 ? 1 / k.scale[kTarget] : 1;  // 0: of no use, and never used
  record::at(r, u, record::kMedian) = fine ? k.median[kPred] : 0;
  record::at(r, u, record::kScale) = k.scale[kPred];
  record::at(r, u, record::kFloored) = k.floored;
  record::at(r, u, record::kKept) = fine && k.kept;
  record::at(r, u, record::kSignSum) = k.sign_sum;
  record::at(r, u, record::kTies) = static_cast<double>(k.equal);
  record::at(r, u, record::kUpstream) = fine ? k.upstream[0] : 0;
  record::at(r, u, record::kUpstreamZ) = fine ? k.upstream[1] : 0;
}

template <typename T>
DADKIT_DEVICE void restore_head(const Call<T>& c, int64_t b, const double* r) {
  Image& m = c.image[b];
  m.status = static_cast<int32_t>(r[record::kStatus]);
  m.valid = static_cast<int64_t>(r[record::kNumber]);
  m.flat[kPred] = r[record::kFlatPred] != 0;
  for (int k = 0; k < 9; ++k) m.edges[k] = r[record::kEdges + k];
}

template <typename T>
DADKIT_DEVICE void restore_context(const Call<T>& c, int64_t b, int u, const double* r) {
  Context& k = c.at(b, u);
  k.count = static_cast<int64_t>(record::at(r, u, record::kCount));
  k.median[kTarget] = record::at(r, u, record::kTargetMedian);
  k.scale[kTarget] = 1 / record::at(r, u, record::kTargetInverse);
  k.median[kPred] = record::at(r, u, record::kMedian);
  k.scale[kPred] = record::at(r, u, record::kScale);
  k.floored = record::at(r, u, record::kFloored) != 0;
  k.kept = record::at(r, u, record::kKept) != 0;
  k.sign_sum = record::at(r, u, record::kSignSum);
  k.equal = static_cast<int64_t>(record::at(r, u, record::kTies));
  k.upstream[0] = record::at(r, u, record::kUpstream);
  k.upstream[1] = record::at(r, u, record::kUpstreamZ);
}

}  // namespace device
}  // namespace dadkit
