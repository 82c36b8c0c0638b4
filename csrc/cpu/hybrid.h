// The hybrid-normalised loss of one image (or one patch), and its gradient from the record that forward left.
#pragma once

#include <vector>

#include "target.h"

namespace dadkit {

// share[leaf] = 1 / number of a leaf's kept segments, 0 without any
template <typename T>
void shares_of(const Segmentation& seg, const double* r, T* share) {
  for (int c = 0; c < seg.leaves; ++c) {
    int kept = 0;
    for (int l = 0; l < seg.loss_levels; ++l) kept += is_counted(seg, l, c, r);
    share[c] = kept ? static_cast<T>(1.0 / kept) : T(0);
  }
}

// Levels that are not there get zeros, which contribute nothing.
template <typename T, typename Task>
void pair_constants(const Segmentation& seg, const double* r, int levels, Task* task) {
  *task = Task{};
  task->levels = levels;
  const bool flat = r[record::kFlatPred] != 0;
  for (int l = 0; l < levels; ++l) {
    for (int c = 0; c < seg.leaves; ++c) {
      const int u = seg.context[l][c];
      if (u == kNoContext) continue;
      task->m_p.at[l][c] = static_cast<T>(record::at(r, u, record::kMedian));
      if (l >= seg.loss_levels || !is_counted(seg, l, c, r)) continue;
      task->inv_p.at[l][c] = flat ? T(0) : static_cast<T>(1 / record::at(r, u, record::kScale));
      task->m_d.at[l][c] = static_cast<T>(record::at(r, u, record::kTargetMedian));
      task->inv_d.at[l][c] = static_cast<T>(record::at(r, u, record::kTargetInverse));
    }
  }
}

// Runs sweep(task, pixels, first, n) over all strips of pred, adds the sums of sign and sign * N to the record r, in the strips' order, and
// answers the sum of the losses.
template <typename T, typename Sweep>
double pair_sums(const SegmentedImage<T>& image, const Source<T>& pred, const T* share, double* r, const Sweep& sweep) {
  const Segmentation& seg = image.segmentation();
  const Layout& layout = image.pixels().layout;
  Team* team = image.pixels().team;
  LossTask<T> model;
  pair_constants<T>(seg, r, seg.loss_levels, &model);
  std::copy(share, share + seg.leaves, model.share);
  double sum = 0;
  auto take = [&](LossTask<T>* task) {  // and clear it
    for (int c = 0; c < seg.leaves; ++c) {
      const double part = static_cast<double>(share[c]);
      sum += part * task->abs_sum[c];
      task->abs_sum[c] = 0;
      for (int l = 0; l < seg.loss_levels; ++l) {
        if (is_counted(seg, l, c, r)) {
          record::at(r, seg.context[l][c], record::kUpstream) += part * task->sign_sum.at[l][c];
          record::at(r, seg.context[l][c], record::kUpstreamZ) += part * task->z_sum.at[l][c];
        }
        task->sign_sum.at[l][c] = task->z_sum.at[l][c] = 0;
      }
    }
  };
  Buffer<LossTask<T>> memory;
  LossTask<T>* parts = memory.need(static_cast<size_t>(team ? layout.strips() : 0));  // in order one task serves all strips
  for_each(team, layout.strips(), [&](int64_t s) {
    LossTask<T>* task = team ? &(parts[s] = model) : &model;
    pred.blocks(layout, s, [&](const T* px, int64_t first, int64_t n) { sweep(task, px, first, n); });
    if (!team) take(task);
  });
  for (int64_t s = 0; team && s < layout.strips(); ++s) take(parts + s);
  return sum;
}

// ------------------------------------------------------------------------------------------------ forward
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
    std::fill(r, r + record::width(o), 0.0);
    // one segment: the range cuts nothing, and what is not finite shows in the sums
    const bool whole = image_.one_segment() && !given.median;
    RangeTask<T> range = whole ? RangeTask<T>{0, 0, 1, true} : image_.range_of(Source<T>(image_.map()));
    if (range.count > 0 && range.finite) image_.cut(given.edges, range);
    if (whole) range.count = image_.count_of(0);
    if (range.count == 0 || !range.finite) return degenerate(range.count, y, r);
    image_.keep_edges(r);
    Statistic own[kMaxContexts], of_target[kMaxContexts];
    bool finite = given.median ? image_.medians(pred, own) : image_.medians(Source<T>(image_.map()), pred, of_target, own);
    if (finite && o.variant == kHdn) finite = image_.range_of(pred).finite;  // also where no segment reaches
    if (!finite) return degenerate(range.count, y, r);
    TargetSide<T> target;
    if (given.median) {
      target.take(given, image_);
    } else {
      target.compute(image_, of_target, whole ? nullptr : &range);
    }
    target.keep(image_, r);
    T share[kMaxLeaves];
    shares_of(image_.segmentation(), r, share);
    r[record::kNumber] = static_cast<double>(o.variant == kHdn ? range.count : taking_part(share));
    r[record::kFlatPred] = image_.keep_scales(pred, own, r);
    const double sum = pair_sums(image_, pred, share, r, [&](LossTask<T>* task, const T* px, int64_t first, int64_t size) {
      image_.sweeps().loss(px, image_.map() + first, image_.pixels().leaves(first), size, task, y.map ? y.map + first : nullptr);
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
    for (int64_t i = 0; i < image_.pixels().layout.n; ++i) counted[i] = hdn ? image_.is_valid(i) : takes[*image_.pixels().leaves(i)];
  }

  SegmentedImage<T>& image_;
};

// ------------------------------------------------------------------------------------------------ backward
// The upstream gradient: of the total, or (per_pixel) of every pixel's loss
template <typename T>
struct Upstream {
  T total;
  const T* per_pixel;
  const T* from(int64_t first) const { return per_pixel ? per_pixel + first : nullptr; }
};

template <typename T>
class HybridGradient {
 public:
  // image: of the target. Only for images that forward called fine.
  HybridGradient(SegmentedImage<T>* image, const Upstream<T>& upstream) : image_(*image), upstream_(upstream) {}

