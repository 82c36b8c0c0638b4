// The gradient matching loss of one image: differences of the residual R = N(p) - N(d) at strides 1, 2, 4, …
//
// Bands of rows are worked on one after the other. A band's height is a multiple of the largest stride, so that besides its own rows it
// needs one row below and, for the adjoint, one above per stride. A scale's rows are compacted, and then all scales are alike.
#pragma once

#include <vector>

#include "image.h"

namespace dadkit {

template <typename T>
class MatchingImage {
 public:
  MatchingImage(const Sweeps<T>* sweeps, const T* pred, const T* target, const uint8_t* mask, int64_t height, int64_t width, int64_t scales,
                bool parallel, Workspace<T>* work)
      : sweeps_(sweeps), pred_(pred), target_(target), mask_(mask), height_(height), width_(width), scales_(scales), parallel_(parallel),
        work_(work) {
    int64_t stride = 1;
    for (int64_t k = 1; k < scales && stride < std::max(height, width); ++k) stride *= 2;
    band_ = std::max<int64_t>(16, stride);
  }

  // total and number: one per scale
  void forward(bool normalize, T* total, T* number, T* map, uint8_t* counted, double* r) {
    using namespace matching_record;
    std::fill(r, r + matching_record::width(scales_), 0.0);
    statistics(normalize, r);
    const bool poisoned = r[kStatus] == record::kPoisoned, none = r[kStatus] != record::kFine || r[kFlatTarget] != 0;
    for (int64_t k = 0; k < scales_; ++k) {
      const int64_t pixels = r[kStatus] == record::kEmpty || (!poisoned && none) ? 0 : pixels_of(k);
      number[k] = static_cast<T>(pixels);
      r[kHead + 2 * k] = static_cast<double>(pixels);
      total[k] = poisoned ? nan() : T(0);
    }
    const int64_t n = height_ * width_;
    for (int64_t i = 0; map && i < n; ++i) {
      const bool on = (!mask_ || mask_[i]) && (poisoned || !none);
      counted[i] = on;
      map[i] = on && poisoned ? nan() : T(0);
    }
    if (none) return;
    std::vector<Sums> sums(static_cast<size_t>(bands()), Sums(static_cast<size_t>(2 * scales_), 0.0));
    for_each(parallel_, bands(), [&](int64_t b) { band_sums(b, r, nullptr, map, &sums[static_cast<size_t>(b)]); });
    for (int64_t k = 0; k < scales_; ++k) {
      double sum = 0;
      for (const Sums& band : sums) {
        sum += band[static_cast<size_t>(2 * k)];
        r[kHead + 2 * k + 1] += band[static_cast<size_t>(2 * k + 1)];
      }
      total[k] = static_cast<T>(sum);
    }
  }

  // upstream: the gradient of every scale's total; weight: instead, that of every pixel's loss
  void backward(bool normalize, const T* upstream, const T* weight, const double* r, T* out) {
    using namespace matching_record;
    if (r[kStatus] != record::kFine || r[kFlatTarget] != 0 || r[kFlatPred] != 0) {
      for (int64_t i = 0; i < height_ * width_; ++i) out[i] = r[kStatus] == record::kPoisoned && (!mask_ || mask_[i]) ? nan() : T(0);
      return;
    }
    double to_scale = 0;  // sum of v N, where v is the upstream gradient of N(p); the sum of v itself is 0
    if (weight) {
      std::vector<Sums> sums(static_cast<size_t>(bands()), Sums(static_cast<size_t>(2 * scales_), 0.0));
      for_each(parallel_, bands(), [&](int64_t b) { band_sums(b, r, weight, nullptr, &sums[static_cast<size_t>(b)]); });
      for (const Sums& band : sums)
        for (int64_t k = 0; k < scales_; ++k) to_scale += share(r, k) * band[static_cast<size_t>(2 * k + 1)];
    } else {
      for (int64_t k = 0; k < scales_; ++k) to_scale += static_cast<double>(upstream[k]) * r[kHead + 2 * k + 1];
    }
    ResidualTask<T> task = residual_task(r);
    task.side = task.inv_p;
    task.mad = task.tie = T(0);
    if (normalize) {
      const SegmentGradient g = segment_gradient(0, to_scale, 1 / r[kInverse], r[kCount], r[kSignSum], r[kTies], false, false, false);
      task.mad = static_cast<T>(g.mad);
      task.tie = static_cast<T>(g.tie);
    }
    for_each(parallel_, bands(), [&](int64_t b) { band_gradient(b, r, upstream, weight, task, out); });
  }

