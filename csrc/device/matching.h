// The gradient matching loss: differences of the residual R = N(p) - N(d) at strides 1, 2, 4, …, and their adjoint.
#pragma once

#include "statistics.h"

namespace dadkit {
namespace device {

// An image's residuals, from the constants in its record.
template <typename T>
struct Residuals {
  const T *pred, *target;
  const uint8_t* mask;
  int64_t height, width;
  T m_p, inv_p, m_d, inv_d;

  DADKIT_DEVICE Residuals(const Call<T>& c, int64_t b, const double* r)
      : pred(c.pred + b * c.n), target(c.target + b * c.n), mask(c.mask ? c.mask + b * c.n : nullptr), height(c.height), width(c.width),
        m_p(static_cast<T>(r[matching_record::kMedian])), inv_p(static_cast<T>(r[matching_record::kInverse])),
        m_d(static_cast<T>(r[matching_record::kTargetMedian])), inv_d(static_cast<T>(r[matching_record::kTargetInverse])) {}

  DADKIT_DEVICE bool on(int64_t y, int64_t x) const {
    return y >= 0 && x >= 0 && y < height && x < width && (!mask || mask[y * width + x]);
  }
  DADKIT_DEVICE T normalised(int64_t y, int64_t x) const { return (pred[y * width + x] - m_p) * inv_p; }
  DADKIT_DEVICE T at(int64_t y, int64_t x) const { return normalised(y, x) - (target[y * width + x] - m_d) * inv_d; }
};

DADKIT_DEVICE double matching_share(const double* r, int k) {  // the map's mean over the counted pixels is the image's loss
  return r[matching_record::kHead] / fmax(1.0, r[matching_record::kHead + 2 * k]);
}

DADKIT_DEVICE int64_t matching_stride(int k) { return static_cast<int64_t>(1) << k; }

// The head of an image's record, from the statistics of both maps.
template <typename T>
struct MatchingHead {
  Call<T> c;
  bool normalize;
  double* stats;
  int64_t width;
  struct Shared {};

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared&) const {
    using namespace matching_record;
    block.threads([&](int t) {
      if (t != 0) return;
      const Image& m = c.image[block.image];
      double* r = stats + block.image * width;
      for (int64_t k = 0; k < width; ++k) r[k] = 0;
      r[kStatus] = m.status;
      r[kInverse] = r[kTargetInverse] = 1;
      r[kCount] = static_cast<double>(m.valid);
      if (!normalize || m.status != record::kFine) return;
      const Context& k = c.at(block.image, 0);
      r[kMedian] = k.median[kPred];
      r[kTargetMedian] = k.median[kTarget];
      r[kFlatPred] = m.flat[kPred];
      r[kFlatTarget] = m.flat[kTarget];
      r[kInverse] = m.flat[kPred] ? 0 : 1 / k.mad[kPred];
      r[kTargetInverse] = m.flat[kTarget] ? 0 : 1 / k.mad[kTarget];
      r[kSignSum] = k.sign_sum;
      r[kTies] = static_cast<double>(k.equal);
    });
  }
};

// Slopes of the prediction's normalisation, from sum v N; the sum of v itself is 0.
template <typename T>
DADKIT_DEVICE void matching_slopes(const double* r, bool normalize, double to_scale, Context* k) {
  using namespace matching_record;
  k->mad_slope = k->tie_slope = 0;
  if (!normalize || r[kStatus] != record::kFine || r[kFlatPred] != 0) return;
  const SegmentGradient g = segment_gradient(0, to_scale, 1 / r[kInverse], r[kCount], r[kSignSum], r[kTies], false, false, false);
  k->mad_slope = g.mad;
  k->tie_slope = g.tie;
}

// Per scale the sums of w |dR| and of w sign(dR) dN over the pairs, and the number of pixels.
template <typename T>
struct MatchingSums {
  static constexpr int kValues = 3;  // of a scale
  static constexpr int kScales = Slots<T>::kCount / kValues;

  Call<T> c;
  double* stats;
  int64_t record_width;
  int scales;
  bool normalize;
  const T* weight;    // backward with weights per pixel: only the slopes are wanted
  T *total, *number;  // forward

