// Smallest and largest pixel, and the leaf of every pixel.
#pragma once

#include "runs.h"

namespace dadkit::DADKIT_UNIT {

template <typename V>
void range_sweep(const typename V::Scalar* x, const uint8_t* mask, int64_t n, RangeTask<typename V::Scalar>* out) {
  using T = typename V::Scalar;
  using F = typename V::F;
  const T inf = static_cast<T>(__builtin_inf());
  const F top = V::set1(inf);
  F lo = V::set1(inf), hi = V::set1(-inf);
  int64_t count = 0;
  bool finite = true;
  auto vector = [&](F v, typename V::M m, typename V::I& valid) {
    const typename V::M fine = V::lt(V::abs(v), top);
    lo = V::min(lo, V::select(m, v, V::set1(inf)));
    hi = V::max(hi, V::select(m, v, V::set1(-inf)));
    valid = V::inc_if(valid, m);
    finite &= !V::any(V::without(m, fine));
  };
  in_blocks<V>(
      n,
      [&](int64_t at, int64_t vectors) {
        typename V::I valid = V::no_counts();
        for (int64_t v = 0; v < vectors; ++v) {
          const int64_t i = at + v * V::W;
          fetch_ahead(x + i);
          const F value = V::load(x + i);
          vector(value, mask ? V::mask_of(mask + i) : V::eq(V::zero(), V::zero()), valid);
        }
        count += lane_count<V>(valid);
      },
      [&](int64_t at, int rest) {
        typename V::I valid = V::no_counts();
        uint8_t bits[16] = {};
        for (int k = 0; k < rest; ++k) bits[k] = mask ? mask[at + k] : 1;
        vector(V::load(Rest<V>(x + at, rest).x), V::mask_of(bits), valid);
        count += lane_count<V>(valid);
      });
  T a[V::W], b[V::W];
  V::store(a, lo);
  V::store(b, hi);
  out->lo = a[0];
  out->hi = b[0];
  for (int k = 1; k < V::W; ++k) {
    out->lo = a[k] < out->lo ? a[k] : out->lo;
    out->hi = b[k] > out->hi ? b[k] : out->hi;
  }
  out->count = count;
  out->finite = finite;
}

// At most 256 vectors, so that a lane's count fits its type and is added to 64 bits in time.
template <typename V, int E, bool kMasked, bool kCounted>
void leaves_block(const typename V::Scalar* d, const uint8_t* mask, int64_t vectors, const typename V::Scalar* edges, bool at_edge, uint8_t* leaf,
                  int64_t* counts) {
  using I = typename V::I;
  using M = typename V::M;
  typename V::F edge[E + 1];
  I reached[E + 1], valid = V::no_counts();
  for (int k = 0; k < E; ++k) {
    edge[k] = V::set1(edges[k]);
    reached[k] = V::no_counts();
  }
  const I none = V::counts1(kNoLeaf);
  const M all = V::eq(V::zero(), V::zero());
  for (int64_t i = 0; i < vectors * V::W; i += V::W) {
    fetch_ahead(d + i);
    const typename V::F value = V::load(d + i);
    const M m = kMasked ? V::mask_of(mask + i) : all;
    I id = V::no_counts();
    for (int k = 0; k < E; ++k) {
      const M over = at_edge ? V::ge(value, edge[k]) : V::lt(edge[k], value);
      id = V::inc_if(id, over);
      if (kCounted) reached[k] = V::inc_if(reached[k], kMasked ? V::both(over, m) : over);
    }
    if (kCounted && kMasked) valid = V::inc_if(valid, m);
    V::store_bytes(leaf + i, kMasked ? V::select_counts(m, id, none) : id);
  }
  if (!kCounted) return;
  int64_t before = kMasked ? lane_count<V>(valid) : vectors * V::W;
  for (int k = 0; k <= E; ++k) {
    const int64_t here = k < E ? lane_count<V>(reached[k]) : 0;
    counts[k] += before - here;
    before = here;
  }
}

template <typename V, int E, bool kMasked, bool kCounted>
void leaves_of_edges(const typename V::Scalar* d, const uint8_t* mask, int64_t n, const typename V::Scalar* edges, bool at_edge, uint8_t* leaf,
                     int64_t* counts) {
  in_blocks<V>(
      n,
      [&](int64_t at, int64_t vectors) {
        leaves_block<V, E, kMasked, kCounted>(d + at, kMasked ? mask + at : nullptr, vectors, edges, at_edge, leaf + at, counts);
      },
      [&](int64_t at, int rest) {  // what lies behind the end is masked
        uint8_t bits[16] = {}, ids[16];
        for (int k = 0; k < rest; ++k) bits[k] = kMasked ? mask[at + k] : 1;
        leaves_block<V, E, true, kCounted>(Rest<V>(d + at, rest).x, bits, 1, edges, at_edge, ids, counts);
        std::memcpy(leaf + at, ids, static_cast<size_t>(rest));
      });
}

template <typename V, int E>
void leaves_any(const typename V::Scalar* d, const uint8_t* mask, int64_t n, const typename V::Scalar* edges, bool at_edge, uint8_t* leaf,
                int64_t* counts) {
  if (mask) return counts ? leaves_of_edges<V, E, true, true>(d, mask, n, edges, at_edge, leaf, counts)
                          : leaves_of_edges<V, E, true, false>(d, mask, n, edges, at_edge, leaf, counts);
  return counts ? leaves_of_edges<V, E, false, true>(d, mask, n, edges, at_edge, leaf, counts)
                : leaves_of_edges<V, E, false, false>(d, mask, n, edges, at_edge, leaf, counts);
}

template <typename V>
void leaves_sweep(const typename V::Scalar* d, const uint8_t* mask, int64_t n, const typename V::Scalar* edges, int n_edges, bool at_edge,
                  uint8_t* leaf, int64_t* counts) {
  switch (n_edges) {
    case 0: return leaves_any<V, 0>(d, mask, n, edges, at_edge, leaf, counts);
    case 1: return leaves_any<V, 1>(d, mask, n, edges, at_edge, leaf, counts);
    case 3: return leaves_any<V, 3>(d, mask, n, edges, at_edge, leaf, counts);
    default: return leaves_any<V, 7>(d, mask, n, edges, at_edge, leaf, counts);
  }
}

}  // namespace dadkit::DADKIT_UNIT
