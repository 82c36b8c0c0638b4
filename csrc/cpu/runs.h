// How the sweeps walk over pixels: blocks of vectors, and in them runs of one leaf.
//
// Depth maps are smooth, so neighbouring vectors mostly lie in one leaf: every sweep walks over runs of vectors with one leaf, with that
// leaf's constants and sums in registers, and takes a mixed vector leaf by leaf. Sums are kept per lane in T over at most one block of
// 256 vectors and then added to doubles, so their rounding error does not grow with the map.
#pragma once

#include <type_traits>

#include "tasks.h"
#include "vec.h"

namespace dadkit::DADKIT_UNIT {

// Calls step(leaf, first, last, alone) for runs of whole vectors [first, last) in which every lane has that leaf (alone), or must be left out;
// step masks the lanes itself. Before the leaves of a mixed vector, and for a vector without pixels, it calls clear(vector).
template <typename V, typename Step, typename Clear>
DADKIT_INLINE void for_runs(const uint8_t* leaf, int64_t vectors, Step step, Clear clear) {
  constexpr int W = V::W;
  int64_t v = 0;
  while (v < vectors) {
    const uint8_t* here = leaf + v * W;
    int lane = 0;
    while (lane < W && here[lane] == kNoLeaf) ++lane;
    if (lane == W) {
      clear(v);
      ++v;
      continue;
    }
    const uint8_t c = here[lane];
    if (V::uniform(here, c)) {
      int64_t last = v + 1;
      while (last + 4 <= vectors && V::uniform4(leaf + last * W, c)) last += 4;
      while (last < vectors && V::uniform(leaf + last * W, c)) ++last;
      step(c, v, last, true);
      v = last;
      continue;
    }
    clear(v);
    uint64_t seen = 0;
    for (; lane < W; ++lane) {
      const uint8_t k = here[lane];
      if (k == kNoLeaf || (seen >> k & 1)) continue;
      seen |= static_cast<uint64_t>(1) << k;
      step(k, v, v + 1, false);
    }
    ++v;
  }
}

template <typename V, typename Step>
DADKIT_INLINE void for_runs(const uint8_t* leaf, int64_t vectors, Step step) {
  for_runs<V>(
      leaf, vectors, [&](uint8_t c, int64_t first, int64_t last, bool) { step(c, first, last); }, [](int64_t) {});
}

// Sweeps over levels are compiled for one to four levels and, for all else, for as many as there can be.
template <typename F>
DADKIT_INLINE void by_levels(int levels, F f) {
  switch (levels) {
    case 1: return f(std::integral_constant<int, 1>());
    case 2: return f(std::integral_constant<int, 2>());
    case 3: return f(std::integral_constant<int, 3>());
    case 4: return f(std::integral_constant<int, 4>());
    default: return f(std::integral_constant<int, kMaxLevels>());
  }
}

// Hardware stops fetching ahead at the end of a page: the sweeps over whole maps ask for what is two pages ahead themselves.
template <typename T>
DADKIT_INLINE void fetch_ahead(const T* x) {
  __builtin_prefetch(reinterpret_cast<const char*>(x) + 8192);
}
template <typename T>
DADKIT_INLINE void fetch_to_write(const T* x) {  // a store waits for the line that it changes
  __builtin_prefetch(reinterpret_cast<const char*>(x) + 4096, 1);
}

// Splits n pixels into blocks of at most 256 vectors and a rest of less than one vector.
template <typename V, typename Block, typename Rest>
DADKIT_INLINE void in_blocks(int64_t n, Block block, Rest rest) {
  constexpr int W = V::W;
  const int64_t whole = n / W;
  for (int64_t v = 0; v < whole; v += 256) block(v * W, (whole - v < 256 ? whole - v : 256));
  if (n % W) rest(whole * W, static_cast<int>(n % W));
}

// One vector with the rest of an array, zeros behind it.
template <typename V>
struct Rest {
  typename V::Scalar x[V::W] = {};
  DADKIT_INLINE Rest(const typename V::Scalar* from, int n) {
    for (int k = 0; k < n; ++k) x[k] = from[k];
  }
};

template <typename V>
struct RestLeaf {
  uint8_t x[V::W < 16 ? 16 : V::W];
  DADKIT_INLINE RestLeaf(const uint8_t* from, int n) {
    std::memset(x, kNoLeaf, sizeof(x));
    for (int k = 0; k < V::W; ++k) x[k] = k < n ? from[k] : kNoLeaf;
  }
};

template <typename V>
DADKIT_INLINE double lane_sum(typename V::F v) {
  typename V::Scalar lanes[V::W];
  V::store(lanes, v);
  double sum = 0;
  for (int k = 0; k < V::W; ++k) sum += static_cast<double>(lanes[k]);
  return sum;
}

template <typename V>
DADKIT_INLINE int64_t lane_count(typename V::I v) {
  typename V::Lane lanes[V::W];
  V::store_counts(lanes, v);
  int64_t sum = 0;
  for (int k = 0; k < V::W; ++k) sum += lanes[k];
  return sum;
}

}  // namespace dadkit::DADKIT_UNIT
