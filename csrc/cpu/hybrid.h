// The hybrid-normalised loss of one image (or one patch), forward and backward.
#pragma once

#include <vector>

#include "../common/record.h"
#include "order.h"

namespace dadkit {

// Row of TargetStats; edges may be given alone.
template <typename T>
struct Given {
  const T* edges = nullptr;
  const int64_t* count = nullptr;
  const T* median = nullptr;
  const T* mad = nullptr;
  T global_mad = 0;
  bool flat = false;
};

template <typename T>
struct Workspace {
  Buffer<uint8_t> leaf, mask;
  std::vector<int64_t> counts;
  OrderScratch<T> order;
};

struct TargetSide {
  int64_t count[kMaxContexts] = {};
  Statistic statistic[kMaxContexts];
  double mad[kMaxContexts] = {};
  double global_mad = 0;
  bool flat = true;
};

template <typename T>
class HybridImage {
 public:
  HybridImage(const Sweeps<T>* sweeps, const Options& options, const T* target, const uint8_t* mask, int64_t height, int64_t width,
              const Layout& layout, bool parallel, Workspace<T>* work)
      : sweeps_(sweeps), options_(options), target_(target), mask_(mask), height_(height), width_(width), work_(work),
        pixels_{sweeps, layout, nullptr, nullptr, parallel} {}

  // ---------------------------------------------------------------------------------------------- forward
  void forward(const Source<T>& pred, const Given<T>& given, T* total, T* number, T* map, uint8_t* counted, double* r) {
    std::fill(r, r + record::width(options_), 0.0);
    // one segment and no mask: the range cuts nothing, and what is not finite shows in the sums
    const bool whole = whole_map() && !given.median && pixels_.layout.n > 0;
    const RangeTask<T> range = whole ? RangeTask<T>{0, 0, pixels_.layout.n, true} : range_of(Source<T>(target_));
    if (range.count == 0 || !range.finite) return degenerate(range, total, number, map, counted, r);
    cut(given.edges, range);
    keep_edges(r);
    TargetSide target;
    if (!target_side(given, whole ? nullptr : &range, &target)) {
      return degenerate(RangeTask<T>{0, 0, range.count, false}, total, number, map, counted, r);
    }
    T share[kMaxLeaves];
    const int64_t taking_part = shares(target, range.count, share, r);
    r[record::kNumber] = static_cast<double>(taking_part);
    Statistic own[kMaxContexts];
    bool finite = OrderStatistics<T>(pixels_, seg_, &work_->order).compute(pred, nullptr, own);
    if (finite && options_.variant == kHdn) finite = range_of(pred).finite;  // also where no segment reaches
    if (!finite) return degenerate(RangeTask<T>{0, 0, range.count, false}, total, number, map, counted, r);
    const bool flat = pred_side(pred, own, r);
    r[record::kFlatPred] = flat;
    answer(static_cast<T>(loss(pred, share, map, r)), taking_part, total, number);
    if (counted) mark(share, counted);
  }

  // The statistics of the target, as TargetStats has them.
  void statistics(const T* given_edges, T* edges, int64_t* count, T* median, T* mad, T* global_mad, bool* flat) {
    const RangeTask<T> range = range_of(Source<T>(target_));
    Given<T> given;
    given.edges = given_edges;
    cut(given_edges, range);
    TargetSide target;
    target_side(given, &range, &target);
    if (options_.partition != kGrid) std::copy(rule_.edges, rule_.edges + rule_.finest + 1, edges);
    for (int u = 0; u < options_.contexts(); ++u) {
      count[u] = target.count[u];
      median[u] = static_cast<T>(target.statistic[u].value);
      mad[u] = static_cast<T>(target.mad[u]);
    }
    *global_mad = static_cast<T>(target.global_mad);
    *flat = target.flat;
  }

  // ---------------------------------------------------------------------------------------------- backward
  // upstream: the gradient of the total; weight: instead, the gradient of every pixel's loss. Only for images that forward called fine.
  void backward(const Source<T>& pred, T upstream, const T* weight, const double* r, T* out) {
    if (weight) {
      resume(r);  // the weighted sums sweep over all pixels before the gradient does
    } else {
      restore_edges(r);
      finish_rule();
    }
    GradientTask<T> task;
    gradient_task(pred, upstream, weight, r, &task);
    for_each(pixels_.parallel, pixels_.layout.strips(), [&](int64_t s) {
      const int64_t start = pixels_.layout.first(s);
      std::vector<uint8_t> own(weight ? 0 : static_cast<size_t>(pixels_.layout.size(s) + 64));  // leaves, just before they are used
      int64_t unused[kMaxLeaves] = {};
      if (!weight) leaves_of_strip(s, own.data(), unused);
      const uint8_t* leaf = weight ? pixels_.leaf + start : own.data();
      pred.blocks(pixels_.layout, s, [&](const T* px, int64_t first, int64_t n) {
        sweeps_->gradient(px, target_ + first, leaf + first - start, weight ? weight + first : nullptr, n, &task, out + first);
      });
    });
  }

