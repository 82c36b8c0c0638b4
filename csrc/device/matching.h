// The gradient matching loss: differences of the residual R = N(p) - N(d) at strides 1, 2, 4, …, and their adjoint.
#pragma once

#include "walk.h"

namespace dadkit::device {

// What forward leaves for backward.
struct MatchingRecord {
  double* stats;  // [images, matching_record::width(scales)]; backward only reads them
  int scales;
  bool normalize;

  DADKIT_DEVICE double* of(int64_t b) const { return stats + b * matching_record::width(scales); }
  // of a scale's sum in an image's loss, which is the map's mean over the counted pixels
  static DADKIT_DEVICE double share(const double* r, int k) { return r[matching_record::kHead] / fmax(1.0, r[matching_record::kHead + 2 * k]); }
};

// An image's residuals, from the constants in its record. Each pixel is read many times, so how maps are stored is compiled in: kFullMaps, both
// as T, or each as it says.
template <typename T, bool kFullMaps>
struct Residuals {
  Input<T> pred, target;
  const uint8_t* mask;
  int64_t height, width;
  T m_p, inv_p, m_d, inv_d;

  DADKIT_DEVICE Residuals(const Maps<T>& maps, int64_t b, const double* r)
      : pred(maps.pred.from(b * maps.n)), target(maps.target.from(b * maps.n)), mask(maps.mask ? maps.mask + b * maps.n : nullptr),
        height(maps.height), width(maps.width),
        m_p(static_cast<T>(r[matching_record::kMedian])), inv_p(static_cast<T>(r[matching_record::kInverse])),
        m_d(static_cast<T>(r[matching_record::kTargetMedian])), inv_d(static_cast<T>(r[matching_record::kTargetInverse])) {}

