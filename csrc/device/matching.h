// The gradient matching loss: differences of the residual R = N(p) - N(d) at strides 1, 2, 4, …
#pragma once

#include "sums.h"

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

// Whether a pixel lies on scale k's grid; if not, it lies on none of the coarser ones.
DADKIT_DEVICE bool on_grid(int64_t y, int64_t x, int k) { return ((y | x) & (matching_stride(k) - 1)) == 0; }

// Calls f(i, y, x) for the pixels of thread t in the block's slice.
template <typename T, typename Block, typename F>
DADKIT_DEVICE void for_places(const Call<T>& c, const Block& block, int t, const F& f) {
  const int64_t end = c.slice_end(block.slice);
  for (int64_t i = block.slice * c.slice + t; i < end; i += block.size()) {
    const int64_t y = c.row_of(i);
    f(i, y, i - y * c.width);
  }
}

// The head of an image's record, from the statistics of both maps.
//   images x 1 · no shared memory
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
    single_thread(block, [&] {
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
//   images x slices · 33 KiB · reads both maps, and neighbours at every stride, once · 3.3 M with four scales
template <typename T>
struct MatchingSums {
  static constexpr int kValues = 3;  // of a scale

  Call<T> c;
  const double* stats;
  int64_t record_width;
  int scales;
  bool normalize;
  const T* weight;    // backward with weights per pixel: only the slopes are wanted
  double* filled;     // forward: the records themselves
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
    auto sweep = [&](int t, int first, int here) { add_pairs(block, shared, t, first, here, fine); };
    if (!sum_image<kValues>(c, block, &shared.slots, some, scales, kMatchingTicket, sweep)) return;
    single_thread(block, [&] {
      if (weight) {
        finish_weighted(b, r, some);
      } else {
        finish(b, filled + b * record_width, some);
      }
    });
  }

 private:
  template <typename Block>
  DADKIT_DEVICE void add_pairs(const Block& block, Shared& shared, int t, int first, int here, bool fine) const {
    const int64_t b = block.image;
    const Residuals<T> image(c, b, stats + b * record_width);
    for_places(c, block, t, [&](int64_t i, int64_t y, int64_t x) {
      if (!image.on(y, x)) return;
      const T z = fine ? image.normalised(y, x) : T(0), r = fine ? image.at(y, x) : T(0), w = weight ? weight[b * c.n + i] : T(1);
      for (int k = 0; k < here && on_grid(y, x, first + k); ++k) {
        const int64_t s = matching_stride(first + k);
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
    });
  }

  DADKIT_DEVICE void finish(int64_t b, double* r, bool some) const {
    using namespace matching_record;
    const double* sums = c.sums + b * c.values;
    for (int k = 0; k < scales; ++k) {
      r[kHead + 2 * k] = some ? sums[k * kValues + 2] : 0;
      r[kHead + 2 * k + 1] = some ? sums[k * kValues + 1] : 0;
      total[b * scales + k] = r[kStatus] == record::kPoisoned ? static_cast<T>(NAN) : static_cast<T>(some ? sums[k * kValues] : 0);
      number[b * scales + k] = static_cast<T>(r[kHead + 2 * k]);
    }
  }

  DADKIT_DEVICE void finish_weighted(int64_t b, const double* r, bool some) const {
    double to_scale = 0;
    for (int k = 0; some && k < scales; ++k) to_scale += matching_share(r, k) * c.sums[b * c.values + k * kValues + 1];
    matching_slopes<T>(r, normalize, to_scale, &c.at(b, 0));
  }
};

// The loss of every pixel: all differences at it, as their left or upper pixel.
//   images x slices · no shared memory · reads both maps and their neighbours once, writes the map and its mask
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
    const int64_t b = block.image;
    const double* record_of = stats + b * record_width;
    const bool poisoned = record_of[kStatus] == record::kPoisoned, fine = record_of[kStatus] == record::kFine && record_of[kFlatTarget] == 0;
    block.threads([&](int t) {
      const Residuals<T> image(c, b, record_of);
      for_places(c, block, t, [&](int64_t i, int64_t y, int64_t x) {
        const bool on = image.on(y, x) && (fine || poisoned);
        T loss = on && poisoned ? static_cast<T>(NAN) : T(0);
        for (int k = 0; on && fine && k < scales && on_grid(y, x, k); ++k) {
          const int64_t s = matching_stride(k);
          T step = 0;
          if (image.on(y, x + s)) step += magnitude(image.at(y, x + s) - image.at(y, x));
          if (image.on(y + s, x)) step += magnitude(image.at(y + s, x) - image.at(y, x));
          loss += step * static_cast<T>(matching_share(record_of, k));
        }
        map[b * c.n + i] = loss;
        counted[b * c.n + i] = on;
      });
    });
  }
};

}  // namespace device
}  // namespace dadkit
