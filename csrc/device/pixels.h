// The walk over pixels: which a thread looks at, how they are read, which leaf each lies in.
#pragma once

#include "sums.h"

namespace dadkit {
namespace device {

// Which leaf a pixel lies in; a copy of an image's borders near the threads.
template <typename T>
struct Rule {
  T edges[9];

  template <typename Block>
  DADKIT_DEVICE void load(const Image& image, const Block& block) {
    for_each(block, 9, [&](int k) { edges[k] = static_cast<T>(image.edges[k]); });
  }

  // of a valid pixel with target d; -1 where it lies in no segment (variant hdn)
  DADKIT_DEVICE int leaf(const Call<T>& c, int64_t i, T d) const {
    const int finest = c.finest;
    if (c.options.partition == kGrid) {
      const int64_t y = c.row_of(i);
      return grid_cell(y, c.height, finest) * finest + grid_cell(i - y * c.width, c.width, finest);
    }
    const bool hdn = c.options.variant == kHdn, by_range = c.options.partition == kRange;
    const T margin = hdn && by_range ? static_cast<T>(kHdnTopMargin) : T(0);
    // all borders are one value near zero: every pixel lies in all segments alike, which is the same as in one
    if (hdn && by_range && edges[0] == edges[finest] && edges[0] + margin > edges[0]) return 0;
    int k = 0;
    for (int j = 1; j < finest; ++j) k += hdn || by_range ? d >= edges[j] : d > edges[j];
    if (!hdn) return k;
    if (!(d >= edges[0]) || !(d < edges[k + 1] + margin)) return -1;
    if (margin > 0 && k > 0 && d < edges[k] + margin) return finest + k - 1;
    return k;
  }
};

// kGroup values that are read at once where that is allowed.
template <typename T>
struct alignas(kGroup * sizeof(T) > 16 ? 16 : kGroup * sizeof(T)) Group {
  T at[kGroup];
};

template <typename T>
DADKIT_DEVICE Group<T> load_group(const T* from, int64_t n, bool whole) {
  if (whole) return *reinterpret_cast<const Group<T>*>(from);
  Group<T> g;
  for (int k = 0; k < kGroup; ++k) g.at[k] = k < n ? from[k] : T(0);
  return g;
}

// Calls f(i, valid, target, prediction) for the pixels of thread t in the block's slice. Where `values`, the maps there are are read
// (through boxes: where the pixel is valid).
template <typename T, typename Block, typename F>
DADKIT_DEVICE void for_pixels(const Call<T>& c, const Block& block, int t, bool values, const F& f) {
  const int64_t b = block.image, end = c.slice_end(block.slice);
  for (int64_t i = block.slice * c.slice + t * kGroup; i < end; i += static_cast<int64_t>(block.size()) * kGroup) {
    const int64_t left = end - i;
    Group<T> d{}, p{};
    Group<uint8_t> m;
    for (int k = 0; k < kGroup; ++k) m.at[k] = k < left;
    if (c.mask) m = load_group(c.mask + b * c.n + i, left, c.groups);
    if (values && c.target) d = load_group(c.target + b * c.n + i, left, c.groups);
    if (values && c.pred && !c.boxes) p = load_group(c.pred + b * c.n + i, left, c.groups);
    DADKIT_UNROLL
    for (int k = 0; k < kGroup; ++k) {
      if (k >= left) continue;
      if (values && c.boxes && m.at[k]) p.at[k] = c.prediction(b, i + k);
      f(i + k, m.at[k] != 0, d.at[k], p.at[k]);
    }
  }
}

// What sums per leaf need in shared memory.
template <typename T>
struct LeafShared {
  Rule<T> rule;
  Slots<T> slots;
};

// Sums of an image per leaf, Run::kValues of each, in one walk over its pixels (in several where there are more leaves than slots); see
// sum_image. Neighbours mostly lie in one leaf: a thread's Run, from make(), keeps that leaf's constants and sums in registers.
//   run.enter(leaf)     the constants of a leaf
//   run.add(i, d, p)    a pixel of that leaf, into run.sum
//   run.outside(i, on)  a pixel that lies in no leaf
template <typename T, typename Block, typename Make>
DADKIT_DEVICE bool sum_leaves(const Call<T>& c, const Block& block, LeafShared<T>& shared, bool some, Ticket ticket, const Make& make) {
  constexpr int kValues = decltype(make())::kValues;
  constexpr bool kOneLeaf = Slots<T>::kCount / kValues == 1;
  if (some) shared.rule.load(c.image[block.image], block);
  return sum_image<kValues>(c, block, &shared.slots, some, c.seg.leaves, ticket, [&](int t, int first, int here) {
    auto run = make();
    int current = -1;
    auto leave = [&] {
      if (current < 0) return;
      const int slot = kOneLeaf ? 0 : (current - first) * kValues;
      DADKIT_UNROLL
      for (int v = 0; v < kValues; ++v) shared.slots.at[slot + v][t] += run.sum[v];
    };
    for_pixels(c, block, t, true, [&](int64_t i, bool on, T d, T p) {
      const int leaf = on ? shared.rule.leaf(c, i, d) : -1;
      if (leaf < 0 && first == 0) run.outside(i, on);
      if (leaf < first || leaf >= first + here) return;
      if (leaf != current) {
        leave();
        current = leaf;
        DADKIT_UNROLL
        for (int v = 0; v < kValues; ++v) run.sum[v] = T(0);
        run.enter(leaf);
      }
      run.add(i, d, p);
    });
    leave();
  });
}

}  // namespace device
}  // namespace dadkit
