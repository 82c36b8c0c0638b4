// One image, cut into leaves.
#pragma once

#include <cstring>
#include <vector>

#include "../common/segmentation.h"
#include "source.h"

namespace dadkit {

template <typename T>
struct Pixels {
  const Sweeps<T>* sweeps;
  Layout layout;
  const uint8_t* leaf;
  const int64_t* counts;  // strips x kMaxLeaves
  bool parallel;

  // member[leaf]: whether the leaf belongs to a context
  void members(const Segmentation& seg, int context, uint8_t* member) const {
    std::memset(member, 0, 256);
    for (int l = 0; l < seg.levels; ++l)
      for (int c = 0; c < seg.leaves; ++c)
        if (seg.context[l][c] == context) member[c] = 1;
  }

  // Adds the pixels of strips [first, last) to their contexts.
  void count_contexts(const Segmentation& seg, int64_t first, int64_t last, int64_t* count) const {
    for (int64_t s = first; s < last; ++s)
      for (int l = 0; l < seg.levels; ++l)
        for (int c = 0; c < seg.leaves; ++c)
          if (seg.context[l][c] != kNoContext) count[seg.context[l][c]] += counts[s * kMaxLeaves + c];
  }

  int64_t count_of_leaf(int c) const {
    int64_t count = 0;
    for (int64_t s = 0; s < layout.strips(); ++s) count += counts[s * kMaxLeaves + c];
    return count;
  }

  // Calls f(pixels, first, n) for all blocks of all strips, in order.
  template <typename F>
  void all_blocks(const Source<T>& x, const F& f) const {
    for (int64_t s = 0; s < layout.strips(); ++s) x.blocks(layout, s, f);
  }
};

}  // namespace dadkit