  void gradient_of_block(const T* px, int64_t first, int64_t n, const T* weight, const GradientTask<T>& task, T* out) const {
    sweeps_->gradient(px, target_ + first, pixels_.leaf + first, weight ? weight + first : nullptr, n, &task, out);
  }

  void gradient_task(const Source<T>& pred, T upstream, const T* weight, const double* r, GradientTask<T>* task) {
    std::vector<double> sums(r, r + record::width(options_));
    T share[kMaxLeaves] = {};
    for (int c = 0; c < seg_.leaves; ++c) {
      int kept = 0;
      for (int l = 0; l < seg_.loss_levels; ++l) kept += is_counted(l, c, r);
      share[c] = kept ? static_cast<T>(1.0 / kept) : T(0);
    }
    double unit = static_cast<double>(upstream);
    if (weight) {
      weighted_sums(pred, weight, share, sums.data());
      unit = 1;
    }
    SegmentGradient of[kMaxContexts];
    double to_global = 0;
    for (int u = 0; u < seg_.contexts; ++u) {
      of[u] = gradient_of(sums.data(), u, unit);
      to_global += of[u].scale;
    }
    if (seg_.whole != kNoContext && to_global != 0) {  // floored segments: S = tau s_g
      const double mad = options_.mad_floor * to_global / record::at(r, seg_.whole, record::kCount);
      of[seg_.whole].mad += mad;
      const double ties = record::at(r, seg_.whole, record::kTies);
      if (!options_.detach_median && ties > 0) of[seg_.whole].tie -= mad * record::at(r, seg_.whole, record::kSignSum) / ties;
    }
    constants(r, seg_.levels, task);
    for (int l = 0; l < seg_.levels; ++l) {
      for (int c = 0; c < seg_.leaves; ++c) {
        const int u = seg_.context[l][c];
        const bool none = u == kNoContext;
        const bool on = l < seg_.loss_levels && is_counted(l, c, r);
        task->side.at[l][c] = on ? static_cast<T>(unit * static_cast<double>(share[c]) / record::at(r, u, record::kScale)) : T(0);
        task->mad.at[l][c] = none ? T(0) : static_cast<T>(of[u].mad);
        task->tie.at[l][c] = none ? T(0) : static_cast<T>(of[u].tie);
      }
    }
  }

  // Rebuilds the leaves from what forward left.
  void resume(const double* r) {
    if (r[record::kStatus] != record::kFine) return;
    restore_edges(r);
    cut(rule_.edges, RangeTask<T>());
  }
  void restore_edges(const double* r) {
    for (int k = 0; k < 9; ++k) rule_.edges[k] = static_cast<T>(r[record::kEdges + k]);
  }

  void keep_edges(double* r) const { std::copy(rule_.edges, rule_.edges + 9, r + record::kEdges); }
  const uint8_t* leaf() const { return pixels_.leaf; }
  const Pixels<T>& pixels() const { return pixels_; }
  const Segmentation& segmentation() const { return seg_; }

  RangeTask<T> range_of(const Source<T>& x) const {
    const int64_t strips = pixels_.layout.strips();
    std::vector<RangeTask<T>> parts(static_cast<size_t>(strips));
    const T inf = std::numeric_limits<T>::infinity();
    for_each(pixels_.parallel, strips, [&](int64_t s) {
      RangeTask<T> all{inf, -inf, 0, true};
      x.blocks(pixels_.layout, s, [&](const T* px, int64_t first, int64_t n) {
        RangeTask<T> one;
        sweeps_->range(px, mask_ ? mask_ + first : nullptr, n, &one);
        merge(one, &all);
      });
      parts[static_cast<size_t>(s)] = all;
    });
    RangeTask<T> all{inf, -inf, 0, true};
    for (const RangeTask<T>& part : parts) merge(part, &all);
    return all;
  }

