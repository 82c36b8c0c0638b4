// Normalised maps: N of every pixel on every level. Backward is slopes.h and gradient.h, with the upstream gradient that is given.
#pragma once

#include "saved.h"
#include "terms.h"

namespace dadkit {
namespace device {

// pred is the map, target the one that cuts the segments.
//   images x slices · reads both maps once, writes as many maps as there are levels
template <typename T>
struct Normalize {
  Call<T> c;
  T* out;
  double* stats;

  struct Shared {
    Rule<T> rule;
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    const Image& m = c.image[b];
    const int levels = c.options.n_segments;
    const bool fine = m.status == record::kFine;
    shared.rule.load(c, b, block);
    block.threads([&](int t) {
      for_pixels<false>(c, block, t, true, [&](int64_t i, bool on, T d, T p) {
        const int leaf = on && fine ? shared.rule.leaf(c, i, d) : -1;
        for (int l = 0; l < levels; ++l) {
          T z = on && m.status == record::kPoisoned ? static_cast<T>(NAN) : T(0);
          if (leaf >= 0) {
            const Terms<T>& y = c.terms_of(b, leaf, l);
            z = m.flat[kPred] ? T(0) : (p - y.m_p) * y.inv_p;
          }
          out[(b * levels + l) * c.n + i] = z;
        }
      });
    });
    if (block.slice != 0) return;
    double* r = stats + b * record::width(c.options);
    single_thread(block, [&] { save_head(c, b, m.valid, r); });
    for_each(block, c.seg.contexts, [&](int u) { save_context(c, b, u, r); });
  }
};

}  // namespace device
}  // namespace dadkit
