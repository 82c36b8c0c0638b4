// The gradient matching loss of one image: differences of the residual R = N(p) - N(d) at strides 1, 2, 4, …
//
// A band's height is a multiple of the largest stride, so that besides its own rows it needs one row below and, for the adjoint, one above
// per stride. Each scale's rows are made of the next finer one's by halving, and then all scales are alike.
#pragma once

#include <vector>

#include "image.h"

namespace dadkit {

enum RowList { kResidualRows, kNormalisedRows, kWeightRows, kRowLists };

// The rows of a band at every scale k, of which every 2^k-th row and column belongs to it; the sweeps say how much lies around a row.
template <typename T>
class BandRows {
 public:
  static constexpr int64_t kBefore = 16, kBehind = 48;

  BandRows(int64_t first, int64_t band, int64_t width, int64_t scales) : first_(first) {
    int64_t size = pitch(width);  // of the absent row
    for (int64_t k = 0; k < scales; ++k) {
      stride_[k] = static_cast<int64_t>(1) << k;
      pitch_[k] = pitch((width + stride_[k] - 1) / stride_[k]);
      for (int64_t& start : start_[k]) {
        start = size + kBefore;
        size += (band / stride_[k] + 2) * pitch_[k];
      }
    }
    size_ = static_cast<size_t>(size);
    absent_ = pitch(width);
  }
  size_t size() const { return size_; }
  void take(T* memory) {
    memory_ = memory;
    std::fill(memory, memory + absent_, std::numeric_limits<T>::quiet_NaN());
  }

  T* at(RowList list, int64_t k, int64_t y) const { return before(list, k) + (y - first_ + stride_[k]) / stride_[k] * pitch_[k]; }
  T* before(RowList list, int64_t k) const { return memory_ + start_[k][list]; }  // the row before the band's first
  const T* absent() const { return memory_ + kBefore; }

 private:
  static constexpr int64_t kScales = 32;
  static int64_t pitch(int64_t columns) { return (columns + 15) / 16 * 16 + kBefore + kBehind; }

  int64_t first_, absent_;
  size_t size_;
  int64_t stride_[kScales], pitch_[kScales], start_[kScales][kRowLists];
  T* memory_ = nullptr;
};

template <typename T>
class MatchingImage {
 public:
  MatchingImage(const Sweeps<T>* sweeps, const T* pred, const T* target, const uint8_t* mask, int64_t height, int64_t width, int64_t scales,
                Team* team)
      : sweeps_(sweeps), pred_(pred), target_(target), mask_(mask), height_(height), width_(width), scales_(scales), team_(team) {
    int64_t stride = 1;
    for (int64_t k = 1; k < scales && stride < std::max(height, width); ++k) stride *= 2;
    band_ = std::max<int64_t>(32, stride);
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
    for_each(team_, bands(), [&](int64_t b) { band_sums(b, r, nullptr, map, &sums[static_cast<size_t>(b)]); });
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
      for_each(team_, bands(), [&](int64_t b) { band_sums(b, r, weight, nullptr, &sums[static_cast<size_t>(b)]); });
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
    for_each(team_, bands(), [&](int64_t b) { band_gradient(b, r, upstream, weight, task, out); });
  }

 private:
  using Sums = std::vector<double>;
  static T nan() { return std::numeric_limits<T>::quiet_NaN(); }

