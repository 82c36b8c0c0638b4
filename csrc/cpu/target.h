// The target's side of the loss: the statistics of its segments, computed or given, and which segments count.
#pragma once

#include "image.h"

namespace dadkit {

// A row of TargetStats; edges may be given alone.
template <typename T>
struct Given {
  const T* edges = nullptr;
  const T* median = nullptr;
  const T* mad = nullptr;
  T global_mad = 0;
  bool flat = false;
};

// Whether a leaf's pixels count on a level.
inline bool is_counted(const Segmentation& seg, int l, int c, const double* r) {
  return seg.context[l][c] != kNoContext && record::at(r, seg.context[l][c], record::kKept) != 0;
}

template <typename T>
class TargetSide {
 public:
  int64_t count[kMaxContexts] = {};
  double median[kMaxContexts] = {}, mad[kMaxContexts] = {};
  double global_mad = 0;
  bool flat = true;

  // The pixels are counted anew, as the device kernels do: what is out of date is answered the same everywhere.
  void take(const Given<T>& given, const SegmentedImage<T>& image) {
    for (int u = 0; u < image.options().contexts(); ++u) {
      count[u] = image.count_of(u);
      median[u] = static_cast<double>(given.median[u]);
      mad[u] = static_cast<double>(given.mad[u]);
    }
    global_mad = static_cast<double>(given.global_mad);
    flat = given.flat;
  }

  // own: of the target, if it is finite; range: nullptr where it was not looked for
  void compute(const SegmentedImage<T>& image, const Statistic* own, const RangeTask<T>* range) {
    const Segmentation& seg = image.segmentation();
    for (int u = 0; u < seg.contexts; ++u) {
      median[u] = own[u].value;
      count[u] = image.count_of(u);
      // rounded as TargetStats holds it, so that cached statistics change nothing
      if (count[u]) mad[u] = static_cast<double>(static_cast<T>(own[u].deviation / image.divisor(static_cast<double>(count[u]))));
    }
    if (image.options().variant == kHdn || (range && range->count == 0)) return;
    global_mad = mad[seg.whole];
    flat = range ? is_flat(global_mad, image.largest(*range), std::numeric_limits<T>::epsilon())
                 : image.flat(Source<T>(image.map()), global_mad, median[seg.whole]);
  }

  // Which segments are kept, and the target's constants, into the record.
  void keep(const SegmentedImage<T>& image, double* r) const {
    const Segmentation& seg = image.segmentation();
    const Options& o = image.options();
    const bool hdn = o.variant == kHdn;
    for (int u = 0; u < seg.contexts; ++u) {
      const bool counts = u < o.contexts();  // an added whole map only lends its deviation
      const bool kept = hdn || is_kept(seg.level_of[u], count[u], o.min_pixels, mad[u], global_mad, o.mad_floor, flat);
      record::at(r, u, record::kKept) = counts && kept;
      record::at(r, u, record::kCount) = static_cast<double>(count[u]);
      record::at(r, u, record::kTargetMedian) = median[u];
      record::at(r, u, record::kTargetInverse) = 1 / (hdn ? mad[u] + kHdnEpsilon : scale_of(mad[u], global_mad, o.mad_floor).value);
    }
  }
};

}  // namespace dadkit