  void cut(const T* edges, const RangeTask<T>& range) {
    const int finest = options_.finest();
    if (options_.partition != kGrid) {
      if (edges) {
        if (edges != rule_.edges) std::copy(edges, edges + finest + 1, rule_.edges);
      } else {
        const T lo = range.count ? range.lo : T(0), width = range.count ? range.hi - range.lo : T(0);
        for (int k = 0; k <= finest; ++k) rule_.edges[k] = border(lo, width, k, finest);
      }
    }
    finish_rule();
    const int64_t strips = pixels_.layout.strips();
    uint8_t* leaf = work_->leaf.need(static_cast<size_t>(pixels_.layout.n + 64));
    work_->counts.assign(static_cast<size_t>(strips * kMaxLeaves), 0);
    for_each(pixels_.parallel, strips,
             [&](int64_t s) { leaves_of_strip(s, leaf + pixels_.layout.first(s), &work_->counts[static_cast<size_t>(s * kMaxLeaves)]); });
    pixels_.leaf = leaf;
    pixels_.counts = work_->counts.data();
    pixels_.count_contexts(seg_, count_);
  }

  void finish_rule() {
    rule_.finish(options_);
    seg_.build(options_, rule_.doubled);
  }

  void leaves_of_strip(int64_t s, uint8_t* leaf, int64_t* counts) const {
    const int64_t first = pixels_.layout.first(s), size = pixels_.layout.size(s);
    if (whole_map()) {
      std::memset(leaf, 0, static_cast<size_t>(size));
      counts[0] = size;
      return;
    }
    rule_.apply(*sweeps_, options_, target_ + first, mask_ ? mask_ + first : nullptr, first, size, height_, width_, leaf, counts);
  }

  // Scales of the prediction, into the record; answers whether it is flat.
  bool pred_side(const Source<T>& pred, const Statistic* own, double* r) const {
    double global = 0;
    bool flat = false;
    if (options_.variant == kDadkit) {
      const double n = static_cast<double>(count_of(seg_.whole));
      global = own[seg_.whole].deviation / n;
      flat = maybe_flat(global, own[seg_.whole].value) && is_flat(global, largest(range_of(pred)), std::numeric_limits<T>::epsilon());
    }
    for (int u = 0; u < seg_.contexts; ++u) {
      const int64_t n = count_of(u);
      if (n == 0) {
        record::at(r, u, record::kScale) = options_.variant == kHdn ? kHdnEpsilon : 1;
        continue;
      }
      const double mad = own[u].deviation / divisor(n);
      const Scale scale = options_.variant == kHdn ? Scale{mad + kHdnEpsilon, false} : scale_of(mad, global, options_.mad_floor);
      record::at(r, u, record::kCount) = static_cast<double>(n);
      record::at(r, u, record::kMedian) = own[u].value;
      record::at(r, u, record::kScale) = scale.value;
      record::at(r, u, record::kFloored) = scale.floored;
      record::at(r, u, record::kSignSum) = static_cast<double>(n - own[u].equal - 2 * own[u].under);
      record::at(r, u, record::kTies) = static_cast<double>(own[u].equal);
    }
    return flat;
  }

  int64_t count_of(int u) const { return count_[u]; }

 private:
  static T nan() { return std::numeric_limits<T>::quiet_NaN(); }

  static void merge(const RangeTask<T>& one, RangeTask<T>* all) {
    all->lo = std::min(all->lo, one.lo);
    all->hi = std::max(all->hi, one.hi);
    all->count += one.count;
    all->finite &= one.finite;
  }

  static void answer(T sum, int64_t pixels, T* total, T* number) {
    *total = sum;
    *number = static_cast<T>(pixels);
  }

  double divisor(int64_t count) const { return static_cast<double>(options_.variant == kHdn ? count + 1 : count); }

  // range: nullptr where it was not looked for. Answers whether the target is finite, as far as it was looked at.
  bool target_side(const Given<T>& given, const RangeTask<T>* range, TargetSide* side) {
    OrderStatistics<T> order(pixels_, seg_, &work_->order);
    if (given.median) {
      for (int u = 0; u < options_.contexts(); ++u) {
        side->count[u] = given.count[u];
        side->statistic[u].value = static_cast<double>(given.median[u]);
        side->mad[u] = static_cast<double>(given.mad[u]);
      }
      side->global_mad = static_cast<double>(given.global_mad);
      side->flat = given.flat;
      return true;
    }
    const bool finite = order.compute(Source<T>(target_), nullptr, side->statistic);
    for (int u = 0; u < seg_.contexts; ++u) {
      side->count[u] = order.counts()[u];
      if (side->count[u] == 0) continue;
      // rounded as TargetStats holds it, so that cached statistics change nothing
      side->mad[u] = static_cast<double>(static_cast<T>(side->statistic[u].deviation / divisor(side->count[u])));
    }
    if (options_.variant == kHdn || !finite || (range && range->count == 0)) return finite;
    side->global_mad = side->mad[seg_.whole];
    const T epsilon = std::numeric_limits<T>::epsilon();
    if (range) {
      side->flat = is_flat(side->global_mad, largest(*range), epsilon);
    } else {
      side->flat = maybe_flat(side->global_mad, side->statistic[seg_.whole].value) &&
                   is_flat(side->global_mad, largest(range_of(Source<T>(target_))), epsilon);
    }
    return finite;
  }