 private:
  using Sums = std::vector<double>;
  static T nan() { return std::numeric_limits<T>::quiet_NaN(); }

  int64_t bands() const { return (height_ + band_ - 1) / band_; }
  int64_t stride(int64_t k) const { return static_cast<int64_t>(1) << std::min<int64_t>(k, 40); }
  static double share(const double* r, int64_t k) {  // the map's mean over the counted pixels is the image's loss
    return r[matching_record::kHead] / std::max(1.0, r[matching_record::kHead + 2 * k]);
  }

  int64_t pixels_of(int64_t k) const {
    const int64_t s = stride(k);
    if (!mask_) return ((height_ + s - 1) / s) * ((width_ + s - 1) / s);
    int64_t count = 0;
    for (int64_t y = 0; y < height_; y += s)
      for (int64_t x = 0; x < width_; x += s) count += mask_[y * width_ + x] != 0;
    return count;
  }

  void statistics(bool normalize, double* r) {
    using namespace matching_record;
    Options whole{};
    whole.segments[0] = whole.n_segments = 1;
    SegmentedImage<T> image(sweeps_, whole, target_, mask_, height_, width_, Layout::of_map(height_ * width_), parallel_, work_);
    const RangeTask<T> target = image.range_of(Source<T>(target_)), pred = image.range_of(Source<T>(pred_));
    r[kCount] = static_cast<double>(target.count);
    r[kInverse] = r[kTargetInverse] = 1;
    r[kStatus] = target.count == 0 ? record::kEmpty : (target.finite && pred.finite ? record::kFine : record::kPoisoned);
    if (r[kStatus] != record::kFine || !normalize) return;
    image.cut(nullptr, target);
    Statistic found[2][kMaxContexts];
    const RangeTask<T>* ranges[2] = {&pred, &target};
    const T* maps[2] = {pred_, target_};
    for (int s = 0; s < 2; ++s) {
      image.medians(Source<T>(maps[s]), found[s]);
      const double mad = found[s][0].deviation / r[kCount];
      const bool flat = is_flat(mad, image.largest(*ranges[s]), std::numeric_limits<T>::epsilon());
      r[s ? kTargetMedian : kMedian] = found[s][0].value;
      r[s ? kTargetInverse : kInverse] = flat ? 0 : 1 / mad;
      r[s ? kFlatTarget : kFlatPred] = flat;
    }
    r[kTies] = static_cast<double>(found[0][0].equal);
    r[kSignSum] = r[kCount] - r[kTies] - 2 * static_cast<double>(found[0][0].under);
  }

  static ResidualTask<T> residual_task(const double* r) {
    using namespace matching_record;
    return {static_cast<T>(r[kMedian]), static_cast<T>(r[kInverse]), static_cast<T>(r[kTargetMedian]), static_cast<T>(r[kTargetInverse]), 0, 0, 0};
  }

  // Rows with a place before and a vector behind them; `line` -1 … is NaN where there is no row.
  struct Rows {
    int64_t pitch;
    std::vector<T> data;
    Rows(int64_t rows, int64_t width) : pitch(width + 32), data(static_cast<size_t>(rows * pitch), std::numeric_limits<T>::quiet_NaN()) {}
    T* at(int64_t row) { return data.data() + row * pitch + 16; }
  };

  // Residuals of the rows that a band needs: its own, one below, and above it those at y0 - 2^k.
  struct Band {
    int64_t first, last, above;
    Rows residual, normalised;
    Band(int64_t first_row, int64_t last_row, int64_t rows_above, int64_t width)
        : first(first_row), last(last_row), above(rows_above), residual(rows_above + last_row - first_row + 1, width),
          normalised(rows_above + last_row - first_row + 1, width) {}
    int64_t slot(int64_t y) const {  // of row y
      if (y >= first) return above + y - first;
      int64_t k = 0;
      while ((static_cast<int64_t>(1) << k) < first - y) ++k;
      return k;
    }
  };

  Band load_band(int64_t b, const double* r, bool with_above) const {
    const int64_t first = b * band_, last = std::min(height_, first + band_);
    Band band(first, last, with_above ? scales_ : 0, width_);
    const ResidualTask<T> task = residual_task(r);
    auto load = [&](int64_t y) {
      const int64_t at = y * width_, slot = band.slot(y);
      sweeps_->residual(pred_ + at, target_ + at, mask_ ? mask_ + at : nullptr, width_, &task, band.normalised.at(slot), band.residual.at(slot));
    };
    for (int64_t k = 0; with_above && k < scales_ && first >= stride(k); ++k) load(first - stride(k));
    for (int64_t y = first; y < std::min(height_, last + 1); ++y) load(y);
    return band;
  }

