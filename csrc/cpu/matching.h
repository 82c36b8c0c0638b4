// The gradient matching loss of one image: differences of the residual R = N(p) - N(d) at strides 1, 2, 4, …
//
// A band's height is a multiple of the largest stride, so that besides its own rows it needs one row below and, for the adjoint, one above
// per stride. Each scale's rows are made of the next finer one's by halving, and then all scales are alike.
#pragma once

#include <vector>

#include "image.h"

namespace dadkit {

enum RowList { kResidualRows, kWeightRows, kRowLists };

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

  // The record: statistics of both maps, and the number of pixels of every scale.
  void measure(bool normalize, double* r) {
    std::fill(r, r + matching_record::width(scales_), 0.0);
    statistics(normalize, r);
    const bool counts = is_fine(r) || r[matching_record::kStatus] == record::kPoisoned;
    for (int64_t k = 0; k < scales_; ++k) matching_record::pixels(r, k) = counts ? static_cast<double>(pixels_of(k)) : 0;
  }

  // total: one per scale; map: nullptr, or every pixel's loss
  void forward(const double* r, T* total, T* map, uint8_t* counted) const {
    const bool poisoned = r[matching_record::kStatus] == record::kPoisoned;
    std::fill(total, total + scales_, poisoned ? nan() : T(0));
    for (int64_t i = 0; map && i < height_ * width_; ++i) {
      counted[i] = (!mask_ || mask_[i]) && (poisoned || is_fine(r));
      map[i] = counted[i] && poisoned ? nan() : T(0);
    }
    if (is_fine(r)) bands(r, {map, nullptr, nullptr, nullptr}, total);
  }

  // upstream: the gradient of every scale's total; weight: instead, that of every pixel's loss. Where total is no nullptr it gets what forward
  // answers.
  void backward(bool normalize, const double* r, const T* upstream, const T* weight, T* out, T* total) const {
    using namespace matching_record;
    if (!is_fine(r) || r[kFlatPred] != 0) {
      for (int64_t i = 0; i < height_ * width_; ++i) out[i] = r[kStatus] == record::kPoisoned && (!mask_ || mask_[i]) ? nan() : T(0);
      if (total) forward(r, total, nullptr, nullptr);
      return;
    }
    const double to_scale = bands(r, {nullptr, upstream, weight, out}, total);  // the sum of v N; that of v itself is 0
    ResidualTask<T> task = residual_task(r);
    task.side = task.inv_p;
    if (normalize) {
      const SegmentGradient g = segment_gradient(0, to_scale, 1 / r[kInverse], r[kCount], r[kSignSum], r[kTies], false, false);
      task.mad = static_cast<T>(g.mad);
      task.tie = static_cast<T>(g.tie);
    }
    const Layout layout = Layout::of_map(height_ * width_);
    for_each(team_, layout.strips(), [&](int64_t s) {
      sweeps_->residual_gradient(pred_ + layout.first(s), layout.size(s), &task, out + layout.first(s));
    });
  }

 private:
  // What bands leave behind: every pixel's loss in map, or in out v, the gradient of N(p).
  struct Wanted {
    T* map;
    const T *upstream, *weight;
    T* out;
  };
  static T nan() { return std::numeric_limits<T>::quiet_NaN(); }
  static bool is_fine(const double* r) {
    return r[matching_record::kStatus] == record::kFine && r[matching_record::kFlatTarget] == 0;
  }

  int64_t stride(int64_t k) const { return static_cast<int64_t>(1) << k; }
  T share(const double* r, int64_t k) const {  // the map's mean over the counted pixels is the image's loss
    return static_cast<T>(matching_record::pixels(r, 0) / std::max(1.0, matching_record::pixels(r, k)));
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
  BandRows<T> load_band(int64_t b, const ResidualTask<T>& task, const T* weight, bool above, Buffer<T>* memory) const {
    const int64_t first = b * band_, last = std::min(height_, first + band_);
    BandRows<T> rows(first, band_, width_, scales_);
    rows.take(memory->need(rows.size()));
    auto load = [&](int64_t y, int64_t coarsest, bool before) {
      auto row = [&](RowList list, int64_t k) { return before ? rows.before(list, k) : rows.at(list, k, y); };
      const int64_t at = y * width_;
      sweeps_->residual(pred_ + at, target_ + at, mask_ ? mask_ + at : nullptr, width_, &task, row(kResidualRows, 0));
      if (weight) {
        T* to = std::copy(weight + at, weight + at + width_, row(kWeightRows, 0));
        to[-width_ - 1] = 0;
        std::fill(to, to + BandRows<T>::kBehind, T(0));
      }
      for (int64_t k = 1; k <= coarsest; ++k) {
        const int64_t n = columns(k - 1);
        sweeps_->halve(row(kResidualRows, k - 1), n, nan(), row(kResidualRows, k));
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
    if (weighted) {
      d.weight = rows.at(kWeightRows, k, y);
      d.weight_previous = rows.at(kWeightRows, k, previous >= 0 ? previous : y);
    }
    return d;
  }

  // Works through all bands: adds every scale's losses to total, unless that is nullptr, and answers the sum of v N.
  double bands(const double* r, const Wanted& wanted, T* total) const {
    const int64_t count = (height_ + band_ - 1) / band_;
    std::vector<double> sums(static_cast<size_t>(count * (scales_ + 1)));
    for_each(team_, count, [&](int64_t b) { band(b, r, wanted, &sums[static_cast<size_t>(b * (scales_ + 1))]); });
    auto all = [&](int64_t k) {
      double sum = 0;
      for (int64_t b = 0; b < count; ++b) sum += sums[static_cast<size_t>(b * (scales_ + 1) + k)];
      return sum;
    };
    for (int64_t k = 0; total && k < scales_; ++k) total[k] = static_cast<T>(all(k));
    return all(scales_);
  }

  // sums: of every scale's losses, and of v N
  void band(int64_t b, const double* r, const Wanted& wanted, double* sums) const {
    Buffer<T> memory;
    const ResidualTask<T> task = residual_task(r);
    const BandRows<T> rows = load_band(b, task, wanted.weight, wanted.out, &memory);
    std::vector<T> of_scale[2];  // steps, or the slopes of a row's scales in turn, from the coarsest to the finest
    for (std::vector<T>& row : of_scale) row.resize(static_cast<size_t>(width_ + BandRows<T>::kBehind));
    for (int64_t y = b * band_; y < std::min(height_, (b + 1) * band_); ++y) {
      const T* coarser = nullptr;
      for (int64_t k = coarsest(y); k >= 0; --k) {
        const DifferenceRows<T> at = rows_of(rows, k, y, wanted.weight);
        T* here = of_scale[k % 2].data();
        if (wanted.out) {
          sums[k] += sweeps_->differences(&at, columns(k), nullptr, wanted.weight ? share(r, k) : wanted.upstream[k], coarser, here);
          coarser = here;
          continue;
        }
        sums[k] += sweeps_->differences(&at, columns(k), wanted.map ? here : nullptr, T(0), nullptr, nullptr);
        for (int64_t j = 0; wanted.map && j < columns(k); ++j) wanted.map[y * width_ + j * stride(k)] += here[j] * share(r, k);
      }
      const int64_t at = y * width_;
      if (wanted.out) sums[scales_] += sweeps_->slope(pred_ + at, coarser, rows.at(kResidualRows, 0, y), width_, &task, wanted.out + at);
    }
  }

  const Sweeps<T>* sweeps_;
  const T *pred_, *target_;
  const uint8_t* mask_;
  int64_t height_, width_, scales_, band_;
  Team* team_;
};

}  // namespace dadkit
