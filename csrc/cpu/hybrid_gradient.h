// The gradient of the hybrid-normalised loss of one image (or one patch), from the record that forward left.
#pragma once

#include <memory>
#include <vector>

#include "pair.h"

namespace dadkit {

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
  // image: of the target, not yet cut. Only for images that forward called fine.
  HybridGradient(SegmentedImage<T>* image, const Upstream<T>& upstream) : image_(*image), upstream_(upstream) {}

  // Of a whole map, into out.
  void of_map(const Source<T>& pred, const double* r, T* out) {
    const bool weighted = upstream_.per_pixel;
    if (weighted) {
      image_.cut_again(r);  // the weighted sums sweep over all pixels before the gradient does
    } else {
      image_.prepare_leaves(r);
    }
    const GradientTask<T> task = coefficients(pred, r);
    image_.strips([&](int64_t s, int64_t start, int64_t size) {
      const std::unique_ptr<uint8_t[]> own(weighted ? nullptr : new uint8_t[static_cast<size_t>(size + 64)]);
      if (!weighted) image_.leaves_of_strip(s, own.get(), nullptr);  // just before they are used
      const uint8_t* leaf = weighted ? image_.pixels().leaf + start : own.get();
      pred.blocks(image_.pixels().layout, s, [&](const T* px, int64_t first, int64_t n) {
        sweep(px, leaf + first - start, first, n, task, out + first);
      });
    });
  }

  // Of some pixels of an image that is cut, with the coefficients below.
  void of_block(const T* px, int64_t first, int64_t n, const GradientTask<T>& task, T* out) const {
    sweep(px, image_.pixels().leaf + first, first, n, task, out);
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
    for (int u = 0; u < seg.contexts; ++u) of[u] = of_segment(sums.data(), u, unit);
    pass_on_floors(r, of);
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

  SegmentGradient of_segment(const double* r, int u, double unit) const {
    if (record::at(r, u, record::kKept) == 0 || record::at(r, u, record::kCount) == 0) return SegmentGradient{0, 0, 0};
    return segment_gradient_of(image_, r, u, unit * record::at(r, u, record::kUpstream), unit * record::at(r, u, record::kUpstreamZ));
  }

  // Floored segments have S = tau s_g: their gradient belongs to the whole map's deviation.
  void pass_on_floors(const double* r, SegmentGradient* of) const {
    const Segmentation& seg = image_.segmentation();
    double to_global = 0;
    for (int u = 0; u < seg.contexts; ++u) to_global += of[u].scale;
    if (seg.whole == kNoContext || to_global == 0) return;
    const double mad = image_.options().mad_floor * to_global / record::at(r, seg.whole, record::kCount);
    of[seg.whole].mad += mad;
    const double ties = record::at(r, seg.whole, record::kTies);
    if (!image_.options().detach_median && ties > 0) of[seg.whole].tie -= mad * record::at(r, seg.whole, record::kSignSum) / ties;
  }

  void weighted_sums(const Source<T>& pred, const T* share, double* r) const {
    for (int u = 0; u < image_.segmentation().contexts; ++u) record::at(r, u, record::kUpstream) = record::at(r, u, record::kUpstreamZ) = 0;
    pair_sums(image_, pred, share, r, [&](LossTask<T>* task, const T* px, int64_t first, int64_t n) {
      image_.sweeps().weighted_sums(px, image_.map() + first, image_.pixels().leaf + first, upstream_.from(first), n, task);
    });
  }

  SegmentedImage<T>& image_;
  Upstream<T> upstream_;
};

}  // namespace dadkit