  // Every stride-th element of a row
  static void compact(const T* row, int64_t width, int64_t stride, T* out) {
    for (int64_t x = 0, j = 0; x < width; x += stride, ++j) out[j] = row[x];
  }

  // The rows of scale k around row y, compacted where the stride is above 1. `lines`: six rows of scratch, all NaN outside.
  DifferenceRows<T> rows_of(Band& band, int64_t k, int64_t y, const T* weight, Rows& lines) const {
    const int64_t s = stride(k);
    int line = 0;
    auto take = [&](Rows& from, int64_t row) -> const T* {
      T* to = lines.at(line++);
      if (row < 0 || row >= height_) {
        std::fill(to, to + (width_ + s - 1) / s, nan());
        return to;
      }
      const T* source = from.at(band.slot(row));
      if (s == 1) return source;
      compact(source, width_, s, to);
      return to;
    };
    auto weights = [&](int64_t row) -> const T* {
      T* to = lines.at(line++);
      if (!weight || row < 0) return to;
      to[-1] = 0;
      compact(weight + row * width_, width_, s, to);
      return to;
    };
    DifferenceRows<T> rows{};
    rows.residual = take(band.residual, y);
    rows.next = take(band.residual, y + s);
    rows.previous = band.above ? take(band.residual, y - s) : nullptr;
    rows.normalised = take(band.normalised, y);
    rows.normalised_next = take(band.normalised, y + s);
    if (weight) {
      rows.weight = weights(y);
      rows.weight_previous = weights(y - s);
    }
    return rows;
  }

  void band_sums(int64_t b, const double* r, const T* weight, T* map, Sums* sums) const {
    Band band = load_band(b, r, false);
    Rows lines(8, width_);
    std::vector<T> steps(static_cast<size_t>(width_));
    for (int64_t k = 0; k < scales_; ++k) {
      const int64_t s = stride(k), columns = (width_ + s - 1) / s;
      reset(&lines, columns);
      for (int64_t y = band.first; y < band.last; y += s) {
        const DifferenceRows<T> rows = rows_of(band, k, y, weight, lines);
        double* sum = sums->data() + 2 * k;
        sweeps_->differences(&rows, columns, sum, sum + 1, map ? steps.data() : nullptr);
        for (int64_t j = 0; map && j < columns; ++j) map[y * width_ + j * s] += steps[static_cast<size_t>(j)] * static_cast<T>(share(r, k));
      }
    }
  }
  // what lies behind a compacted row must be NaN
  static void reset(Rows* lines, int64_t columns) {
    for (int64_t line = 0; line < 8; ++line) lines->at(line)[columns] = nan();
  }

  void band_gradient(int64_t b, const double* r, const T* upstream, const T* weight, const ResidualTask<T>& task, T* out) const {
    Band band = load_band(b, r, true);
    Rows lines(8, width_);
    std::vector<T> slope(static_cast<size_t>(width_) + 32), sum(static_cast<size_t>((band.last - band.first) * width_), T(0));
    for (int64_t k = 0; k < scales_; ++k) {
      const int64_t s = stride(k), columns = (width_ + s - 1) / s;
      const T scale = weight ? static_cast<T>(share(r, k)) : upstream[k];
      reset(&lines, columns);
      for (int64_t y = band.first; y < band.last; y += s) {
        const DifferenceRows<T> rows = rows_of(band, k, y, weight, lines);
        T* to = &sum[static_cast<size_t>((y - band.first) * width_)];
        if (s == 1) {
          sweeps_->difference_adjoint(&rows, columns, scale, to);  // the first scale, into an empty row
          continue;
        }
        sweeps_->difference_adjoint(&rows, columns, scale, slope.data());
        for (int64_t j = 0; j < columns; ++j) to[j * s] += slope[static_cast<size_t>(j)];
      }
    }
    for (int64_t y = band.first; y < band.last; ++y) {
      const int64_t at = y * width_;
      sweeps_->residual_gradient(pred_ + at, &sum[static_cast<size_t>((y - band.first) * width_)], band.residual.at(band.slot(y)), width_, &task, out + at);
    }
  }

  const Sweeps<T>* sweeps_;
  const T *pred_, *target_;
  const uint8_t* mask_;
  int64_t height_, width_, scales_, band_;
  bool parallel_;
  Workspace<T>* work_;
};

}  // namespace dadkit