  struct Shared {
    Slots<T> slots;
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    using namespace matching_record;
    const int64_t b = block.image;
    const double* r = stats + b * record_width;
    const bool fine = r[kStatus] == record::kFine && r[kFlatTarget] == 0, some = fine || r[kStatus] == record::kPoisoned;
    for (int first = 0; some && first < scales; first += kScales) {
      const int here = scales - first < kScales ? scales - first : kScales;
      clear_slots(block, &shared.slots, here * kValues);
      block.threads([&](int t) { sweep(block, shared, t, first, here, fine); });
      sum_slots(block, shared.slots, here * kValues, c.partial + (b * c.slices + block.slice) * c.values + first * kValues);
    }
    if (!block.last(&c.image[b].ticket[kDifferenceTicket])) return;
    if (some) sum_slices(c, block, scales * kValues);
    block.threads([&](int t) {
      if (t == 0) finish(b, stats + b * record_width, some);
    });
  }

 private:
  template <typename Block>
  DADKIT_DEVICE void sweep(const Block& block, Shared& shared, int t, int first, int here, bool fine) const {
    const int64_t b = block.image, start = block.slice * c.slice, end = start + c.slice < c.n ? start + c.slice : c.n;
    const Residuals<T> image(c, b, stats + b * record_width);
    for (int64_t i = start + t; i < end; i += block.size()) {
      const int64_t y = c.row_of(i), x = i - y * c.width;
      if (!image.on(y, x)) continue;
      const T z = fine ? image.normalised(y, x) : T(0), r = fine ? image.at(y, x) : T(0), w = weight ? weight[b * c.n + i] : T(1);
      for (int k = 0; k < here; ++k) {
        const int64_t s = matching_stride(first + k);
        if ((y | x) & (s - 1)) break;  // nor is it on the coarser grids
        T sum_abs = 0, sum_z = 0;
        for (int axis = 0; fine && axis < 2; ++axis) {
          const int64_t yy = y + (axis ? s : 0), xx = x + (axis ? 0 : s);
          if (!image.on(yy, xx)) continue;
          const T e = image.at(yy, xx) - r, dz = (image.normalised(yy, xx) - z) * w;
          sum_abs += magnitude(e) * w;
          sum_z += e > 0 ? dz : (e < 0 ? -dz : T(0));
        }
        shared.slots.at[k * kValues][t] += sum_abs;
        shared.slots.at[k * kValues + 1][t] += sum_z;
        shared.slots.at[k * kValues + 2][t] += T(1);
      }
    }
  }

  DADKIT_DEVICE void finish(int64_t b, double* r, bool some) const {
    using namespace matching_record;
    const double* sums = c.sums + b * c.values;
    double to_scale = 0;
    for (int k = 0; k < scales; ++k) {
      const double sum_abs = some ? sums[k * kValues] : 0, sum_z = some ? sums[k * kValues + 1] : 0, pixels = some ? sums[k * kValues + 2] : 0;
      if (weight) {
        to_scale += matching_share(r, k) * sum_z;
        continue;
      }
      r[kHead + 2 * k] = pixels;
      r[kHead + 2 * k + 1] = sum_z;
      total[b * scales + k] = r[kStatus] == record::kPoisoned ? static_cast<T>(NAN) : static_cast<T>(sum_abs);
      number[b * scales + k] = static_cast<T>(pixels);
    }
    if (weight) matching_slopes<T>(r, normalize, to_scale, &c.at(b, 0));
  }
};

// The loss of every pixel: all differences at it, as their left or upper pixel.
template <typename T>
struct MatchingMap {
  Call<T> c;
  const double* stats;
  int64_t record_width;
  int scales;
  T* map;
  uint8_t* counted;
  struct Shared {};

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared&) const {
    using namespace matching_record;
    const int64_t b = block.image, start = block.slice * c.slice, end = start + c.slice < c.n ? start + c.slice : c.n;
    const double* record_of = stats + b * record_width;
    const bool poisoned = record_of[kStatus] == record::kPoisoned, fine = record_of[kStatus] == record::kFine && record_of[kFlatTarget] == 0;
    block.threads([&](int t) {
      const Residuals<T> image(c, b, record_of);
      for (int64_t i = start + t; i < end; i += block.size()) {
        const int64_t y = c.row_of(i), x = i - y * c.width;
        const bool on = image.on(y, x) && (fine || poisoned);
        T loss = on && poisoned ? static_cast<T>(NAN) : T(0);
        for (int k = 0; on && fine && k < scales; ++k) {
          const int64_t s = matching_stride(k);
          if ((y | x) & (s - 1)) break;
          T step = 0;
          if (image.on(y, x + s)) step += magnitude(image.at(y, x + s) - image.at(y, x));
          if (image.on(y + s, x)) step += magnitude(image.at(y + s, x) - image.at(y, x));
          loss += step * static_cast<T>(matching_share(record_of, k));
        }
        map[b * c.n + i] = loss;
        counted[b * c.n + i] = on;
      }
    });
  }
};

