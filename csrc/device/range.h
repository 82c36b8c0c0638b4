// The range of every map, whether it holds a valid pixel and only finite ones, and the borders of its segments.
#pragma once

#include "pixels.h"

namespace dadkit {
namespace device {

// Smallest, largest, number and finiteness of both maps; then the borders of the target's segments. What is read through boxes is kept.
//   images x slices · 2 KiB · reads both maps once · plain 0.16 M, general 0.6 M
template <typename T, bool kPlain>
struct Range {
  Call<T> c;
  const T* edges;  // given borders or nullptr

  struct Shared {
    Key<T> top[kSides][kThreads], bottom[kSides][kThreads];
    uint32_t valid, bad;
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    Image& m = c.image[b];
    single_thread(block, [&] { shared.valid = shared.bad = 0; });
    block.threads([&](int t) { walk(block, shared, t); });
    for (int half = block.size() / 2; half > 0; half /= 2) {
      block.threads([&](int t) {
        if (t >= half) return;
        for (int s = 0; s < kSides; ++s) {
          larger(&shared.top[s][t], shared.top[s][t + half]);
          larger(&shared.bottom[s][t], shared.bottom[s][t + half]);
        }
      });
    }
    single_thread(block, [&] {
      if (shared.valid == 0) return;
      atomic_add(&m.valid, static_cast<int64_t>(shared.valid));
      if (shared.bad) atomic_add(&m.bad, static_cast<int64_t>(shared.bad));
      for (int s = 0; s < kSides; ++s) {
        atomic_max(&m.top[s], shared.top[s][0]);
        atomic_max(&m.bottom[s], shared.bottom[s][0]);
      }
    });
    if (!block.last(&m.ticket[kRangeTicket])) return;
    single_thread(block, [&] { finish(b, m); });
  }

 private:
  static DADKIT_DEVICE void larger(Key<T>* at, Key<T> key) { *at = key > *at ? key : *at; }

  template <typename Block>
  DADKIT_DEVICE void walk(const Block& block, Shared& shared, int t) const {
    const int64_t b = block.image;
    Key<T> top[kSides] = {}, bottom[kSides] = {};
    uint32_t valid = 0, bad = 0;
    if (c.present(b)) {
      T low[kSides] = {T(INFINITY), T(INFINITY)}, high[kSides] = {T(-INFINITY), T(-INFINITY)}, zero = 0;  // zero: NaN if a value is not finite
      for_pixels<kPlain>(c, block, t, true, [&](int64_t i, bool on, T d, T p) {
        if (!kPlain && c.resampled) c.resampled[b * c.n + i] = p;
        if (!on) return;
        ++valid;
        const T x[kSides] = {d, p};
        DADKIT_UNROLL
        for (int s = 0; s < kSides; ++s) {
          low[s] = fmin(low[s], x[s]);
          high[s] = fmax(high[s], x[s]);
          zero += x[s] - x[s];
        }
      });
      if (zero == 0) {
        for (int s = 0; s < kSides && valid; ++s) {
          top[s] = key_of(high[s]);
          bottom[s] = static_cast<Key<T>>(~key_of(low[s]));
        }
      } else {  // the range is then that of the finite values
        for_pixels<kPlain>(c, block, t, true, [&](int64_t, bool on, T d, T p) {
          const T x[kSides] = {d, p};
          for (int s = 0; s < kSides; ++s) {
            if (!on) continue;
            bad += !is_finite(x[s]);
            if (!is_finite(x[s])) continue;
            larger(&top[s], key_of(x[s]));
            larger(&bottom[s], static_cast<Key<T>>(~key_of(x[s])));
          }
        });
      }
    }
    for (int s = 0; s < kSides; ++s) {
      shared.top[s][t] = top[s];
      shared.bottom[s][t] = bottom[s];
    }
    if (valid) atomic_add(&shared.valid, valid);
    if (bad) atomic_add(&shared.bad, bad);
  }

  DADKIT_DEVICE void finish(int64_t b, Image& m) const {
    m.status = m.valid == 0 ? record::kEmpty : (m.bad ? record::kPoisoned : record::kFine);
    T low[kSides], high[kSides];
    for (int s = 0; s < kSides; ++s) {
      if (s == kPred && !c.pred) continue;
      const bool any = m.top[s] != 0;
      low[s] = any ? value_of<T>(static_cast<Key<T>>(~static_cast<Key<T>>(m.bottom[s]))) : T(0);
      high[s] = any ? value_of<T>(static_cast<Key<T>>(m.top[s])) : T(0);
      m.low[s] = static_cast<double>(low[s]);
      m.high[s] = static_cast<double>(high[s]);
      m.largest[s] = fmax(fabs(static_cast<double>(low[s])), fabs(static_cast<double>(high[s])));
    }
    if (c.options.partition == kGrid) return;
    for (int k = 0; k <= c.finest; ++k) {
      m.edges[k] = static_cast<double>(edges ? edges[b * (c.finest + 1) + k] : border<T>(low[0], high[0] - low[0], k, c.finest));
    }
  }
};

}  // namespace device
}  // namespace dadkit