  // Of a whole map, into out.
  void of_map(const Source<T>& pred, const double* r, T* out) {
    if (upstream_.per_pixel) {
      image_.cut_again(r);  // the weighted sums sweep over all pixels before the gradient does
    } else if (!image_.pixels().leaf) {
      image_.prepare_leaves(r);
    }
    const GradientTask<T> task = coefficients(pred, r);
    const Pixels<T>& pixels = image_.pixels();
    image_.strips([&](int64_t s, int64_t start, int64_t size) {
      Buffer<uint8_t> own;
      if (!pixels.leaf) image_.leaves_of_strip(s, own.need(static_cast<size_t>(size + 64)), nullptr);  // just before they are used
      const uint8_t* leaf = pixels.leaf ? pixels.leaves(start) : own.need(0);
      pred.blocks(pixels.layout, s, [&](const T* px, int64_t first, int64_t n) { sweep(px, leaf + first - start, first, n, task, out + first); });
    });
  }

  // Of some pixels of an image that is cut, with the coefficients below.
  void of_block(const T* px, int64_t first, int64_t n, const GradientTask<T>& task, T* out) const {
    sweep(px, image_.pixels().leaves(first), first, n, task, out);
  }

  // The constants of the gradient per (level, leaf); with weights per pixel this sweeps over the image, which must be cut.
  GradientTask<T> coefficients(const Source<T>& pred, const double* r) const {
    const Segmentation& seg = image_.segmentation();
    std::vector<double> sums(r, r + record::width(image_.options()));
    T share[kMaxLeaves] = {};
    shares_of(seg, r, share);
    const double unit = upstream_.per_pixel ? 1 : static_cast<double>(upstream_.total);
    if (upstream_.per_pixel) weighted_sums(pred, share, sums.data());
    SegmentGradient of[kMaxContexts];
    segment_gradients(image_, sums.data(), unit, of);
    GradientTask<T> task;
    pair_constants<T>(seg, r, seg.levels, &task);
    for (int l = 0; l < seg.levels; ++l) {
      for (int c = 0; c < seg.leaves; ++c) {
        const int u = seg.context[l][c];
        if (u == kNoContext) continue;
        if (l < seg.loss_levels && is_counted(seg, l, c, r))
          task.side.at[l][c] = static_cast<T>(unit * static_cast<double>(share[c]) / record::at(r, u, record::kScale));
        task.mad.at[l][c] = static_cast<T>(of[u].mad);
        task.tie.at[l][c] = static_cast<T>(of[u].tie);
      }
    }
    return task;
  }

 private:
  void sweep(const T* px, const uint8_t* leaf, int64_t first, int64_t n, const GradientTask<T>& task, T* out) const {
    image_.sweeps().gradient(px, image_.map() + first, leaf, upstream_.from(first), n, &task, out);
  }

  void weighted_sums(const Source<T>& pred, const T* share, double* r) const {
    for (int u = 0; u < image_.segmentation().contexts; ++u) record::at(r, u, record::kUpstream) = record::at(r, u, record::kUpstreamZ) = 0;
    pair_sums(image_, pred, share, r, [&](LossTask<T>* task, const T* px, int64_t first, int64_t n) {
      image_.sweeps().weighted_sums(px, image_.map() + first, image_.pixels().leaves(first), upstream_.from(first), n, task);
    });
  }

  SegmentedImage<T>& image_;
  Upstream<T> upstream_;
};

}  // namespace dadkit
