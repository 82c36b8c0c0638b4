// The leaf of every pixel.
#pragma once

#include "../common/segmentation.h"
#include "tasks.h"

namespace dadkit {

// The leaf of every pixel of a strip; the leaves' pixels are added to `counts`, where it is not nullptr.
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
    int64_t unused[kMaxLeaves] = {};
    if (options.partition == kGrid) {
      grid(mask, first, n, height, width, leaf, counts ? counts : unused);
      return;
    }
    if (options.variant == kHdn && options.partition == kRange && constant()) {
      sweeps.leaves(d, mask, n, edges, 0, true, leaf, counts);
      return;
    }
    // the quantile borders of variant dadkit are values of the map: leaf = sum of [d > border]; all others: [d >= border]
    const bool at_edge = options.variant == kHdn || options.partition == kRange;
    sweeps.leaves(d, mask, n, edges + 1, finest - 1, at_edge, leaf, counts);
    if (options.variant == kHdn) hdn_borders(options, d, n, leaf, counts ? counts : unused);
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
