// The hybrid-normalised loss of one image (or one patch), forward.
#pragma once

#include "pair.h"

namespace dadkit {

// What forward answers: sum of the pixels' losses and their number; wanted or not, every pixel's loss and whether it takes part.
template <typename T>
struct LossAnswer {
  T *total, *number;
  T* map;
  uint8_t* counted;
};

template <typename T>
class HybridLoss {
 public:
  // image: of the target, not yet cut
  explicit HybridLoss(SegmentedImage<T>* image) : image_(*image) {}

  void forward(const Source<T>& pred, const Given<T>& given, const LossAnswer<T>& y, double* r) {
    const Options& o = image_.options();
    const int64_t n = image_.pixels().layout.n;
    std::fill(r, r + record::width(o), 0.0);
    // one segment and no mask: the range cuts nothing, and what is not finite shows in the sums
    const bool whole = image_.one_segment() && !given.median && n > 0;
    const RangeTask<T> range = whole ? RangeTask<T>{0, 0, n, true} : image_.range_of(Source<T>(image_.map()));
    if (range.count == 0 || !range.finite) return degenerate(range.count, y, r);
    image_.cut(given.edges, range);
    image_.keep_edges(r);
    TargetSide<T> target;
    if (given.median) {
      target.take(given, image_);
    } else if (!target.compute(image_, whole ? nullptr : &range)) {
      return degenerate(range.count, y, r);
    }
    target.keep(image_, r);
    T share[kMaxLeaves];
    shares_of(image_.segmentation(), r, share);
    Statistic own[kMaxContexts];
    bool finite = image_.medians(pred, own);
    if (finite && o.variant == kHdn) finite = image_.range_of(pred).finite;  // also where no segment reaches
    if (!finite) return degenerate(range.count, y, r);
    r[record::kNumber] = static_cast<double>(o.variant == kHdn ? range.count : taking_part(share));
    r[record::kFlatPred] = image_.keep_scales(pred, own, r);
    const double sum = pair_sums(image_, pred, share, r, [&](LossTask<T>* task, const T* px, int64_t first, int64_t size) {
      image_.sweeps().loss(px, image_.map() + first, image_.pixels().leaf + first, size, task, y.map ? y.map + first : nullptr);
    });
    *y.total = static_cast<T>(sum);
    *y.number = static_cast<T>(r[record::kNumber]);
    if (y.counted) mark(share, y.counted);
  }

 private:
  // An image without valid pixels, or with one that is not finite.
  void degenerate(int64_t count, const LossAnswer<T>& y, double* r) const {
    const T value = count == 0 ? T(0) : std::numeric_limits<T>::quiet_NaN();
    r[record::kStatus] = count == 0 ? record::kEmpty : record::kPoisoned;
    r[record::kNumber] = static_cast<double>(count);
    *y.total = value;
    *y.number = static_cast<T>(count);
    const int64_t n = image_.pixels().layout.n;  // every valid pixel, also where no segment is kept
    for (int64_t i = 0; y.map && i < n; ++i) y.map[i] = image_.is_valid(i) ? value : T(0);
    for (int64_t i = 0; y.counted && i < n; ++i) y.counted[i] = image_.is_valid(i);
  }

  int64_t taking_part(const T* share) const {
    int64_t pixels = 0;
    for (int c = 0; c < image_.segmentation().leaves; ++c)
      if (share[c] > 0) pixels += image_.pixels().count_of_leaf(c);
    return pixels;
  }

  // pixels that take part: with a kept segment; in variant hdn all valid ones
  void mark(const T* share, uint8_t* counted) const {
    uint8_t takes[256] = {};
    for (int c = 0; c < image_.segmentation().leaves; ++c) takes[c] = share[c] > 0;
    const bool hdn = image_.options().variant == kHdn;
    for (int64_t i = 0; i < image_.pixels().layout.n; ++i) counted[i] = hdn ? image_.is_valid(i) : takes[image_.pixels().leaf[i]];
  }

  SegmentedImage<T>& image_;
};

}  // namespace dadkit