  DADKIT_DEVICE bool on(int64_t y, int64_t x) const {
    return y >= 0 && x >= 0 && y < height && x < width && (!mask || mask[y * width + x]);
  }
  static DADKIT_DEVICE T read(const Input<T>& from, int64_t i) { return kFullMaps ? static_cast<const T*>(from.data)[i] : from[i]; }
  DADKIT_DEVICE T normalised(int64_t y, int64_t x) const { return (read(pred, y * width + x) - m_p) * inv_p; }
  DADKIT_DEVICE T at(int64_t y, int64_t x) const { return normalised(y, x) - (read(target, y * width + x) - m_d) * inv_d; }
};

DADKIT_DEVICE int64_t matching_stride(int k) { return static_cast<int64_t>(1) << k; }

// Whether a pixel lies on scale k's grid; if not, it lies on none of the coarser ones.
DADKIT_DEVICE bool on_grid(int64_t y, int64_t x, int k) { return ((y | x) & (matching_stride(k) - 1)) == 0; }

// Calls f(i, y, x) for the pixels of thread t in the block's slice.
template <typename T, typename Block, typename F>
DADKIT_DEVICE void for_places(const Maps<T>& maps, const Block& block, int t, const F& f) {
  const int64_t end = maps.slice_end(block.slice);
  for (int64_t i = block.slice * maps.slice + t; i < end; i += block.size()) {
    const int64_t y = maps.row_of(i);
    f(i, y, i - y * maps.width);
  }
}

// The head of an image's record, from the statistics of both maps.
//   images x 1 · no shared memory
template <typename T>
struct MatchingHead {
  Cut<T> cut;
  MatchingRecord kept;
  struct Shared {};

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared&) const {
    using namespace matching_record;
    single_thread(block, [&] {
      const Image& m = cut.image[block.image];
      double* r = kept.of(block.image);
      for (int64_t k = 0; k < matching_record::width(kept.scales); ++k) r[k] = 0;
      r[kStatus] = m.status;
      r[kInverse] = r[kTargetInverse] = 1;
      r[kCount] = static_cast<double>(m.valid);
      if (!kept.normalize || m.status != record::kFine) return;
      const Context& k = cut.at(block.image, 0);
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
  const SegmentGradient g = segment_gradient(0, to_scale, 1 / r[kInverse], r[kCount], r[kSignSum], r[kTies], false, false);
  k->mad_slope = g.mad;
  k->tie_slope = g.tie;
}

constexpr int kMatchingValues = 3;  // of a scale

// Per scale the sums of w |dR| and of w sign(dR) dN over the pairs, and the number of pixels.
//   images x slices · 33 KiB · reads both maps, and neighbours at every stride, once · 3.3 M with four scales
template <typename T, bool kFullMaps>
struct MatchingSums {
  Maps<T> maps;
  Cut<T> cut;
  Sums sums;
  MatchingRecord kept;  // forward fills the sums in
  const T* weight;           // [images, n]: backward with weights per pixel, where only the slopes are wanted; or nullptr
  T *total, *number;         // [images, scales], of forward

  struct Shared {
    Slots<T> slots;
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    using namespace matching_record;
    const int64_t b = block.image;
    const double* r = kept.of(b);
    const bool fine = r[kStatus] == record::kFine && r[kFlatTarget] == 0, some = fine || r[kStatus] == record::kPoisoned;
    auto sweep = [&](int t, int first, int here) { add_pairs(block, shared, t, first, here, fine); };
    if (!sum_image<kMatchingValues>(sums, block, &shared.slots, some, kept.scales, &cut.image[b].ticket[kMatchingTicket], sweep)) return;
    single_thread(block, [&] {
      if (weight) {
        finish_weighted(b, r, some);
      } else {
        finish(b, kept.of(b), some);
      }
    });
  }

 private:
  template <typename Block>
  DADKIT_DEVICE void add_pairs(const Block& block, Shared& shared, int t, int first, int here, bool fine) const {
    const int64_t b = block.image;
    const Residuals<T, kFullMaps> image(maps, b, kept.of(b));
    for_places(maps, block, t, [&](int64_t i, int64_t y, int64_t x) {
      if (!image.on(y, x)) return;
      const T z = fine ? image.normalised(y, x) : T(0), r = fine ? image.at(y, x) : T(0), w = weight ? weight[b * maps.n + i] : T(1);
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
        shared.slots.at[k * kMatchingValues][t] += sum_abs;
        shared.slots.at[k * kMatchingValues + 1][t] += sum_z;
        shared.slots.at[k * kMatchingValues + 2][t] += T(1);
      }
    });
  }

  DADKIT_DEVICE void finish(int64_t b, double* r, bool some) const {
    using namespace matching_record;
    const double* found = sums.of(b);
    for (int k = 0; k < kept.scales; ++k) {
      r[kHead + 2 * k] = some ? found[k * kMatchingValues + 2] : 0;
      r[kHead + 2 * k + 1] = some ? found[k * kMatchingValues + 1] : 0;
      total[b * kept.scales + k] = r[kStatus] == record::kPoisoned ? static_cast<T>(NAN) : static_cast<T>(some ? found[k * kMatchingValues] : 0);
      number[b * kept.scales + k] = static_cast<T>(r[kHead + 2 * k]);
    }
  }

  DADKIT_DEVICE void finish_weighted(int64_t b, const double* r, bool some) const {
    double to_scale = 0;
    for (int k = 0; some && k < kept.scales; ++k) to_scale += MatchingRecord::share(r, k) * sums.of(b)[k * kMatchingValues + 1];
    matching_slopes<T>(r, kept.normalize, to_scale, &cut.at(b, 0));
  }
};

// The loss of every pixel: all differences at it, as their left or upper pixel.
//   images x slices · no shared memory · reads both maps and their neighbours once, writes the map and its mask
template <typename T, bool kFullMaps>
struct MatchingMap {
  Maps<T> maps;
  MatchingRecord kept;
  T* map;            // [images, n]
  uint8_t* counted;  // [images, n]
  struct Shared {};

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared&) const {
    using namespace matching_record;
    const int64_t b = block.image;
    const double* r = kept.of(b);
    const bool poisoned = r[kStatus] == record::kPoisoned, fine = r[kStatus] == record::kFine && r[kFlatTarget] == 0;
    block.threads([&](int t) {
      const Residuals<T, kFullMaps> image(maps, b, r);
      for_places(maps, block, t, [&](int64_t i, int64_t y, int64_t x) {
        const bool on = image.on(y, x) && (fine || poisoned);
        T loss = on && poisoned ? static_cast<T>(NAN) : T(0);
        for (int k = 0; on && fine && k < kept.scales && on_grid(y, x, k); ++k) {
          const int64_t s = matching_stride(k);
          T step = 0;
          if (image.on(y, x + s)) step += magnitude(image.at(y, x + s) - image.at(y, x));
          if (image.on(y + s, x)) step += magnitude(image.at(y + s, x) - image.at(y, x));
          loss += step * static_cast<T>(MatchingRecord::share(r, k));
        }
        map[b * maps.n + i] = loss;
        counted[b * maps.n + i] = on;
      });
    });
  }
};

// ------------------------------------------------------------------------------------------------ backward
// Slopes from the totals' gradients.
//   images x 1 · no shared memory
template <typename T>
struct MatchingPrepare {
  Cut<T> cut;
  MatchingRecord kept;
  const T* upstream;  // [images, scales]
  struct Shared {};

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared&) const {
    single_thread(block, [&] {
      const double* r = kept.of(block.image);
      double to_scale = 0;
      for (int k = 0; k < kept.scales; ++k) {
        to_scale += static_cast<double>(upstream[block.image * kept.scales + k]) * r[matching_record::kHead + 2 * k + 1];
      }
      matching_slopes<T>(r, kept.normalize, to_scale, &cut.at(block.image, 0));
    });
  }
};