  // An image without valid pixels, or with one that is not finite.
  void degenerate(const RangeTask<T>& range, T* total, T* number, T* map, uint8_t* counted, double* r) const {
    const T value = range.count == 0 ? T(0) : nan();
    r[record::kStatus] = range.count == 0 ? record::kEmpty : record::kPoisoned;
    r[record::kNumber] = static_cast<double>(range.count);
    answer(value, range.count, total, number);
    fill(map, counted, value);  // every valid pixel, also where no segment is kept
  }

  bool whole_map() const { return !mask_ && options_.finest() == 1 && options_.variant == kDadkit; }

  // 1 / number of kept segments of a leaf's pixels; answers how many pixels take part.
  int64_t shares(const TargetSide& side, int64_t valid, T* share, double* r) const {
    const bool hdn = options_.variant == kHdn;
    for (int u = 0; u < seg_.contexts; ++u) {
      const bool counts = u < options_.contexts();  // an added whole map only lends its deviation
      const bool kept = hdn || is_kept(seg_.level_of[u], side.count[u], options_.min_pixels, side.mad[u], side.global_mad, options_.mad_floor, side.flat);
      record::at(r, u, record::kKept) = counts && kept;
      record::at(r, u, record::kCount) = static_cast<double>(side.count[u]);
      record::at(r, u, record::kTargetMedian) = side.statistic[u].value;
      const double scale = hdn ? side.mad[u] + kHdnEpsilon : scale_of(side.mad[u], side.global_mad, options_.mad_floor).value;
      record::at(r, u, record::kTargetInverse) = 1 / scale;
    }
    int64_t taking_part = 0;
    for (int c = 0; c < seg_.leaves; ++c) {
      int kept = 0;
      for (int l = 0; l < seg_.loss_levels; ++l) kept += is_counted(l, c, r);
      share[c] = kept ? static_cast<T>(1.0 / kept) : T(0);
      if (kept)
        for (int64_t s = 0; s < pixels_.layout.strips(); ++s) taking_part += pixels_.counts[s * kMaxLeaves + c];
    }
    return hdn ? valid : taking_part;
  }

  bool is_counted(int l, int c, const double* r) const {
    return seg_.context[l][c] != kNoContext && record::at(r, seg_.context[l][c], record::kKept) != 0;
  }

  // max |x| is at most |m| + n mad: only a map that may be flat is swept for its largest value
  bool maybe_flat(double mad, double median) const {
    const double bound = std::abs(median) + mad * static_cast<double>(pixels_.layout.n) + 1e-30;
    return is_flat(mad, bound, std::numeric_limits<T>::epsilon());
  }
  static double largest(const RangeTask<T>& range) {
    return std::max(std::abs(static_cast<double>(range.lo)), std::abs(static_cast<double>(range.hi)));
  }

  template <typename Task>
  void constants(const double* r, int levels, Task* task) const {
    *task = Task{};  // levels that are not there: zeros, which contribute nothing
    task->levels = levels;
    const bool flat = r[record::kFlatPred] != 0;
    for (int l = 0; l < levels; ++l) {
      for (int c = 0; c < seg_.leaves; ++c) {
        const int u = seg_.context[l][c];
        const bool on = l < seg_.loss_levels && is_counted(l, c, r);
        task->m_p.at[l][c] = u == kNoContext ? T(0) : static_cast<T>(record::at(r, u, record::kMedian));
        task->inv_p.at[l][c] = on && !flat ? static_cast<T>(1 / record::at(r, u, record::kScale)) : T(0);
        task->m_d.at[l][c] = on ? static_cast<T>(record::at(r, u, record::kTargetMedian)) : T(0);
        task->inv_d.at[l][c] = on ? static_cast<T>(record::at(r, u, record::kTargetInverse)) : T(0);
      }
    }
  }

  // Adds the sums of every leaf to its contexts.
  void collect(const LossTask<T>& sums, const T* share, double* r) const {
    for (int l = 0; l < seg_.loss_levels; ++l) {
      for (int c = 0; c < seg_.leaves; ++c) {
        const int u = seg_.context[l][c];
        if (!is_counted(l, c, r)) continue;
        record::at(r, u, record::kUpstream) += static_cast<double>(share[c]) * sums.sign_sum.at[l][c];
        record::at(r, u, record::kUpstreamZ) += static_cast<double>(share[c]) * sums.z_sum.at[l][c];
      }
    }
  }

