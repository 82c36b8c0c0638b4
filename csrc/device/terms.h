// Between segments and leaves: the constants of every leaf and level from its segments' statistics, and sums per leaf back to segments.
#pragma once

#include "pixels.h"

namespace dadkit {
namespace device {

template <typename T>
DADKIT_DEVICE bool is_counted(const Call<T>& c, int64_t b, int l, int leaf) {
  return l < c.seg.loss_levels && c.context_of(l, leaf) != kNoContext && c.at(b, c.context_of(l, leaf)).kept != 0;
}

// Terms and shares of all leaves, from the contexts. unit: the gradient of the total, or 1 where every pixel has its own.
template <typename T, typename Block>
DADKIT_DEVICE void build_terms(const Call<T>& c, const Block& block, double unit) {
  const int64_t b = block.image;
  const bool flat = c.image[b].flat[kPred] != 0;
  for_each(block, c.seg.leaves, [&](int leaf) {
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
  });
}

// How a leaf normalises both maps, on every level that the loss has: what a thread keeps in registers while its pixels stay there.
template <typename T, int L>
struct LeafNorms {
  T m_p[L], inv_p[L], m_d[L], inv_d[L];

  DADKIT_DEVICE void load(const Call<T>& c, int64_t b, int leaf) {
    DADKIT_UNROLL
    for (int l = 0; l < L; ++l) {
      const Terms<T> y = l < c.seg.loss_levels ? c.terms_of(b, leaf, l) : Terms<T>{};
      m_p[l] = y.m_p;
      inv_p[l] = y.inv_p;
      m_d[l] = y.m_d;
      inv_d[l] = y.inv_d;
    }
  }
  DADKIT_DEVICE T of_pred(int l, T p) const { return (p - m_p[l]) * inv_p[l]; }
  DADKIT_DEVICE T of_target(int l, T d) const { return (d - m_d[l]) * inv_d[l]; }
};

// The segments' sums of v and v N, where v is the upstream gradient of N, from the leaves' sums: `per_leaf` numbers of a leaf, among them
// from the one numbered `first` on the sums of v on every level, and `levels` later those of v N.
template <typename T, typename Block>
DADKIT_DEVICE void collect_upstream(const Call<T>& c, const Block& block, int per_leaf, int first, int levels) {
  const int64_t b = block.image;
  for_each(block, c.seg.contexts, [&](int u) {
    Context& k = c.at(b, u);
    k.upstream[0] = k.upstream[1] = 0;
    for (int l = 0; l < c.seg.loss_levels; ++l) {
      for (int leaf = 0; leaf < c.seg.leaves; ++leaf) {
        if (c.context_of(l, leaf) != u || !is_counted(c, b, l, leaf)) continue;
        const double share = c.share[b * c.seg.leaves + leaf], *sums = c.sums + b * c.values + leaf * per_leaf + first;
        k.upstream[0] += share * sums[l];
        k.upstream[1] += share * sums[levels + l];
      }
    }
  });
}

}  // namespace device
}  // namespace dadkit
