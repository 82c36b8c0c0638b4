// One map cut into segments: its leaves, and the statistics of any map over them. Everything that normalises begins here.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "../common/record.h"
#include "order.h"
#include "segmentation.h"

namespace dadkit {

template <typename T>
class SegmentedImage {
 public:
  // map: the one that is cut
  SegmentedImage(const Sweeps<T>* sweeps, const Options& options, const T* map, const uint8_t* mask, int64_t height, int64_t width,
                 const Layout& layout, Team* team)
      : sweeps_(sweeps), options_(options), map_(map), mask_(mask), height_(height), width_(width), pixels_{sweeps, layout, team} {}

  const Sweeps<T>& sweeps() const { return *sweeps_; }
  const Options& options() const { return options_; }
  const T* map() const { return map_; }
  const Pixels<T>& pixels() const { return pixels_; }
  const Segmentation& segmentation() const { return seg_; }
  const T* edges() const { return rule_.edges; }
  int64_t count_of(int u) const { return count_[u]; }
  bool is_valid(int64_t i) const { return !mask_ || mask_[i]; }
  double divisor(double count) const { return options_.variant == kHdn ? count + 1 : count; }
  bool one_segment() const { return options_.finest() == 1 && options_.variant == kDadkit; }  // that holds every valid pixel, whatever its range

  // Calls f(strip, first, n) for all strips.
  template <typename F>
  void strips(const F& f) const {
    const Layout& layout = pixels_.layout;
    for_each(pixels_.team, layout.strips(), [&](int64_t s) { f(s, layout.first(s), layout.size(s)); });
  }

  // Smallest and largest valid pixel of x, their number, and whether all are finite.
  RangeTask<T> range_of(const Source<T>& x) const {
    const T inf = std::numeric_limits<T>::infinity();
    const RangeTask<T> nothing{inf, -inf, 0, true};
    std::vector<RangeTask<T>> parts(static_cast<size_t>(pixels_.layout.strips()), nothing);
    strips([&](int64_t s, int64_t, int64_t) {
      x.blocks(pixels_.layout, s, [&](const T* px, int64_t first, int64_t n) {
        RangeTask<T> one;
        sweeps_->range(px, mask_ ? mask_ + first : nullptr, n, &one);
        merge(one, &parts[static_cast<size_t>(s)]);
      });
    });
    RangeTask<T> all = nothing;
    for (const RangeTask<T>& part : parts) merge(part, &all);
    return all;
  }

  // Cuts the map at the given borders or, without them, by its range.
  void cut(const T* edges, const RangeTask<T>& range) {
    const int finest = options_.finest();
    if (options_.partition != kGrid && edges) {
      std::copy(edges, edges + finest + 1, rule_.edges);
    } else if (options_.partition != kGrid) {
      const T lo = range.count ? range.lo : T(0), width = range.count ? range.hi - range.lo : T(0);
      for (int k = 0; k <= finest; ++k) rule_.edges[k] = border(lo, width, k, finest);
    }
    make_leaves();
  }

  // Cuts the map again as forward did.
  void cut_again(const double* r) {
    restore_edges(r);
    make_leaves();
  }

  // The same without making the leaves: leaves_of_strip makes them where they are needed.
  void prepare_leaves(const double* r) {
    restore_edges(r);
    if (alike()) return make_leaves();
    finish_rule();
  }
  void keep_edges(double* r) const { std::copy(rule_.edges, rule_.edges + 9, r + record::kEdges); }

  // counts: nullptr, or the pixels of every leaf are added to it
  void leaves_of_strip(int64_t s, uint8_t* leaf, int64_t* counts) const {
    const int64_t first = pixels_.layout.first(s), size = pixels_.layout.size(s);
    rule_.apply(*sweeps_, options_, map_ + first, mask_ ? mask_ + first : nullptr, first, size, height_, width_, leaf, counts);
  }

  // Medians and deviations of x in every segment; false where a pixel is not finite.
  bool medians(const Source<T>& x, Statistic* out) const {
    return OrderStatistics<T>(pixels_, seg_, x).compute(nullptr, out);
  }

  // The same of two maps at once.
  bool medians(const Source<T>& x, const Source<T>& y, Statistic* of_x, Statistic* of_y) const {
    OrderStatistics<T> both[] = {{pixels_, seg_, x}, {pixels_, seg_, y}};
    Statistic* out[] = {of_x, of_y};
    return OrderStatistics<T>::compute(both, 2, nullptr, out);
  }

