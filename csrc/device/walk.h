// The walk over an image's pixels: a call's arguments, how maps are read and written, which leaf each pixel lies in, sums per leaf.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cmath>

#include "../common/record.h"
#include "block.h"

namespace dadkit::device {

// ------------------------------------------------------------------------------------------------ maps as they are stored
// kGroup values that are read or written at once where that is allowed.
template <typename T>
struct alignas(kGroup * sizeof(T) > 16 ? 16 : kGroup * sizeof(T)) Group {
  T at[kGroup];

  template <typename From>
  static DADKIT_DEVICE Group of(Group<From> from) {
    Group y;
    for (int k = 0; k < kGroup; ++k) y.at[k] = static_cast<T>(static_cast<float>(from.at[k]));  // one of the two is half precision
    return y;
  }
};

// Maps of half precision are read and written as they are, and computed in float32. All threads of a launch take one branch.
enum Stored : int32_t { kFull, kHalf, kBfloat };
using Half = c10::Half;
using Bfloat = c10::BFloat16;

template <typename T>
struct Output {
  void* data;
  Stored stored;

  DADKIT_DEVICE void set(int64_t i, T x) const {
    if (sizeof(T) == 8 || stored == kFull) {
      static_cast<T*>(data)[i] = x;
    } else if (stored == kHalf) {
      static_cast<Half*>(data)[i] = static_cast<Half>(static_cast<float>(x));
    } else {
      static_cast<Bfloat*>(data)[i] = static_cast<Bfloat>(static_cast<float>(x));
    }
  }
  // the g-th group
  DADKIT_DEVICE void set_group(int64_t g, const Group<T>& x) const {
    if (sizeof(T) == 8 || stored == kFull) {
      static_cast<Group<T>*>(data)[g] = x;
    } else if (stored == kHalf) {
      static_cast<Group<Half>*>(data)[g] = Group<Half>::of(x);
    } else {
      static_cast<Group<Bfloat>*>(data)[g] = Group<Bfloat>::of(x);
    }
  }
};

template <typename T>
struct Input {
  const void* data;
  Stored stored;

  DADKIT_DEVICE explicit operator bool() const { return data != nullptr; }
  DADKIT_DEVICE Input from(int64_t i) const {
    return {static_cast<const uint8_t*>(data) + i * static_cast<int64_t>(stored == kFull ? sizeof(T) : sizeof(Half)), stored};
  }
  template <typename Index>
  DADKIT_DEVICE T operator[](Index i) const {
    if (sizeof(T) == 8 || stored == kFull) return static_cast<const T*>(data)[i];
    if (stored == kHalf) return static_cast<T>(static_cast<float>(static_cast<const Half*>(data)[i]));
    return static_cast<T>(static_cast<float>(static_cast<const Bfloat*>(data)[i]));
  }
  // the g-th group
  DADKIT_DEVICE Group<T> group(int g) const {
    if (sizeof(T) == 8 || stored == kFull) return static_cast<const Group<T>*>(data)[g];
    if (stored == kHalf) return Group<T>::of(static_cast<const Group<Half>*>(data)[g]);
    return Group<T>::of(static_cast<const Group<Bfloat>*>(data)[g]);
  }
};

// ------------------------------------------------------------------------------------------------ arguments
enum Side { kTarget = 0, kPred = 1, kSides = 2 };

// Where a row or a column of a patch reads the map: pixel `first`, and with weight `frac` the one behind it.
template <typename T>
struct Tap {
  int32_t first;
  T frac;
};

// Patches that read a map through boxes.
template <typename T>
struct Boxes {
  const T* at;      // [patches, 4]: left, top, right, bottom in pixels of the map; nullptr: there are no patches
  Input<T> map;     // [patches / per_map, height, width]
  int64_t per_map, height, width;
  Tap<T>* row_tap;  // [patches, rows of a patch]
  Tap<T>* col_tap;  // [patches, columns of a patch]
  int32_t* row_start;  // [patches, height + 2]: number of row taps whose `first` is below
  int32_t* col_start;  // [patches, width + 2]

  DADKIT_DEVICE bool present(int64_t k) const { return !at || (at[4 * k + 2] > at[4 * k] && at[4 * k + 3] > at[4 * k + 1]); }

