// Which leaves there are and which segment of every level each belongs to.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>

#include "../common/rules.h"
#include "tasks.h"

namespace dadkit {

struct Options {
  int segments[4];
  int n_segments;
  Partition partition;
  Variant variant;
  int64_t min_pixels;
  double mad_floor;
  bool detach_median;

  int finest() const {
    int k = 1;
    for (int l = 0; l < n_segments; ++l) k = segments[l] > k ? segments[l] : k;
    return k;
  }
  int parts(int level) const { return partition == kGrid ? level * level : level; }
  // contexts of all user levels, in the order of TargetStats
  int contexts() const {
    int n = 0;
    for (int l = 0; l < n_segments; ++l) n += parts(segments[l]);
    return n;
  }
  bool has_whole() const {
    for (int l = 0; l < n_segments; ++l)
      if (segments[l] == 1) return true;
    return false;
  }
};

constexpr int kNoContext = -1;

// Levels: the user's, then the whole map where it is not among them (variant dadkit needs its deviation), then, for variant hdn with a
// border at zero, the user's again: there a pixel may lie in two segments of a level, and the second one is found in the copy.
struct Segmentation {
  int levels = 0;       // all
  int loss_levels = 0;  // those that enter the loss: [0, loss_levels)
  int leaves = 0;
  int contexts = 0;
  int context[kMaxLevels][kMaxLeaves];
  int level_of[kMaxContexts];  // 1, 2, 4, 8
  int whole = kNoContext;      // the context of the whole map

  void build(const Options& options, bool doubled) {
    const int finest = options.finest();
    const int base = options.parts(finest);
    leaves = doubled ? 2 * base - 1 : base;
    for (int l = 0; l < options.n_segments; ++l) add_level(options, options.segments[l], finest, base, 0, &contexts);
    loss_levels = levels;
    if (options.variant == kDadkit && !options.has_whole()) {
      int first = contexts;
      add_level(options, 1, finest, base, 0, &contexts);
      whole = first;
    }
    if (doubled) {
      int first = 0;
      for (int l = 0; l < options.n_segments; ++l) add_level(options, options.segments[l], finest, base, 1, &first);
      loss_levels = levels;
    }
    if (options.has_whole() && options.variant == kDadkit) {
      int first = 0;
      for (int l = 0; options.segments[l] != 1; ++l) first += options.parts(options.segments[l]);
      whole = first;
    }
  }

 private:
  // copy 0: leaf k belongs to its segment; leaf base + k - 1, which lies on the zero border k, to the upper one.
  // copy 1: only those leaves, and to the lower one, on the levels that have the border.
  void add_level(const Options& options, int level, int finest, int base, int copy, int* first) {
    const int step = finest / level;
    for (int c = 0; c < leaves; ++c) {
      const bool on_border = c >= base;
      const int upper = on_border ? c - base + 1 : c;
      int part;
      if (options.partition == kGrid) {
        part = (upper / finest / step) * level + upper % finest / step;
      } else {
        part = upper / step;
      }
      if (copy == 1) part = on_border && upper % step == 0 ? part - 1 : kNoContext;
      context[levels][c] = part == kNoContext ? kNoContext : *first + part;
    }
    for (int k = 0; k < options.parts(level); ++k) level_of[*first + k] = level;
    *first += options.parts(level);
    ++levels;
  }
};

// The leaf of every pixel of n, in strips; `counts` gets the leaves' pixels per strip.
template <typename T>
struct LeafRule {
  T edges[9] = {};  // borders 0 … K
  int finest = 1;
  bool doubled = false;  // variant hdn: a border is so close to zero that border + 1e-30 > border

  void finish(const Options& options) {
    finest = options.finest();
    if (options.variant != kHdn || options.partition != kRange || constant()) return;
    for (int k = 1; k < finest; ++k) doubled |= edges[k] + static_cast<T>(kHdnTopMargin) > edges[k];
  }
  // all borders are one value near zero: every pixel lies in all segments alike, which is the same as in one
  bool constant() const { return edges[0] == edges[finest] && edges[0] + static_cast<T>(kHdnTopMargin) > edges[0]; }

  void apply(const Sweeps<T>& sweeps, const Options& options, const T* d, const uint8_t* mask, int64_t first, int64_t n, int64_t height,
             int64_t width, uint8_t* leaf, int64_t* counts) const {
    if (options.partition == kGrid) {
      grid(mask, first, n, height, width, leaf, counts);
      return;
    }
    if (options.variant == kHdn && options.partition == kRange && constant()) {
      sweeps.leaves(d, mask, n, edges, 0, true, leaf, counts);
      return;
    }
    // the quantile borders of variant dadkit are values of the map: leaf = sum of [d > border]; all others: [d >= border]
    const bool at_edge = options.variant == kHdn || options.partition == kRange;
    sweeps.leaves(d, mask, n, edges + 1, finest - 1, at_edge, leaf, counts);
    if (options.variant == kHdn) hdn_borders(options, d, n, leaf, counts);
  }

 private:
  void hdn_borders(const Options& options, const T* d, int64_t n, uint8_t* leaf, int64_t* counts) const {
    const T margin = options.partition == kRange ? static_cast<T>(kHdnTopMargin) : T(0);
    for (int64_t i = 0; i < n; ++i) {
      const uint8_t c = leaf[i];
      if (c == kNoLeaf) continue;
      uint8_t now = c;
      if (!(d[i] >= edges[0]) || !(d[i] < edges[c + 1] + margin)) {
        now = kNoLeaf;
      } else if (doubled && c > 0 && d[i] < edges[c] + margin) {
        now = static_cast<uint8_t>(finest + c - 1);
      }
      if (now == c) continue;
      leaf[i] = now;
      --counts[c];
      if (now != kNoLeaf) ++counts[now];
    }
  }

  void grid(const uint8_t* mask, int64_t first, int64_t n, int64_t height, int64_t width, uint8_t* leaf, int64_t* counts) const {
    int64_t i = 0;
    while (i < n) {
      const int64_t row = (first + i) / width, column = (first + i) % width;
      const int row_cell = grid_cell(row, height, finest) * finest;
      for (int64_t x = column; x < width && i < n;) {
        const int cell = grid_cell(x, width, finest);
        int64_t end = cell + 1 < finest ? (cell + 1) * width / finest : width;
        if (end <= x) end = x + 1;
        for (; x < end && i < n; ++x, ++i) {
          const bool valid = !mask || mask[i];
          leaf[i] = valid ? static_cast<uint8_t>(row_cell + cell) : kNoLeaf;
          counts[row_cell + cell] += valid;
        }
      }
    }
  }
};

}  // namespace dadkit
