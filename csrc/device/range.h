// The range of every map, whether it holds a valid pixel and only finite ones, and the borders of its segments.
#pragma once

#include "pixels.h"

namespace dadkit {
namespace device {

// Smallest, largest, number and finiteness of both maps; then the borders of the target's segments.
template <typename T>
struct Range {
  Call<T> c;
  const T* edges;  // given borders or nullptr

  struct Shared {
    uint64_t top[kSides][kThreads], bottom[kSides][kThreads];
    uint32_t valid, bad;
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    Image& m = c.image[b];
    once(block, [&] { shared.valid = shared.bad = 0; });
    block.threads([&](int t) {
      uint64_t top[kSides] = {}, bottom[kSides] = {};
      uint32_t valid = 0, bad = 0;
      if (c.present(b)) {
        for_pixels(c, block, t, true, [&](int64_t, bool on, T d, T p) {
          if (!on) return;
          ++valid;
          see(d, &top[kTarget], &bottom[kTarget], &bad);
          if (c.pred) see(p, &top[kPred], &bottom[kPred], &bad);
        });
      }
      for (int s = 0; s < kSides; ++s) {
        shared.top[s][t] = top[s];
        shared.bottom[s][t] = bottom[s];
      }
      if (valid) add(&shared.valid, valid);
      if (bad) add(&shared.bad, bad);
    });
    for (int s = 0; s < kSides; ++s) {
      largest_of(block, shared.top[s]);
      largest_of(block, shared.bottom[s]);
    }
    once(block, [&] {
      if (shared.valid == 0) return;
      add(&m.valid, static_cast<int64_t>(shared.valid));
      if (shared.bad) add(&m.bad, static_cast<int64_t>(shared.bad));
      for (int s = 0; s < kSides; ++s) {
        raise_to(&m.top[s], shared.top[s][0]);
        raise_to(&m.bottom[s], shared.bottom[s][0]);
      }
    });
    if (!block.last(&m.ticket[kRangeTicket])) return;
    once(block, [&] { finish(b, m); });
  }

 private:
  static DADKIT_DEVICE void see(T x, uint64_t* top, uint64_t* bottom, uint32_t* bad) {
    if (!is_finite(x)) {
      ++*bad;
      return;
    }
    const Key<T> key = key_of(x), inverse = static_cast<Key<T>>(~key);
    *top = key > *top ? key : *top;
    *bottom = inverse > *bottom ? inverse : *bottom;
  }

  DADKIT_DEVICE void finish(int64_t b, Image& m) const {
    m.status = m.valid == 0 ? record::kEmpty : (m.bad ? record::kPoisoned : record::kFine);
    T low[kSides], high[kSides];
    for (int s = 0; s < kSides; ++s) {
      const bool any = m.top[s] != 0;
      low[s] = any ? value_of<T>(static_cast<Key<T>>(~static_cast<Key<T>>(m.bottom[s]))) : T(0);
      high[s] = any ? value_of<T>(static_cast<Key<T>>(m.top[s])) : T(0);
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