  // the map's value at row y and column x of patch k, of `rows` x `cols`, with the roundings of the reference
  DADKIT_DEVICE T sample(int64_t k, int64_t y, int64_t x, int64_t rows, int64_t cols) const {
    const Tap<T> row = row_tap[k * rows + y], col = col_tap[k * cols + x];
    const Input<T> top = map.from(k / per_map * height * width + row.first * width + col.first), bottom = top.from(row.frac > 0 ? width : 0);
    return between(top, bottom, row.frac, col.frac);
  }
};

template <typename T>
struct Maps {
  Input<T> pred;        // [images, n]; none: only the target matters, or it is read through boxes
  Input<T> target;      // [images, n]
  const uint8_t* mask;  // [images, n], or nullptr: all pixels are valid
  int64_t images, height, width, n;  // n = height x width
  int64_t slice, slices;             // pixels of a block, blocks of an image
  bool groups;                       // maps may be read kGroup pixels at once
  bool through_boxes;                // pred is `boxes` sampled
  Boxes<T> boxes;

  DADKIT_DEVICE bool valid(int64_t b, int64_t i) const { return !mask || mask[b * n + i]; }
  DADKIT_DEVICE int64_t slice_end(int64_t s) const { return (s + 1) * slice < n ? (s + 1) * slice : n; }
  DADKIT_DEVICE int64_t row_of(int64_t i) const {
    return i < 0x7fffffff ? static_cast<int64_t>(static_cast<uint32_t>(i) / static_cast<uint32_t>(width)) : i / width;
  }
  DADKIT_DEVICE T sampled(int64_t b, int64_t i) const {
    const int64_t y = row_of(i);
    return boxes.sample(b, y, i - y * width, height, width);
  }
};

// Each counts the blocks of an image that have finished one launch: every launch of a call that asks for the last has its own, from zero.
enum Ticket { kRangeTicket, kCollectTicket, kDeviationTicket, kLossTicket, kUpstreamTicket, kMatchingTicket, kFirstPassTicket,
              kTickets = kFirstPassTicket + 8 };

struct Context {  // of one image
  uint64_t prefix[kSides];  // key of the median as far as it is known
  int64_t rank[kSides];     // what is left of its rank
  int64_t count;
  int64_t under, equal;  // pixels below, and at, the prediction's median
  double low[kSides], high[kSides];  // a bracket that should hold the median
  uint32_t at_low[kSides], at_high[kSides], inside[kSides];  // values at its ends and strictly between them; those are listed
  double median[kSides], mad[kSides], scale[kSides];
  double sign_sum;
  double upstream[2];  // sums of the upstream gradient v of N and of v N
  double mad_slope, tie_slope;
  int32_t kept, floored;
};

struct Image {
  uint64_t top[kSides], bottom[kSides];  // keys of the largest finite value and, inverted, of the smallest
  int64_t valid, bad;                    // valid pixels; those that are not finite
  double edges[9];
  double low[kSides], high[kSides];  // range of the finite values
  double largest[kSides], global_mad[kSides];
  int32_t flat[kSides];
  int32_t status;  // record::Status
  uint32_t ticket[kTickets];
};

// What a pixel of a leaf needs on a level.
template <typename T>
struct Terms {
  T m_p, inv_p, m_d, inv_d;
  T side, mad, tie;
};

// How images are cut into segments, and what is known of every segment.
template <typename T>
struct Cut {
  Options options;
  Segmentation seg;
  int finest;          // of the options' segments
  bool sides[kSides];  // whose statistics are wanted
  bool keep_all;       // no segment is dropped, and no level shares a pixel with another: normalised maps
  Image* image;        // [images]
  Context* context;    // [images, seg.contexts]
  Terms<T>* terms;     // [images, seg.leaves, seg.levels]
  double* share;       // [images, seg.leaves]: 1 / number of kept segments of its pixels

  DADKIT_DEVICE Context& at(int64_t b, int u) const { return context[b * seg.contexts + u]; }
  DADKIT_DEVICE Terms<T>& terms_of(int64_t b, int leaf, int l) const { return terms[(b * seg.leaves + leaf) * seg.levels + l]; }
  DADKIT_DEVICE int context_of(int l, int leaf) const { return seg.context[l][leaf]; }
};

// Sums over an image.
struct Sums {
  double* total;    // [images, values]
  double* partial;  // [images, slices, values]
  int values;       // of an image, at most