  double loss(const Source<T>& pred, const T* share, T* map, double* r) {
    LossTask<T> model;
    constants(r, seg_.loss_levels, &model);
    std::copy(share, share + seg_.leaves, model.share);
    double sum = 0;
    sum_strips(
        pred, &model,
        [&](LossTask<T>* task, const T* px, int64_t first, int64_t n) {
          sweeps_->loss(px, target_ + first, pixels_.leaf + first, n, task, map ? map + first : nullptr);
        },
        [&](const LossTask<T>& part) {
          for (int c = 0; c < seg_.leaves; ++c) sum += static_cast<double>(share[c]) * part.abs_sum[c];
          collect(part, share, r);
        });
    return sum;
  }

  // Runs sweep(task, pixels, first, n) over all strips and then take(task) strip after strip; in sequence one task serves them all.
  template <typename Sweep, typename Take>
  void sum_strips(const Source<T>& pred, LossTask<T>* model, const Sweep& sweep, const Take& take) const {
    const int64_t strips = pixels_.layout.strips();
    std::vector<LossTask<T>> parts(pixels_.parallel ? static_cast<size_t>(strips) : 0, *model);
    for_each(pixels_.parallel, strips, [&](int64_t s) {
      LossTask<T>* task = pixels_.parallel ? &parts[static_cast<size_t>(s)] : model;
      pred.blocks(pixels_.layout, s, [&](const T* px, int64_t first, int64_t n) { sweep(task, px, first, n); });
      if (pixels_.parallel) return;
      take(*task);
      clear(task);
    });
    for (const LossTask<T>& part : parts) take(part);
  }

  void clear(LossTask<T>* task) const {
    for (int c = 0; c < seg_.leaves; ++c) {
      task->abs_sum[c] = 0;
      for (int l = 0; l < seg_.loss_levels; ++l) task->sign_sum.at[l][c] = task->z_sum.at[l][c] = 0;
    }
  }

  SegmentGradient gradient_of(const double* r, int u, double unit) const {
    const double n = record::at(r, u, record::kCount);
    if (record::at(r, u, record::kKept) == 0 || n == 0) return SegmentGradient{0, 0, 0};
    return segment_gradient(unit * record::at(r, u, record::kUpstream), unit * record::at(r, u, record::kUpstreamZ), record::at(r, u, record::kScale),
                            options_.variant == kHdn ? n + 1 : n, record::at(r, u, record::kSignSum), record::at(r, u, record::kTies),
                            record::at(r, u, record::kFloored) != 0, false, options_.detach_median);
  }

  void weighted_sums(const Source<T>& pred, const T* weight, const T* share, double* r) {
    for (int u = 0; u < seg_.contexts; ++u) record::at(r, u, record::kUpstream) = record::at(r, u, record::kUpstreamZ) = 0;
    LossTask<T> model;
    constants(r, seg_.loss_levels, &model);
    std::copy(share, share + seg_.leaves, model.share);
    sum_strips(
        pred, &model,
        [&](LossTask<T>* task, const T* px, int64_t first, int64_t n) {
          sweeps_->weighted_sums(px, target_ + first, pixels_.leaf + first, weight + first, n, task);
        },
        [&](const LossTask<T>& part) { collect(part, share, r); });
  }

  // ---------------------------------------------------------------------------------------------- maps of degenerate images
  void fill(T* map, uint8_t* counted, T value) const {
    for (int64_t i = 0; map && i < pixels_.layout.n; ++i) map[i] = !mask_ || mask_[i] ? value : T(0);
    for (int64_t i = 0; counted && i < pixels_.layout.n; ++i) counted[i] = !mask_ || mask_[i];
  }
  // pixels that take part: with a kept segment; in variant hdn all valid ones
  void mark(const T* share, uint8_t* counted) const {
    uint8_t takes[256] = {};
    for (int c = 0; c < seg_.leaves; ++c) takes[c] = share[c] > 0;
    for (int64_t i = 0; i < pixels_.layout.n; ++i)
      counted[i] = options_.variant == kHdn ? (!mask_ || mask_[i]) : takes[pixels_.leaf[i]];
  }

  const Sweeps<T>* sweeps_;
  Options options_;
  const T* target_;
  const uint8_t* mask_;
  int64_t height_, width_;
  Workspace<T>* work_;
  Pixels<T> pixels_;
  LeafRule<T> rule_;
  Segmentation seg_;
  int64_t count_[kMaxContexts] = {};
};

}  // namespace dadkit