// The gradient of every pixel, from the four neighbours at every stride on whose grid it is.
//   images x slices · no shared memory · reads both maps and their neighbours once, writes the gradient · 3.6 M with four scales
template <typename T, bool kFullMaps>
struct MatchingGradient {
  Maps<T> maps;
  Cut<T> cut;
  MatchingRecord kept;
  const T* upstream;   // [images, scales]: of the totals; or nullptr
  const T* weight;     // [images, n]: of every pixel's loss; or nullptr
  Output<T> gradient;  // [images, n]
  struct Shared {};

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared&) const {
    using namespace matching_record;
    const int64_t b = block.image;
    const double* r = kept.of(b);
    const bool poisoned = r[kStatus] == record::kPoisoned, some = r[kStatus] == record::kFine && r[kFlatTarget] == 0 && r[kFlatPred] == 0;
    block.threads([&](int t) {
      const Residuals<T, kFullMaps> image(maps, b, r);
      const Context& slopes = cut.at(b, 0);
      const T mad = static_cast<T>(slopes.mad_slope), tie = static_cast<T>(slopes.tie_slope);
      for_places(maps, block, t, [&](int64_t i, int64_t y, int64_t x) {
        const bool on = image.on(y, x);
        T g = on && poisoned ? static_cast<T>(NAN) : T(0);
        if (on && some) {
          const T off = image.read(image.pred, i) - image.m_p;
          g = adjoint(image, r, b, y, x) * image.inv_p + (off > 0 ? mad : (off < 0 ? -mad : tie));
        }
        gradient.set(b * maps.n + i, g);
      });
    });
  }

 private:
  DADKIT_DEVICE T adjoint(const Residuals<T, kFullMaps>& image, const double* r, int64_t b, int64_t y, int64_t x) const {
    const T here = image.at(y, x);
    T v = 0;
    for (int k = 0; k < kept.scales && on_grid(y, x, k); ++k) {
      const int64_t s = matching_stride(k);
      const T scale = weight ? static_cast<T>(MatchingRecord::share(r, k)) : upstream[b * kept.scales + k];
      auto pair = [&](int64_t yy, int64_t xx, int64_t at) {  // with the other pixel of a pair; `at` is its left or upper one
        if (!image.on(yy, xx)) return;
        const T e = here - image.at(yy, xx), by = weight ? weight[b * maps.n + at] * scale : scale;
        v += e > 0 ? by : (e < 0 ? -by : T(0));
      };
      const int64_t i = y * maps.width + x;
      pair(y, x - s, i - s);
      pair(y - s, x, i - s * maps.width);
      pair(y, x + s, i);
      pair(y + s, x, i);
    }
    return v;
  }
};

}  // namespace dadkit::device