  DADKIT_DEVICE const double* of(int64_t b) const { return total + b * values; }
};

// ------------------------------------------------------------------------------------------------ the walk
// Most calls are plain: segments by range, variant dadkit, no more than four leaves, maps that can be read kGroup pixels at once. Kernels
// compiled for those, with a mask and without, decide nothing of this per pixel.
enum Walk { kGeneral, kMasked, kPlain };
constexpr int kPlainLeaves = 4, kPlainContexts = 8;

template <typename T>
Walk walk_of(const Maps<T>& maps, const Cut<T>& cut) {
  const bool plain = cut.options.partition == kRange && cut.options.variant == kDadkit && !maps.through_boxes && maps.groups && maps.pred.data &&
                     maps.target.data && cut.finest <= kPlainLeaves && cut.seg.levels <= 3 && cut.seg.contexts <= kPlainContexts;
  return plain ? (maps.mask ? kMasked : kPlain) : kGeneral;
}

// Which leaf a pixel lies in; a copy of an image's borders near the threads.
template <typename T>
struct Rule {
  T edges[9];

  template <typename Block>
  DADKIT_DEVICE void load(const Cut<T>& cut, int64_t b, const Block& block) {
    for_each(block, 9, [&](int k) {
      edges[k] = k < cut.finest || cut.options.variant == kHdn ? static_cast<T>(cut.image[b].edges[k]) : T(INFINITY);
    });
  }

  // of a plain call with L levels: one level has one leaf
  template <int L>
  DADKIT_DEVICE int plain_leaf(T d) const {
    return L == 1 ? 0 : (d >= edges[1]) + (d >= edges[2]) + (d >= edges[3]);
  }

