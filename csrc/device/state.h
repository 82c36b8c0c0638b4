// What the kernels of one call share: the maps, the options, and every image's state in device memory.
#pragma once

#include "../common/record.h"
#include "block.h"

namespace dadkit {
namespace device {

constexpr int kBins = 256;
enum Side { kTarget = 0, kPred = 1, kSides = 2 };

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

// Where a row or a column of a patch reads the map: pixel `first`, and with weight `frac` the one behind it.
template <typename T>
struct Tap {
  int32_t first;
  T frac;
};

template <typename T>
struct Call {
  const T* pred;        // [images, n], or through boxes [images / patches, map_height, map_width]; nullptr: only the target matters
  const T* target;      // [images, n]
  const uint8_t* mask;  // [images, n], or nullptr: all pixels are valid
  int64_t images, n, height, width;  // of the target's maps or patches; n = height x width
  int64_t slice, slices;             // pixels of a block, blocks of an image
  bool sides[kSides];                // whose statistics are wanted
  bool groups;                       // maps may be read kGroup pixels at once
  bool through_boxes;                // pred is read through boxes, not pixel by pixel
  bool keep_all;                     // no segment is dropped, and no level shares a pixel with another: normalised maps
  Options options;
  Segmentation seg;
  int finest;  // of the options' segments
  // patches that read a map of map_height x map_width through boxes; boxes is nullptr where target and pred are maps of one size
  const T* boxes;  // [images, 4]: left, top, right, bottom in pixels of the map
  int64_t patches, map_height, map_width;
  Tap<T>*row_tap, *col_tap;        // [images, height], [images, width]
  int32_t *row_start, *col_start;  // [images, map side + 2]: number of taps whose `first` is below
  // state
  Image* image;         // [images]
  Context* context;     // [images, seg.contexts]
  Terms<T>* terms;      // [images, seg.leaves, seg.levels]
  double* share;        // [images, seg.leaves]: 1 / number of kept segments of its pixels
  double* sums;         // [images, values]
  double* partial;      // [images, slices, values]
  uint32_t* histogram;  // [images, seg.contexts, kSides, kBins]
  T* listed;            // [images, seg.contexts, kSides, capacity]: values inside the brackets, in no order
  T* resampled;         // [images, n]: what pred is through the boxes
  uint32_t capacity;
  int values;           // sums of an image, at most

  DADKIT_DEVICE Context& at(int64_t b, int u) const { return context[b * seg.contexts + u]; }
  DADKIT_DEVICE Terms<T>& terms_of(int64_t b, int leaf, int l) const { return terms[(b * seg.leaves + leaf) * seg.levels + l]; }
  DADKIT_DEVICE int context_of(int l, int leaf) const { return seg.context[l][leaf]; }
  DADKIT_DEVICE bool valid(int64_t b, int64_t i) const { return !mask || mask[b * n + i]; }
  DADKIT_DEVICE int64_t slice_end(int64_t s) const { return (s + 1) * slice < n ? (s + 1) * slice : n; }
  DADKIT_DEVICE bool present(int64_t b) const { return !boxes || (boxes[4 * b + 2] > boxes[4 * b] && boxes[4 * b + 3] > boxes[4 * b + 1]); }
  DADKIT_DEVICE int64_t row_of(int64_t i) const {
    return i < 0x7fffffff ? static_cast<int64_t>(static_cast<uint32_t>(i) / static_cast<uint32_t>(width)) : i / width;
  }

  // the prediction's value at pixel i, read through the box with the roundings of the reference
  DADKIT_DEVICE T prediction(int64_t b, int64_t i) const {
    const int64_t y = row_of(i), x = i - y * width;
    const Tap<T> row = row_tap[b * height + y], col = col_tap[b * width + x];
    const T* top = pred + b / patches * map_height * map_width + row.first * map_width + col.first;
    const T* bottom = top + (row.frac > 0 ? map_width : 0);
    const T left = top[0] * (1 - row.frac) + bottom[0] * row.frac;
    if (col.frac == 0) return left;  // a neighbour of weight zero is not read: it may be NaN
    return left * (1 - col.frac) + (top[1] * (1 - row.frac) + bottom[1] * row.frac) * col.frac;
  }
};

}  // namespace device
}  // namespace dadkit
