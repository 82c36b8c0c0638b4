// Which leaves there are and which segment of every level each belongs to. Plain data, built on the host, read everywhere.
#pragma once

#include <cstdint>

#include "rules.h"

namespace dadkit {

constexpr int kMaxLevels = 8;     // segments is a subset of {1, 2, 4, 8}; variant hdn may list a level twice (see Segmentation)
constexpr int kMaxLeaves = 64;    // 8 x 8 cells of the grid partition
constexpr int kMaxContexts = 85;  // 1 + 4 + 16 + 64
constexpr uint8_t kNoLeaf = 255;

struct Options {
  int segments[4];
  int n_segments;
  Partition partition;
  Variant variant;
  int64_t min_pixels;
  double mad_floor;
  bool detach_median;

  DADKIT_BOTH int finest() const {
    int k = 1;
    for (int l = 0; l < n_segments; ++l) k = segments[l] > k ? segments[l] : k;
    return k;
  }
  DADKIT_BOTH int parts(int level) const { return partition == kGrid ? level * level : level; }
  // contexts of all user levels, in the order of TargetStats
  DADKIT_BOTH int contexts() const {
    int n = 0;
    for (int l = 0; l < n_segments; ++l) n += parts(segments[l]);
    return n;
  }
  DADKIT_BOTH bool has_whole() const {
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
  int8_t context[kMaxLevels][kMaxLeaves];
  int8_t level_of[kMaxContexts];  // 1, 2, 4, 8
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
      context[levels][c] = static_cast<int8_t>(part == kNoContext ? kNoContext : *first + part);
    }
    for (int k = 0; k < options.parts(level); ++k) level_of[*first + k] = static_cast<int8_t>(level);
    *first += options.parts(level);
    ++levels;
  }
};

}  // namespace dadkit