  // of a valid pixel i with target d; -1 where it lies in no segment (variant hdn)
  DADKIT_DEVICE int leaf(const Maps<T>& maps, const Cut<T>& cut, int64_t i, T d) const {
    const int finest = cut.finest;
    if (cut.options.partition == kGrid) {
      const int64_t y = maps.row_of(i);
      return grid_cell(y, maps.height, finest) * finest + grid_cell(i - y * maps.width, maps.width, finest);
    }
    const bool hdn = cut.options.variant == kHdn, by_range = cut.options.partition == kRange;
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

// Calls f(i, left, valid, targets, predictions) for the groups of kGroup pixels of thread t in the block's slice, of which `left` exist. Where
// `values`, the maps there are are read (through boxes: where the pixel is valid).
template <Walk kWalk, typename T, typename Block, typename F>
DADKIT_DEVICE void for_groups(const Maps<T>& maps, const Block& block, int t, bool values, const F& f) {
  const int64_t b = block.image, begin = block.slice * maps.slice, end = maps.slice_end(block.slice);
  Group<uint8_t> m;
  if constexpr (kWalk != kGeneral) {
    const int groups = static_cast<int>((end - begin) / kGroup);
    const Input<T> target = maps.target.from(b * maps.n + begin), pred = maps.pred.from(b * maps.n + begin);
    const uint8_t* mask = kWalk == kMasked ? maps.mask + b * maps.n + begin : nullptr;
    for (int k = 0; k < kGroup; ++k) m.at[k] = 1;
    for (int g = t; g < groups; g += block.size()) {
      if (kWalk == kMasked) m = reinterpret_cast<const Group<uint8_t>*>(mask)[g];
      f(begin + g * kGroup, static_cast<int64_t>(kGroup), m, target.group(g), pred.group(g));
    }
  } else {
    for (int64_t i = begin + t * kGroup; i < end; i += static_cast<int64_t>(block.size()) * kGroup) {
      const int64_t left = end - i, at = b * maps.n + i;
      auto read = [&](const Input<T>& from) {
        if (maps.groups) return from.from(at).group(0);
        Group<T> y;
        for (int k = 0; k < kGroup; ++k) y.at[k] = k < left ? from[at + k] : T(0);
        return y;
      };
      Group<T> d{}, p{};
      for (int k = 0; k < kGroup; ++k) m.at[k] = k < left && maps.valid(b, i + k);
      if (values && maps.target) d = read(maps.target);
      if (values && maps.pred) p = read(maps.pred);
      DADKIT_UNROLL
      for (int k = 0; k < kGroup; ++k) {
        if (values && maps.through_boxes && m.at[k]) p.at[k] = maps.sampled(b, i + k);
      }
      f(i, left, m, d, p);
    }
  }
}

// The same pixel by pixel: f(i, valid, target, prediction).
template <Walk kWalk, typename T, typename Block, typename F>
DADKIT_DEVICE void for_pixels(const Maps<T>& maps, const Block& block, int t, bool values, const F& f) {
  for_groups<kWalk>(maps, block, t, values, [&](int64_t i, int64_t left, const Group<uint8_t>& m, const Group<T>& d, const Group<T>& p) {
    DADKIT_UNROLL
    for (int k = 0; k < kGroup; ++k) {
      if (k < left) f(i + k, m.at[k] != 0, d.at[k], p.at[k]);
    }
  });
}

// ------------------------------------------------------------------------------------------------ sums over an image
// kValues sums over an image for each of `groups` groups (leaves, scales), of nothing if not `some`. sweep(t, first, here) adds what thread
// t's pixels give the groups first … first + here - 1 to the slots: as many groups at once as there are slots for. Returns whether this is
// the image's last block to finish: there sums.of(image) holds them all.
template <int kValues, typename T, int kSlots, typename Block, typename Sweep>
DADKIT_DEVICE bool sum_image(const Sums& sums, const Block& block, Slots<T, kSlots>* slots, bool some, int groups, uint32_t* ticket,
                             const Sweep& sweep) {
  constexpr int kGroups = kSlots / kValues;
  double* partial = sums.partial + block.image * block.slices * sums.values;
  for (int first = 0; some && first < groups; first += kGroups) {
    const int here = groups - first < kGroups ? groups - first : kGroups;
    clear_slots(block, slots, here * kValues);
    block.threads([&](int t) { sweep(t, first, here); });
    sum_slots(block, slots, here * kValues, partial + block.slice * sums.values + first * kValues);
  }
  if (!block.last(ticket)) return false;
  if (!some) return true;
  sum_items(block, slots->part, groups * kValues, static_cast<int>(block.slices),
            [&](int v, int k, int) { return partial[static_cast<int64_t>(k) * sums.values + v]; },
            [&](int v, double sum) { sums.total[block.image * sums.values + v] = sum; });
  return true;
}

// What sums per leaf need in shared memory.
template <typename T, int kSlots = Slots<T>::kCount>
struct LeafShared {
  Rule<T> rule;
  Slots<T, kSlots> slots;
};
// Slots for Run's sums: in a plain call exactly those of its leaves.
template <typename T, typename Run, int L, Walk kWalk>
using LeafSharedOf = LeafShared<T, kWalk != kGeneral ? Run::kValues * (L == 1 ? 1 : kPlainLeaves) : Slots<T>::kCount>;

// Sums of an image per leaf, Run::kValues of each, in one walk over its pixels (in several where there are more leaves than slots); see
// sum_image. Neighbours mostly lie in one leaf: a thread's Run, from make(), keeps that leaf's constants and sums in registers.
//   run.enter(leaf)     the constants of a leaf
//   run.add(i, d, p)    a pixel of that leaf, into run.sum
//   run.outside(i, on)  a pixel that lies in no leaf
template <int L, Walk kWalk, typename T, int kSlots, typename Block, typename Make>
DADKIT_DEVICE bool sum_leaves(const Maps<T>& maps, const Cut<T>& cut, const Sums& sums, const Block& block, LeafShared<T, kSlots>& shared, bool some,
                              Ticket ticket, const Make& make) {
  constexpr int kValues = decltype(make())::kValues;
  constexpr bool kOneLeaf = kSlots / kValues == 1;
  if (some) shared.rule.load(cut, block.image, block);
  uint32_t* counter = &cut.image[block.image].ticket[ticket];
  return sum_image<kValues>(sums, block, &shared.slots, some, cut.seg.leaves, counter, [&](int t, int first, int here) {
    auto run = make();
    int current = -1;
    auto leave = [&] {
      if (current < 0) return;
      const int slot = kOneLeaf ? 0 : (current - first) * kValues;
      DADKIT_UNROLL
      for (int v = 0; v < kValues; ++v) shared.slots.at[slot + v][t] += run.sum[v];
    };
    const Rule<T> rule = shared.rule;  // plain: three borders in registers
    for_pixels<kWalk>(maps, block, t, true, [&](int64_t i, bool on, T d, T p) {
      int leaf = -1;
      if constexpr (kWalk == kGeneral) {
        if (on) leaf = shared.rule.leaf(maps, cut, i, d);
        if (leaf < 0 && first == 0) run.outside(i, on);
        if (leaf < first || leaf >= first + here) return;
      } else {
        if (kWalk == kMasked && !on) return run.outside(i, false);
        leaf = rule.template plain_leaf<L>(d);
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

}  // namespace dadkit::device
