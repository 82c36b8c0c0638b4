// The constants of every leaf and level, from the segments' statistics.
#pragma once

#include "state.h"

namespace dadkit {
namespace device {

template <typename T>
DADKIT_DEVICE bool is_counted(const Call<T>& c, int64_t b, int l, int leaf) {
  return l < c.seg.loss_levels && c.context_of(l, leaf) != kNoContext && c.at(b, c.context_of(l, leaf)).kept != 0;
}

// Terms and shares of all leaves, from the contexts. unit: the gradient of the total, or 1 with weights per pixel.
template <typename T, typename Block>
DADKIT_DEVICE void build_terms(const Call<T>& c, const Block& block, double unit) {
  const int64_t b = block.image;
  const bool flat = c.image[b].flat[kPred] != 0;
  block.threads([&](int t) {
    for (int leaf = t; leaf < c.seg.leaves; leaf += block.size()) {
      int kept = 0;
      for (int l = 0; l < c.seg.loss_levels; ++l) kept += is_counted(c, b, l, leaf);
      const double share = c.keep_all ? 1.0 : (kept ? 1.0 / kept : 0.0);
      c.share[b * c.seg.leaves + leaf] = share;
      for (int l = 0; l < c.seg.levels; ++l) {
        Terms<T> y{};
        const int u = c.context_of(l, leaf);
        if (u != kNoContext) {
          const Context& k = c.at(b, u);
          y.m_p = static_cast<T>(k.median[kPred]);
          y.mad = static_cast<T>(k.mad_slope);
          y.tie = static_cast<T>(k.tie_slope);
          if (is_counted(c, b, l, leaf)) {
            y.inv_p = flat ? T(0) : static_cast<T>(1 / k.scale[kPred]);
            y.m_d = static_cast<T>(k.median[kTarget]);
            y.inv_d = static_cast<T>(1 / k.scale[kTarget]);
            y.side = static_cast<T>(unit * static_cast<double>(static_cast<T>(share)) / k.scale[kPred]);
          }
        }
        c.terms_of(b, leaf, l) = y;
      }
    }
  });
}

}  // namespace device
}  // namespace dadkit
