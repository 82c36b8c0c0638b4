// Normalised maps of one image, forward and backward, and the plain median and deviation.
#pragma once

#include "hybrid.h"

namespace dadkit {

template <typename T>
class NormalizedImage {
 public:
  NormalizedImage(const Sweeps<T>* sweeps, const Options& options, const T* reference, const uint8_t* mask, int64_t height, int64_t width,
                  bool parallel, Workspace<T>* work)
      : sweeps_(sweeps), options_(options), mask_(mask), n_(height * width), work_(work),
        image_(sweeps, options, reference, mask, height, width, Layout::of_map(height * width), parallel, work), reference_(reference) {}

  void forward(const T* x, const T* edges, T* out, double* r) {
    const T nan = std::numeric_limits<T>::quiet_NaN();
    std::fill(r, r + record::width(options_), 0.0);
    std::fill(out, out + options_.n_segments * n_, T(0));
    const RangeTask<T> range = image_.range_of(Source<T>(reference_));
    r[record::kNumber] = static_cast<double>(range.count);
    if (range.count == 0) {
      r[record::kStatus] = record::kEmpty;
      return;
    }
    Statistic own[kMaxContexts];
    bool finite = range.finite;
    if (finite) {
      image_.cut(edges, range);
      image_.keep_edges(r);
      finite = OrderStatistics<T>(image_.pixels(), image_.segmentation(), &work_->order).compute(Source<T>(x), nullptr, own);
      if (finite && options_.variant == kHdn) finite = image_.range_of(Source<T>(x)).finite;
    }
    if (!finite) {
      r[record::kStatus] = record::kPoisoned;
      for (int l = 0; l < options_.n_segments; ++l)
        for (int64_t i = 0; i < n_; ++i)
          if (!mask_ || mask_[i]) out[l * n_ + i] = nan;
      return;
    }
    r[record::kFlatPred] = image_.pred_side(Source<T>(x), own, r);
    if (r[record::kFlatPred] != 0) return;
    NormalizeTask<T> task;
    constants(r, &task);
    strips([&](int64_t first, int64_t n) { sweeps_->normalize(x + first, image_.leaf() + first, n, &task, out + first); });
  }

  void backward(const T* x, const T* upstream, const double* r, T* out) {
    const T nan = std::numeric_limits<T>::quiet_NaN();
    std::fill(out, out + n_, T(0));
    if (r[record::kStatus] == record::kPoisoned) {
      for (int64_t i = 0; i < n_; ++i)
        if (!mask_ || mask_[i]) out[i] = nan;
    }
    if (r[record::kStatus] != record::kFine || r[record::kFlatPred] != 0) return;
    image_.resume(r);
    const Segmentation& seg = image_.segmentation();
    NormalizeTask<T> model;
    constants(r, &model);
    const int64_t count = image_.pixels().layout.strips();
    std::vector<NormalizeTask<T>> parts(static_cast<size_t>(count), model);
    for_each(image_.pixels().parallel, count, [&](int64_t s) {
      const int64_t first = image_.pixels().layout.first(s);
      sweeps_->normalize_sums(x + first, image_.leaf() + first, upstream + first, image_.pixels().layout.size(s), &parts[static_cast<size_t>(s)]);
    });
    double sum[kMaxContexts] = {}, sum_z[kMaxContexts] = {};
    for (const NormalizeTask<T>& part : parts) {
      for (int l = 0; l < options_.n_segments; ++l) {
        for (int c = 0; c < seg.leaves; ++c) {
          if (seg.context[l][c] == kNoContext) continue;
          sum[seg.context[l][c]] += part.u_sum.at[l][c];
          sum_z[seg.context[l][c]] += part.z_sum.at[l][c];
        }
      }
    }
    double whole_mad = 0;
    coefficients(r, sum, sum_z, &model, &whole_mad);
    strips([&](int64_t first, int64_t n) {
      sweeps_->normalize_gradient(x + first, image_.leaf() + first, upstream + first, n, &model, out + first);
    });
    if (whole_mad != 0) add_whole(x, r, whole_mad, out);
  }

 private:
  template <typename F>
  void strips(const F& f) const {
    const Layout& layout = image_.pixels().layout;
    for_each(image_.pixels().parallel, layout.strips(), [&](int64_t s) { f(layout.first(s), layout.size(s)); });
  }

  void constants(const double* r, NormalizeTask<T>* task) const {
    const Segmentation& seg = image_.segmentation();
    *task = NormalizeTask<T>{};
    task->levels = options_.n_segments;
    task->pitch = n_;
    for (int l = 0; l < options_.n_segments; ++l) {
      for (int c = 0; c < seg.leaves; ++c) {
        const int u = seg.context[l][c];
        if (u == kNoContext) continue;
        task->m.at[l][c] = static_cast<T>(record::at(r, u, record::kMedian));
        task->inv.at[l][c] = static_cast<T>(1 / record::at(r, u, record::kScale));
      }
    }
  }

  void coefficients(const double* r, const double* sum, const double* sum_z, NormalizeTask<T>* task, double* whole_mad) const {
    const Segmentation& seg = image_.segmentation();
    double to_global = 0;
    for (int l = 0; l < options_.n_segments; ++l) {
      bool seen[kMaxContexts] = {};
      for (int c = 0; c < seg.leaves; ++c) {
        const int u = seg.context[l][c];
        if (u == kNoContext || image_.count_of(u) == 0) continue;
        const double n = record::at(r, u, record::kCount);
        const SegmentGradient g =
            segment_gradient(sum[u], sum_z[u], record::at(r, u, record::kScale), options_.variant == kHdn ? n + 1 : n,
                             record::at(r, u, record::kSignSum), record::at(r, u, record::kTies), record::at(r, u, record::kFloored) != 0,
                             false, options_.detach_median);
        task->side.at[l][c] = static_cast<T>(1 / record::at(r, u, record::kScale));
        task->mad.at[l][c] = static_cast<T>(g.mad);
        task->tie.at[l][c] = static_cast<T>(g.tie);
        if (!seen[u]) to_global += g.scale;
        seen[u] = true;
      }
    }
    if (seg.whole != kNoContext) *whole_mad = options_.mad_floor * to_global / record::at(r, seg.whole, record::kCount);
  }

  void add_whole(const T* x, const double* r, double mad, T* out) const {
    const int u = image_.segmentation().whole;
    const T m = static_cast<T>(record::at(r, u, record::kMedian)), side = static_cast<T>(mad);
    const double ties = record::at(r, u, record::kTies);
    const T tie = options_.detach_median || ties == 0 ? T(0) : static_cast<T>(-mad * record::at(r, u, record::kSignSum) / ties);
    for (int64_t i = 0; i < n_; ++i) {
      if (mask_ && !mask_[i]) continue;
      out[i] += x[i] > m ? side : (x[i] < m ? -side : tie);
    }
  }

  const Sweeps<T>* sweeps_;
  Options options_;
  const uint8_t* mask_;
  int64_t n_;
  Workspace<T>* work_;
  HybridImage<T> image_;
  const T* reference_;
};

}  // namespace dadkit