  // The scales of x, into the record; answers whether x is flat.
  bool keep_scales(const Source<T>& x, const Statistic* own, double* r) const {
    const bool hdn = options_.variant == kHdn;
    const double global = hdn ? 0 : own[seg_.whole].deviation / static_cast<double>(count_of(seg_.whole));
    for (int u = 0; u < seg_.contexts; ++u) {
      const double n = static_cast<double>(count_of(u));
      if (n == 0) {
        record::at(r, u, record::kScale) = hdn ? kHdnEpsilon : 1;
        continue;
      }
      const double mad = own[u].deviation / divisor(n);
      const Scale scale = hdn ? Scale{mad + kHdnEpsilon, false} : scale_of(mad, global, options_.mad_floor);
      record::at(r, u, record::kCount) = n;
      record::at(r, u, record::kMedian) = own[u].value;
      record::at(r, u, record::kScale) = scale.value;
      record::at(r, u, record::kFloored) = scale.floored;
      record::at(r, u, record::kSignSum) = n - static_cast<double>(own[u].equal + 2 * own[u].under);
      record::at(r, u, record::kTies) = static_cast<double>(own[u].equal);
    }
    return !hdn && flat(x, global, own[seg_.whole].value);
  }

  // max |x| is at most |m| + n mad: only a map that may be flat is swept for its largest value
  bool flat(const Source<T>& x, double mad, double median) const {
    const T epsilon = std::numeric_limits<T>::epsilon();
    const double bound = std::abs(median) + mad * static_cast<double>(pixels_.layout.n) + 1e-30;
    return is_flat(mad, bound, epsilon) && is_flat(mad, largest(range_of(x)), epsilon);
  }

  static double largest(const RangeTask<T>& range) {
    return std::max(std::abs(static_cast<double>(range.lo)), std::abs(static_cast<double>(range.hi)));
  }

 private:
  static void merge(const RangeTask<T>& one, RangeTask<T>* all) {
    all->lo = std::min(all->lo, one.lo);
    all->hi = std::max(all->hi, one.hi);
    all->count += one.count;
    all->finite &= one.finite;
  }

  void restore_edges(const double* r) {
    for (int k = 0; k < 9; ++k) rule_.edges[k] = static_cast<T>(r[record::kEdges + k]);
  }
  void finish_rule() {
    rule_.finish(options_);
    seg_.build(options_, rule_.doubled);
  }

  bool alike() const { return one_segment() && !mask_; }  // every pixel lies in leaf 0

  void make_leaves() {
    finish_rule();
    const int64_t count = pixels_.layout.strips();
    pixels_.step = alike() ? 0 : 1;
    const size_t size = static_cast<size_t>(alike() ? std::min(pixels_.layout.strip, pixels_.layout.n) : pixels_.layout.n);
    uint8_t* leaf = leaf_memory_.need(size + 64);
    counts_.assign(static_cast<size_t>(count * kMaxLeaves), 0);
    if (alike()) {
      std::memset(leaf, 0, size);
      for (int64_t s = 0; s < count; ++s) counts_[static_cast<size_t>(s * kMaxLeaves)] = pixels_.layout.size(s);
    } else {
      strips([&](int64_t s, int64_t first, int64_t) { leaves_of_strip(s, leaf + first, &counts_[static_cast<size_t>(s * kMaxLeaves)]); });
    }
    pixels_.leaf = leaf;
    pixels_.counts = counts_.data();
    std::fill(count_, count_ + kMaxContexts, int64_t{0});
    pixels_.count_contexts(seg_, 0, count, count_);
  }

  const Sweeps<T>* sweeps_;
  Options options_;
  const T* map_;
  const uint8_t* mask_;
  int64_t height_, width_;
  Buffer<uint8_t> leaf_memory_;
  std::vector<int64_t> counts_;
  Pixels<T> pixels_;
  LeafRule<T> rule_;
  Segmentation seg_;
  int64_t count_[kMaxContexts] = {};
};

// Gradients of all kept segments of x, from x's record and its sums of the upstream gradient of N(x), times `unit`, and of that times N(x).
// Floored segments have S = tau s_g: their gradient belongs to the whole map's deviation.
template <typename T>
void segment_gradients(const SegmentedImage<T>& image, const double* r, double unit, SegmentGradient* of) {
  using namespace record;
  const Segmentation& seg = image.segmentation();
  double to_global = 0;
  for (int u = 0; u < seg.contexts; ++u) {
    of[u] = SegmentGradient{0, 0, 0};
    if (at(r, u, kKept) == 0 || at(r, u, kCount) == 0) continue;
    of[u] = segment_gradient(unit * at(r, u, kUpstream), unit * at(r, u, kUpstreamZ), at(r, u, kScale), image.divisor(at(r, u, kCount)),
                             at(r, u, kSignSum), at(r, u, kTies), at(r, u, kFloored) != 0, image.options().detach_median);
    to_global += of[u].scale;
  }
  if (seg.whole == kNoContext || to_global == 0) return;
  const double mad = image.options().mad_floor * to_global / at(r, seg.whole, kCount), ties = at(r, seg.whole, kTies);
  of[seg.whole].mad += mad;
  if (!image.options().detach_median && ties > 0) of[seg.whole].tie -= mad * at(r, seg.whole, kSignSum) / ties;
}

}  // namespace dadkit
