// Statistics as answers by themselves: a map's median and deviation with their gradient, a target's statistics, order statistics.
#pragma once

#include "pixels.h"

namespace dadkit {
namespace device {

// pred is the map.
template <typename T>
struct SaveMedian {
  Call<T> c;
  T *median, *mad;
  double* stats;
  struct Shared {};
  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared&) const {
    using namespace median_record;
    single_thread(block, [&] {
      const int64_t b = block.image;
      const Image& m = c.image[b];
      const Context& k = c.at(b, 0);
      const bool fine = m.status == record::kFine, poisoned = m.status == record::kPoisoned;
      const T nothing = poisoned ? static_cast<T>(NAN) : T(0);
      median[b] = fine ? static_cast<T>(k.median[kPred]) : nothing;
      mad[b] = fine ? static_cast<T>(k.mad[kPred]) : nothing;
      double* r = stats + kWidth * b;
      r[kStatus] = m.status;
      r[kMedian] = fine ? k.median[kPred] : 0;
      r[kCount] = static_cast<double>(k.count);
      r[kSignSum] = k.sign_sum;
      r[kTies] = static_cast<double>(k.equal);
    });
  }
};

template <typename T>
struct MedianGradient {
  Call<T> c;
  const T *grad_median, *grad_mad;
  const double* stats;
  T* gradient;
  struct Shared {};
  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared&) const {
    using namespace median_record;
    const int64_t b = block.image;
    const double* r = stats + kWidth * b;
    const bool empty = r[kStatus] == record::kEmpty, poisoned = r[kStatus] == record::kPoisoned;
    const double per_pixel = static_cast<double>(grad_mad[b]) / fmax(1.0, r[kCount]);
    const double at_median = static_cast<double>(grad_median[b]) - per_pixel * r[kSignSum];
    const T m = static_cast<T>(r[kMedian]), side = static_cast<T>(per_pixel), tie = static_cast<T>(at_median / fmax(1.0, r[kTies]));
    block.threads([&](int t) {
      for_pixels<false>(c, block, t, true, [&](int64_t i, bool on, T, T p) {
        T g = p > m ? side : (p < m ? -side : tie);
        if (poisoned) g = static_cast<T>(NAN);
        gradient[b * c.n + i] = on && !empty ? g : T(0);
      });
    });
  }
};

// The target's statistics as TargetStats holds them.
template <typename T>
struct SaveStatistics {
  Call<T> c;
  T *edges, *median, *mad, *global_mad;
  int64_t* count;
  uint8_t* flat;
  struct Shared {};
  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared&) const {
    const int64_t b = block.image;
    const Image& m = c.image[b];
    const int borders = c.options.partition == kGrid ? 0 : c.finest + 1, users = c.options.contexts();
    for_each(block, borders, [&](int k) { edges[b * borders + k] = static_cast<T>(m.edges[k]); });
    for_each(block, users, [&](int u) {
      const Context& k = c.at(b, u);
      count[b * users + u] = k.count;
      median[b * users + u] = static_cast<T>(k.median[kTarget]);
      mad[b * users + u] = static_cast<T>(k.mad[kTarget]);
    });
    single_thread(block, [&] {
      global_mad[b] = static_cast<T>(m.global_mad[kTarget]);
      flat[b] = m.status == record::kFine ? m.flat[kTarget] != 0 : 1;
    });
  }
};

// The values at given ranks; the contexts are the ranks.
template <typename T>
struct SaveOrder {
  Call<T> c;
  T* out;
  int64_t stride;
  struct Shared {};
  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared&) const {
    const int64_t b = block.image;
    const int status = c.image[b].status;
    const T none = status == record::kPoisoned ? static_cast<T>(NAN) : T(0);
    for_each(block, c.seg.contexts, [&](int u) { out[b * stride + u] = status == record::kFine ? static_cast<T>(c.at(b, u).median[kTarget]) : none; });
  }
};

}  // namespace device
}  // namespace dadkit
