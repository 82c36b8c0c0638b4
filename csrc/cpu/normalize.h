// Normalised maps of one image, forward and backward.
#pragma once

#include <vector>

#include "image.h"

namespace dadkit {

template <typename T>
class NormalizedImage {
 public:
  // image: of the map that is cut, not yet cut
  NormalizedImage(SegmentedImage<T>* image, const T* x) : image_(*image), x_(x), n_(image->pixels().layout.n), levels_(image->options().n_segments) {}

  void forward(const T* edges, T* out, double* r) {
    std::fill(r, r + record::width(image_.options()), 0.0);
    std::fill(out, out + levels_ * n_, T(0));
    const RangeTask<T> range = image_.range_of(Source<T>(image_.map()));
    r[record::kNumber] = static_cast<double>(range.count);
    if (range.count == 0) {
      r[record::kStatus] = record::kEmpty;
      return;
    }
    if (!range.finite || !statistics(edges, range, r)) {
      r[record::kStatus] = record::kPoisoned;
      for (int l = 0; l < levels_; ++l) poison(out + l * n_);
      return;
    }
    if (r[record::kFlatPred] != 0) return;
    const NormalizeTask<T> task = constants(r);
    image_.strips([&](int64_t, int64_t first, int64_t n) {
      image_.sweeps().normalize(x_ + first, image_.pixels().leaves(first), n, &task, out + first);
    });
  }

  void backward(const T* upstream, const double* r, T* out) {
    std::fill(out, out + n_, T(0));
    if (r[record::kStatus] == record::kPoisoned) poison(out);
    if (r[record::kStatus] != record::kFine || r[record::kFlatPred] != 0) return;
    image_.cut_again(r);
    NormalizeTask<T> task = constants(r);
    coefficients(r, upstream, &task);
    image_.strips([&](int64_t, int64_t first, int64_t n) {
      image_.sweeps().normalize_gradient(x_ + first, image_.pixels().leaves(first), upstream + first, n, &task, out + first);
    });
  }

 private:
  bool statistics(const T* edges, const RangeTask<T>& range, double* r) {
    image_.cut(edges, range);
    image_.keep_edges(r);
    const Source<T> x(x_);
    Statistic own[kMaxContexts];
    if (!image_.medians(x, own) || (image_.options().variant == kHdn && !image_.range_of(x).finite)) return false;
    r[record::kFlatPred] = image_.keep_scales(x, own, r);
    return true;
  }

  void poison(T* out) const {
    for (int64_t i = 0; i < n_; ++i)
      if (image_.is_valid(i)) out[i] = std::numeric_limits<T>::quiet_NaN();
  }

  NormalizeTask<T> constants(const double* r) const {
    const Segmentation& seg = image_.segmentation();
    NormalizeTask<T> task{};
    task.levels = task.upstreams = levels_;
    task.pitch = n_;
    for (int l = 0; l < levels_; ++l) {
      for (int c = 0; c < seg.leaves; ++c) {
        const int u = seg.context[l][c];
        if (u == kNoContext) continue;
        task.m.at[l][c] = static_cast<T>(record::at(r, u, record::kMedian));
        task.inv.at[l][c] = static_cast<T>(1 / record::at(r, u, record::kScale));
      }
    }
    return task;
  }

  // Sums of the upstream gradient u and of u N(x) over every segment, into the record.
  void sums(const T* upstream, const NormalizeTask<T>& model, double* r) const {
    const Segmentation& seg = image_.segmentation();
    std::vector<NormalizeTask<T>> parts(static_cast<size_t>(image_.pixels().layout.strips()), model);
    image_.strips([&](int64_t s, int64_t first, int64_t n) {
      image_.sweeps().normalize_sums(x_ + first, image_.pixels().leaves(first), upstream + first, n, &parts[static_cast<size_t>(s)]);
    });
    for (const NormalizeTask<T>& part : parts) {
      for (int l = 0; l < levels_; ++l) {
        for (int c = 0; c < seg.leaves; ++c) {
          if (seg.context[l][c] == kNoContext) continue;
          record::at(r, seg.context[l][c], record::kUpstream) += part.u_sum.at[l][c];
          record::at(r, seg.context[l][c], record::kUpstreamZ) += part.z_sum.at[l][c];
        }
      }
    }
  }

  // The gradient's constants; where the whole map is no level of its own, but lends its deviation, it is one more level without upstream gradients.
  void coefficients(const double* r, const T* upstream, NormalizeTask<T>* task) const {
    const Segmentation& seg = image_.segmentation();
    std::vector<double> all(r, r + record::width(image_.options()));
    for (int u = 0; u < seg.contexts; ++u) record::at(all.data(), u, record::kKept) = 1;
    sums(upstream, *task, all.data());
    SegmentGradient of[kMaxContexts];
    segment_gradients(image_, all.data(), 1.0, of);
    task->levels = std::min(seg.levels, levels_ + (seg.whole >= image_.options().contexts()));
    for (int l = 0; l < task->levels; ++l) {
      for (int c = 0; c < seg.leaves; ++c) {
        const int u = seg.context[l][c];
        if (u == kNoContext) continue;
        task->m.at[l][c] = static_cast<T>(record::at(r, u, record::kMedian));
        task->side.at[l][c] = l < levels_ ? task->inv.at[l][c] : T(0);
        task->mad.at[l][c] = static_cast<T>(of[u].mad);
        task->tie.at[l][c] = static_cast<T>(of[u].tie);
      }
    }
  }

  SegmentedImage<T>& image_;
  const T* x_;
  int64_t n_;
  int levels_;
};

}  // namespace dadkit
