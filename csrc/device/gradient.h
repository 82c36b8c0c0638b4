// The last pass of backward: the gradient of every pixel from the terms of its leaf.
#pragma once

#include "slopes.h"

namespace dadkit {
namespace device {

// The gradient at the pixels of one image or patch.
template <typename T, typename Upstream>
struct PixelGradient {
  const Call<T>& c;
  const Rule<T>& rule;
  const Terms<T>* terms;
  const Upstream& upstream;
  int64_t b;
  bool poisoned, some;  // all NaN; not all zero

  DADKIT_DEVICE PixelGradient(const Call<T>& call, const Rule<T>& leaves, const Terms<T>* of_leaves, const Upstream& given, int64_t image)
      : c(call), rule(leaves), terms(of_leaves), upstream(given), b(image) {
    const Image& m = c.image[b];
    poisoned = m.status == record::kPoisoned;
    some = m.status == record::kFine && !m.flat[kPred] && m.valid > 0;
  }

  DADKIT_DEVICE T operator()(int64_t i, bool on, T d, T p) const {
    if (!on || !some) return on && poisoned ? static_cast<T>(NAN) : T(0);
    const int leaf = rule.leaf(c, i, d);
    if (leaf < 0) return T(0);
    const auto v = upstream.at(c, b, i);
    T g = 0;
    for (int l = 0; l < c.seg.levels; ++l) {
      const Terms<T>& y = terms[leaf * c.seg.levels + l];
      const T off = p - y.m_p;
      g += v.times(l, off * y.inv_p - (d - y.m_d) * y.inv_d, y.side);
      g += off > 0 ? y.mad : (off < 0 ? -y.mad : y.tie);
    }
    return g;
  }
};

//   images x slices · reads both maps once, and upstream gradients of pixels, writes the gradient · 2.2 M
template <typename T, typename Upstream>
struct Gradient {
  Call<T> c;
  Upstream upstream;
  T* gradient;

  struct Shared {
    Rule<T> rule;
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    shared.rule.load(c, b, block);
    const PixelGradient<T, Upstream> slope(c, shared.rule, &c.terms_of(b, 0, 0), upstream, b);
    block.threads([&](int t) {
      for_pixels<false>(c, block, t, slope.some, [&](int64_t i, bool on, T d, T p) { gradient[b * c.n + i] = slope(i, on, d, p); });
    });
  }
};

// The same of a plain call whose pixels all have the total's gradient, which the terms hold. A thread keeps its leaf's terms in registers and
// writes kGroup pixels at once.
//   images x slices · 0.4 KiB · reads both maps once, writes the gradient · 0.77 M
template <typename T, int L>
struct PlainGradient {
  Call<T> c;
  T* gradient;

  struct alignas(16) Constants {  // of a leaf
    Terms<T> level[L];
  };
  struct Shared {
    Rule<T> rule;
    Constants of_leaves[kPlainLeaves];
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    const Image& m = c.image[b];
    const bool some = m.status == record::kFine && !m.flat[kPred] && m.valid > 0;
    const T otherwise = m.status == record::kPoisoned ? static_cast<T>(NAN) : T(0);
    shared.rule.load(c, b, block);
    for_each(block, c.seg.leaves * L, [&](int j) {
      shared.of_leaves[j / L].level[j % L] = j % L < c.seg.levels ? c.terms_of(b, j / L, j % L) : Terms<T>{};
    });
    block.threads([&](int t) {
      const Rule<T> rule = shared.rule;
      Constants terms{};
      int current = -1;
      for_groups<true>(c, block, t, true, [&](int64_t i, int64_t, const Group<uint8_t>&, const Group<T>& d, const Group<T>& p) {
        Group<T> g;
        DADKIT_UNROLL
        for (int k = 0; k < kGroup; ++k) {
          g.at[k] = otherwise;
          if (!some) continue;
          const int leaf = rule.template plain_leaf<L>(d.at[k]);
          if (leaf != current) {
            current = leaf;
            terms = shared.of_leaves[leaf];
          }
          g.at[k] = 0;
          DADKIT_UNROLL
          for (int l = 0; l < L; ++l) {
            const Terms<T>& y = terms.level[l];
            const T off = p.at[k] - y.m_p, e = off * y.inv_p - (d.at[k] - y.m_d) * y.inv_d;
            g.at[k] += (e > 0 ? y.side : T(0)) - (e < 0 ? y.side : T(0));
            g.at[k] += off == 0 ? y.tie : (off > 0 ? y.mad : T(0)) - (off < 0 ? y.mad : T(0));
          }
        }
        *reinterpret_cast<Group<T>*>(gradient + b * c.n + i) = g;
      });
    });
  }
};

}  // namespace device
}  // namespace dadkit
