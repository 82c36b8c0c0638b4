// The walk over pixels: which a thread looks at, how they are read, which leaf each lies in.
#pragma once

#include "sums.h"

namespace dadkit {
namespace device {

// Most calls are plain: segments by range, variant dadkit, no mask, no more than four leaves, maps that can be read kGroup pixels at once.
// Kernels compiled for those (kPlain) decide nothing of this per pixel.
constexpr int kPlainLeaves = 4, kPlainContexts = 8;

template <typename T>
bool is_plain(const Call<T>& c) {
  return c.options.partition == kRange && c.options.variant == kDadkit && !c.mask && !c.through_boxes && c.groups && c.pred && c.target &&
         c.finest <= kPlainLeaves && c.seg.levels <= 3 && c.seg.contexts <= kPlainContexts;
}

// Which leaf a pixel lies in; a copy of an image's borders near the threads.
template <typename T>
struct Rule {
  T edges[9];

  template <typename Block>
  DADKIT_DEVICE void load(const Call<T>& c, int64_t b, const Block& block) {
    for_each(block, 9, [&](int k) { edges[k] = k < c.finest || c.options.variant == kHdn ? static_cast<T>(c.image[b].edges[k]) : T(INFINITY); });
  }

  // of a plain call with L levels: one level has one leaf
  template <int L>
  DADKIT_DEVICE int plain_leaf(T d) const {
    return L == 1 ? 0 : (d >= edges[1]) + (d >= edges[2]) + (d >= edges[3]);
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

// Calls f(i, left, valid, targets, predictions) for the groups of kGroup pixels of thread t in the block's slice, of which `left` exist. Where
// `values`, the maps there are are read (through boxes: where the pixel is valid).
template <bool kPlain, typename T, typename Block, typename F>
DADKIT_DEVICE void for_groups(const Call<T>& c, const Block& block, int t, bool values, const F& f) {
  const int64_t b = block.image, begin = block.slice * c.slice;
  if constexpr (kPlain) {
    const int groups = static_cast<int>((c.slice_end(block.slice) - begin) / kGroup);
    const T *target = c.target + b * c.n + begin, *pred = c.pred + b * c.n + begin;
    Group<uint8_t> all;
    for (int k = 0; k < kGroup; ++k) all.at[k] = 1;
    for (int g = t; g < groups; g += block.size()) {
      const Group<T> d = load_group(target + g * kGroup, kGroup, true), p = load_group(pred + g * kGroup, kGroup, true);
      f(begin + g * kGroup, static_cast<int64_t>(kGroup), all, d, p);
    }
  } else {
    const int64_t end = c.slice_end(block.slice);
    for (int64_t i = begin + t * kGroup; i < end; i += static_cast<int64_t>(block.size()) * kGroup) {
      const int64_t left = end - i;
      Group<T> d{}, p{};
      Group<uint8_t> m;
      for (int k = 0; k < kGroup; ++k) m.at[k] = k < left;
      if (c.mask) m = load_group(c.mask + b * c.n + i, left, c.groups);
      if (values && c.target) d = load_group(c.target + b * c.n + i, left, c.groups);
      if (values && c.pred && !c.through_boxes) p = load_group(c.pred + b * c.n + i, left, c.groups);
      DADKIT_UNROLL
      for (int k = 0; k < kGroup; ++k) {
        if (values && c.through_boxes && k < left && m.at[k]) p.at[k] = c.prediction(b, i + k);
      }
      f(i, left, m, d, p);
    }
  }
}

// The same pixel by pixel: f(i, valid, target, prediction).
template <bool kPlain, typename T, typename Block, typename F>
DADKIT_DEVICE void for_pixels(const Call<T>& c, const Block& block, int t, bool values, const F& f) {
  for_groups<kPlain>(c, block, t, values, [&](int64_t i, int64_t left, const Group<uint8_t>& m, const Group<T>& d, const Group<T>& p) {
    DADKIT_UNROLL
    for (int k = 0; k < kGroup; ++k) {
      if (k < left) f(i + k, m.at[k] != 0, d.at[k], p.at[k]);
    }
  });
}

// What sums per leaf need in shared memory.
template <typename T, int kSlots = Slots<T>::kCount>
struct LeafShared {
  Rule<T> rule;
  Slots<T, kSlots> slots;
};
// Slots for Run's sums: in a plain call exactly those of its leaves.
template <typename T, typename Run, int L, bool kPlain>
using LeafSharedOf = LeafShared<T, kPlain ? Run::kValues * (L == 1 ? 1 : kPlainLeaves) : Slots<T>::kCount>;

// Sums of an image per leaf, Run::kValues of each, in one walk over its pixels (in several where there are more leaves than slots); see
// sum_image. Neighbours mostly lie in one leaf: a thread's Run, from make(), keeps that leaf's constants and sums in registers.
//   run.enter(leaf)     the constants of a leaf
//   run.add(i, d, p)    a pixel of that leaf, into run.sum
//   run.outside(i, on)  a pixel that lies in no leaf
template <int L, bool kPlain, typename T, int kSlots, typename Block, typename Make>
DADKIT_DEVICE bool sum_leaves(const Call<T>& c, const Block& block, LeafShared<T, kSlots>& shared, bool some, Ticket ticket, const Make& make) {
  constexpr int kValues = decltype(make())::kValues;
  constexpr bool kOneLeaf = kSlots / kValues == 1;
  if (some) shared.rule.load(c, block.image, block);
  return sum_image<kValues>(c, block, &shared.slots, some, c.seg.leaves, ticket, [&](int t, int first, int here) {
    auto run = make();
    int current = -1;
    auto leave = [&] {
      if (current < 0) return;
      const int slot = kOneLeaf ? 0 : (current - first) * kValues;
      DADKIT_UNROLL
      for (int v = 0; v < kValues; ++v) shared.slots.at[slot + v][t] += run.sum[v];
    };
    const Rule<T> rule = shared.rule;  // plain: three borders in registers
    for_pixels<kPlain>(c, block, t, true, [&](int64_t i, bool on, T d, T p) {
      const int leaf = kPlain ? rule.template plain_leaf<L>(d) : (on ? shared.rule.leaf(c, i, d) : -1);
      if constexpr (!kPlain) {
        if (leaf < 0 && first == 0) run.outside(i, on);
        if (leaf < first || leaf >= first + here) return;
      }
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
