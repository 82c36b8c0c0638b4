// What the kernels of one call share: the maps, the options, and every image's state in device memory.
#pragma once

#include "block.h"

namespace dadkit {
namespace device {

constexpr int kBins = 256;
enum Side { kTarget = 0, kPred = 1, kSides = 2 };

struct Context {  // of one image
  uint64_t prefix[kSides];  // key of the median as far as it is known
  int64_t rank[kSides];     // what is left of its rank
  int64_t count;
  int64_t under, equal;  // pixels below, and at, the prediction's median
  double median[kSides], mad[kSides], scale[kSides];
  double sign_sum;
  double upstream[2];  // sums of the upstream gradient v of N and of v N
  double mad_slope, tie_slope;
  int32_t kept, floored;
};

struct Image {
  uint64_t top[kSides], bottom[kSides];  // keys of the largest finite value and, inverted, of the smallest
  uint64_t heaviest;                     // key of the largest |weight|
  int64_t valid, bad;                    // valid pixels; those that are not finite
  double edges[9];
  double largest[kSides], global_mad[kSides];
  int32_t flat[kSides];
  int32_t status;  // record::Status
  uint32_t ticket[16];
};

// What a pixel of a leaf needs on a level.
template <typename T>
struct Terms {
  T m_p, inv_p, m_d, inv_d;
  T side, mad, tie;
};

// Where a row or a column of a patch reads the map: pixel `first`, and with weight `frac` the one behind it.
template <typename T>
struct Tap {
  int32_t first;
  T frac;
};

template <typename T>
struct Call {
  const T *pred, *target;
  const uint8_t* mask;
  int64_t images, n, height, width;  // of the target's maps or patches
  int64_t slice, slices;             // pixels of a block, blocks of an image
  bool sides[kSides];                // whose statistics are wanted
  bool groups;                       // maps may be read kGroup pixels at once
  bool keep_all;                     // no segment is dropped, and no level shares a pixel with another: normalised maps
  Options options;
  Segmentation seg;
  // patches that read a map of map_height x map_width through boxes; boxes is nullptr where target and pred are maps of one size
  const T* boxes;
  int64_t patches, map_height, map_width;
  Tap<T>*row_tap, *col_tap;        // images x height, images x width
  int32_t *row_start, *col_start;  // images x (map side + 2): number of taps whose `first` is below
  // state, one per image
  Image* image;
  Context* context;     // x seg.contexts
  Terms<T>* terms;      // x seg.leaves x seg.levels
  double* share;        // x seg.leaves: 1 / number of kept segments of its pixels
  double* sums;         // x values
  double* partial;      // x slices x values
  uint32_t* histogram;  // x seg.contexts x kSides x kBins
  int values;           // sums of an image, at most

  DADKIT_DEVICE Context& at(int64_t b, int u) const { return context[b * seg.contexts + u]; }
  DADKIT_DEVICE Terms<T>& terms_of(int64_t b, int leaf, int l) const { return terms[(b * seg.leaves + leaf) * seg.levels + l]; }
  DADKIT_DEVICE int context_of(int l, int leaf) const { return seg.context[l][leaf]; }
  DADKIT_DEVICE bool valid(int64_t b, int64_t i) const { return !mask || mask[b * n + i]; }
  DADKIT_DEVICE bool present(int64_t b) const { return !boxes || (boxes[4 * b + 2] > boxes[4 * b] && boxes[4 * b + 3] > boxes[4 * b + 1]); }
  DADKIT_DEVICE int64_t row_of(int64_t i) const {
    return i < 0x7fffffff ? static_cast<int64_t>(static_cast<uint32_t>(i) / static_cast<uint32_t>(width)) : i / width;
  }

  // the prediction's value at pixel i: its own, or read through the box with the roundings of the reference
  DADKIT_DEVICE T prediction(int64_t b, int64_t i) const {
    if (!boxes) return pred[b * n + i];
    const int64_t y = row_of(i), x = i - y * width;
    const Tap<T> row = row_tap[b * height + y], col = col_tap[b * width + x];
    const T* top = pred + b / patches * map_height * map_width + row.first * map_width + col.first;
    const T* bottom = top + (row.frac > 0 ? map_width : 0);
    const T left = top[0] * (1 - row.frac) + bottom[0] * row.frac;
    if (col.frac == 0) return left;  // a neighbour of weight zero is not read: it may be NaN
    return left * (1 - col.frac) + (top[1] * (1 - row.frac) + bottom[1] * row.frac) * col.frac;
  }
};

// Which leaf a pixel lies in; a copy of an image's borders near the threads.
template <typename T>
struct Rule {
  T edges[9];

  template <typename Block>
  DADKIT_DEVICE void load(const Image& image, const Block& block) {
    block.threads([&](int t) {
      for (int k = t; k < 9; k += block.size()) edges[k] = static_cast<T>(image.edges[k]);
    });
  }

  // of a valid pixel with target d; -1 where it lies in no segment (variant hdn)
  DADKIT_DEVICE int leaf(const Call<T>& c, int64_t i, T d) const {
    const int finest = c.options.finest();
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

// Calls f(i, valid, target, prediction) for the pixels of thread t in the block's slice; values are read where the pixel is valid.
template <typename T, typename Block, typename F>
DADKIT_DEVICE void for_pixels(const Call<T>& c, const Block& block, int t, bool want_target, bool want_pred, const F& f) {
  const int64_t b = block.image, first = block.slice * c.slice;
  const int64_t end = first + c.slice < c.n ? first + c.slice : c.n;
  for (int64_t i = first + t * kGroup; i < end; i += static_cast<int64_t>(block.size()) * kGroup) {
    const int64_t left = end - i;
    Group<T> d{}, p{};
    Group<uint8_t> m;
    for (int k = 0; k < kGroup; ++k) m.at[k] = k < left;
    if (c.mask) m = load_group(c.mask + b * c.n + i, left, c.groups);
    if (want_target) d = load_group(c.target + b * c.n + i, left, c.groups);
    if (want_pred && !c.boxes) p = load_group(c.pred + b * c.n + i, left, c.groups);
    DADKIT_UNROLL
    for (int k = 0; k < kGroup; ++k) {
      if (k >= left) continue;
      if (want_pred && c.boxes && m.at[k]) p.at[k] = c.prediction(b, i + k);
      f(i + k, m.at[k] != 0, d.at[k], p.at[k]);
    }
  }
}

}  // namespace device
}  // namespace dadkit