  int64_t bands() const { return (height_ + band_ - 1) / band_; }
  int64_t stride(int64_t k) const { return static_cast<int64_t>(1) << k; }
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
    SegmentedImage<T> image(sweeps_, whole, target_, mask_, height_, width_, Layout::of_map(height_ * width_), team_);
    image.cut(nullptr, RangeTask<T>{0, 0, 1, true});  // one segment, whatever its range
    r[kCount] = static_cast<double>(image.count_of(0));
    r[kInverse] = r[kTargetInverse] = 1;
    r[kStatus] = r[kCount] == 0 ? record::kEmpty : record::kFine;
    Statistic found[2][kMaxContexts];
    const Source<T> maps[2] = {Source<T>(pred_), Source<T>(target_)};
    if (r[kStatus] == record::kEmpty) return;
    const bool finite = normalize ? image.medians(maps[0], maps[1], found[0], found[1]) : image.range_of(maps[0]).finite && image.range_of(maps[1]).finite;
    if (!finite) r[kStatus] = record::kPoisoned;
    if (!finite || !normalize) return;
    for (int s = 0; s < 2; ++s) {
      const double mad = found[s][0].deviation / r[kCount];
      const bool flat = image.flat(maps[s], mad, found[s][0].value);
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

  // The rows that a band needs at every scale: its own, the next below, and (above) the one before.
  BandRows<T> load_band(int64_t b, const double* r, const T* weight, bool above, Buffer<T>* memory) const {
    const int64_t first = b * band_, last = std::min(height_, first + band_);
    BandRows<T> rows(first, band_, width_, scales_);
    rows.take(memory->need(rows.size()));
    const ResidualTask<T> task = residual_task(r);
    auto load = [&](int64_t y, int64_t coarsest, bool before) {
      auto row = [&](RowList list, int64_t k) { return before ? rows.before(list, k) : rows.at(list, k, y); };
      const int64_t at = y * width_;
      sweeps_->residual(pred_ + at, target_ + at, mask_ ? mask_ + at : nullptr, width_, &task, above ? nullptr : row(kNormalisedRows, 0),
                        row(kResidualRows, 0));
      if (weight) {
        T* to = std::copy(weight + at, weight + at + width_, row(kWeightRows, 0));
        to[-width_ - 1] = 0;
        std::fill(to, to + BandRows<T>::kBehind, T(0));
      }
      for (int64_t k = 1; k <= coarsest; ++k) {
        const int64_t n = columns(k - 1);
        sweeps_->halve(row(kResidualRows, k - 1), n, nan(), row(kResidualRows, k));
        if (!above) sweeps_->halve(row(kNormalisedRows, k - 1), n, nan(), row(kNormalisedRows, k));
        if (weight) sweeps_->halve(row(kWeightRows, k - 1), n, T(0), row(kWeightRows, k));
      }
    };
    for (int64_t k = scales_ - 1; above && k >= 0; --k)  // the coarsest first, which needs the finer scales' places on its way
      if (first >= stride(k)) load(first - stride(k), k, true);
    for (int64_t y = first; y < std::min(height_, last + 1); ++y) load(y, coarsest(y), false);
    return rows;
  }

  int64_t columns(int64_t k) const { return (width_ + stride(k) - 1) / stride(k); }
  int64_t coarsest(int64_t y) const {  // scale that has row y
    int64_t k = 0;
    while (k + 1 < scales_ && y % stride(k + 1) == 0) ++k;
    return k;
  }

  // The rows of scale k around row y
  DifferenceRows<T> rows_of(const BandRows<T>& rows, int64_t k, int64_t y, bool weighted) const {
    const int64_t next = y + stride(k), previous = y - stride(k);
    DifferenceRows<T> d{};
    d.residual = rows.at(kResidualRows, k, y);
    d.next = next < height_ ? rows.at(kResidualRows, k, next) : rows.absent();
    d.previous = previous >= 0 ? rows.at(kResidualRows, k, previous) : rows.absent();
    d.normalised = rows.at(kNormalisedRows, k, y);
    d.normalised_next = rows.at(kNormalisedRows, k, next < height_ ? next : y);
    if (weighted) {
      d.weight = rows.at(kWeightRows, k, y);
      d.weight_previous = rows.at(kWeightRows, k, previous >= 0 ? previous : y);
    }
    return d;
  }

  void band_sums(int64_t b, const double* r, const T* weight, T* map, Sums* sums) const {
    Buffer<T> memory;
    const BandRows<T> rows = load_band(b, r, weight, false, &memory);
    std::vector<T> steps(map ? static_cast<size_t>(width_ + BandRows<T>::kBehind) : 0);
    for (int64_t y = b * band_; y < std::min(height_, (b + 1) * band_); ++y) {
      for (int64_t k = 0; k <= coarsest(y); ++k) {
        const DifferenceRows<T> at = rows_of(rows, k, y, weight);
        double* sum = sums->data() + 2 * k;
        sweeps_->differences(&at, columns(k), sum, sum + 1, map ? steps.data() : nullptr);
        for (int64_t j = 0; map && j < columns(k); ++j) map[y * width_ + j * stride(k)] += steps[static_cast<size_t>(j)] * static_cast<T>(share(r, k));
      }
    }
  }

  void band_gradient(int64_t b, const double* r, const T* upstream, const T* weight, const ResidualTask<T>& task, T* out) const {
    Buffer<T> memory;
    const BandRows<T> rows = load_band(b, r, weight, true, &memory);
    std::vector<T> slopes[2];  // of a row's scales in turn, from the coarsest to the finest
    for (std::vector<T>& slope : slopes) slope.resize(static_cast<size_t>(width_ + BandRows<T>::kBehind));
    for (int64_t y = b * band_; y < std::min(height_, (b + 1) * band_); ++y) {
      const T* coarser = nullptr;
      for (int64_t k = coarsest(y); k >= 0; --k) {
        const DifferenceRows<T> at = rows_of(rows, k, y, weight);
        T* slope = slopes[k % 2].data();
        sweeps_->difference_adjoint(&at, columns(k), weight ? static_cast<T>(share(r, k)) : upstream[k], coarser, slope);
        coarser = slope;
      }
      sweeps_->residual_gradient(pred_ + y * width_, coarser, rows.at(kResidualRows, 0, y), width_, &task, out + y * width_);
    }
  }

  const Sweeps<T>* sweeps_;
  const T *pred_, *target_;
  const uint8_t* mask_;
  int64_t height_, width_, scales_, band_;
  Team* team_;
};

}  // namespace dadkit
