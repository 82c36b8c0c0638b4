// Backward of the gradient matching loss: the adjoint of the differences.
#pragma once

#include "matching.h"

namespace dadkit {
namespace device {

// Slopes from the totals' gradients.
//   images x 1 · no shared memory
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
    single_thread(block, [&] {
      const double* r = stats + block.image * record_width;
      double to_scale = 0;
      for (int k = 0; k < scales; ++k) to_scale += static_cast<double>(upstream[block.image * scales + k]) * r[matching_record::kHead + 2 * k + 1];
      matching_slopes<T>(r, normalize, to_scale, &c.at(block.image, 0));
    });
  }
};

// The gradient of every pixel, from the four neighbours at every stride on whose grid it is.
//   images x slices · no shared memory · reads both maps and their neighbours once, writes the gradient · 3.6 M with four scales
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
    const int64_t b = block.image;
    const double* r = stats + b * record_width;
    const bool poisoned = r[kStatus] == record::kPoisoned, some = r[kStatus] == record::kFine && r[kFlatTarget] == 0 && r[kFlatPred] == 0;
    block.threads([&](int t) {
      const Residuals<T> image(c, b, r);
      const Context& slopes = c.at(b, 0);
      const T mad = static_cast<T>(slopes.mad_slope), tie = static_cast<T>(slopes.tie_slope);
      for_places(c, block, t, [&](int64_t i, int64_t y, int64_t x) {
        const bool on = image.on(y, x);
        T g = on && poisoned ? static_cast<T>(NAN) : T(0);
        if (on && some) {
          const T off = image.pred[i] - image.m_p;
          g = adjoint(image, r, b, y, x) * image.inv_p + (off > 0 ? mad : (off < 0 ? -mad : tie));
        }
        gradient[b * c.n + i] = g;
      });
    });
  }

 private:
  DADKIT_DEVICE T adjoint(const Residuals<T>& image, const double* record_of, int64_t b, int64_t y, int64_t x) const {
    const T here = image.at(y, x);
    T v = 0;
    for (int k = 0; k < scales && on_grid(y, x, k); ++k) {
      const int64_t s = matching_stride(k);
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
