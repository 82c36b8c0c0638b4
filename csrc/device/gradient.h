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
    shared.rule.load(c.image[b], block);
    const PixelGradient<T, Upstream> slope(c, shared.rule, &c.terms_of(b, 0, 0), upstream, b);
    block.threads([&](int t) {
      for_pixels(c, block, t, slope.some, [&](int64_t i, bool on, T d, T p) { gradient[b * c.n + i] = slope(i, on, d, p); });
    });
  }
};

}  // namespace device
}  // namespace dadkit