// Slopes from the totals' gradients.
template <typename T>
struct MatchingPrepare {
  Call<T> c;
  const double* stats;
  int64_t record_width;
  int scales;
  bool normalize;
  const T* upstream;
  struct Shared {};

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared&) const {
    block.threads([&](int t) {
      if (t != 0) return;
      const double* r = stats + block.image * record_width;
      double to_scale = 0;
      for (int k = 0; k < scales; ++k) to_scale += static_cast<double>(upstream[block.image * scales + k]) * r[matching_record::kHead + 2 * k + 1];
      matching_slopes<T>(r, normalize, to_scale, &c.at(block.image, 0));
    });
  }
};

template <typename T>
struct MatchingGradient {
  Call<T> c;
  const double* stats;
  int64_t record_width;
  int scales;
  const T *upstream, *weight;  // of every scale's total, or of every pixel's loss
  T* gradient;
  struct Shared {};

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared&) const {
    using namespace matching_record;
    const int64_t b = block.image, start = block.slice * c.slice, end = start + c.slice < c.n ? start + c.slice : c.n;
    const double* r = stats + b * record_width;
    const bool poisoned = r[kStatus] == record::kPoisoned, some = r[kStatus] == record::kFine && r[kFlatTarget] == 0 && r[kFlatPred] == 0;
    block.threads([&](int t) {
      const Residuals<T> image(c, b, r);
      const Context& slopes = c.at(b, 0);
      const T mad = static_cast<T>(slopes.mad_slope), tie = static_cast<T>(slopes.tie_slope);
      for (int64_t i = start + t; i < end; i += block.size()) {
        const int64_t y = c.row_of(i), x = i - y * c.width;
        const bool on = image.on(y, x);
        T g = on && poisoned ? static_cast<T>(NAN) : T(0);
        if (on && some) {
          const T off = image.pred[i] - image.m_p;
          g = adjoint(image, r, b, y, x) * image.inv_p + (off > 0 ? mad : (off < 0 ? -mad : tie));
        }
        gradient[b * c.n + i] = g;
      }
    });
  }

 private:
  DADKIT_DEVICE T adjoint(const Residuals<T>& image, const double* record_of, int64_t b, int64_t y, int64_t x) const {
    const T here = image.at(y, x);
    T v = 0;
    for (int k = 0; k < scales; ++k) {
      const int64_t s = matching_stride(k);
      if ((y | x) & (s - 1)) break;
      const T scale = weight ? static_cast<T>(matching_share(record_of, k)) : upstream[b * scales + k];
      auto pair = [&](int64_t yy, int64_t xx, int64_t at) {  // with the other pixel of a pair; `at` is its left or upper one
        if (!image.on(yy, xx)) return;
        const T e = here - image.at(yy, xx), by = weight ? weight[b * c.n + at] * scale : scale;
        v += e > 0 ? by : (e < 0 ? -by : T(0));
      };
      const int64_t i = y * c.width + x;
      pair(y, x - s, i - s);
      pair(y - s, x, i - s * c.width);
      pair(y, x + s, i);
      pair(y + s, x, i);
    }
    return v;
  }
};

}  // namespace device
}  // namespace dadkit
