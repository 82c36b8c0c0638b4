// The pixels of one image and the leaf of each: from a map in memory, or from a patch that is sampled through a box block by block, never as a
// whole.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "tasks.h"
#include "team.h"

namespace dadkit {

// An uninitialised array that grows and is used again from image to image.
template <typename U>
class Buffer {
 public:
  U* need(size_t n) {
    if (n > size_) {
      data_.reset();
      data_.reset(new U[n]);
      size_ = n;
    }
    return data_.get();
  }

 private:
  std::unique_ptr<U[]> data_;
  size_t size_ = 0;
};

// Strips are the unit of parallel work and of summation, a function of the image's shape alone: that makes all results independent of
// the number of threads. Blocks are what is sampled at once.
struct Layout {
  int64_t n, block, strip;
  int64_t strips() const { return n == 0 ? 0 : (n + strip - 1) / strip; }
  int64_t first(int64_t s) const { return s * strip; }
  int64_t size(int64_t s) const { return std::min(strip, n - s * strip); }

  static Layout of_map(int64_t n) {
    constexpr int64_t kStrip = 32768;
    return {n, kStrip, kStrip};
  }
  static Layout of_patch(int64_t h, int64_t w) {
    const int64_t block = std::max<int64_t>(1, 4096 / w) * w;
    return {h * w, block, block * std::max<int64_t>(1, 32768 / block)};
  }
};

template <typename T>
class Source {
 public:
  explicit Source(const T* map) : map_(map) {}
  Source(const PatchTask<T>* patch, const Sweeps<T>* sweeps) : patch_(patch), sweeps_(sweeps) {}

  // Calls f(pixels, first, n) for the blocks of strip s.
  template <typename F>
  void blocks(const Layout& layout, int64_t s, const F& f) const {
    const int64_t from = layout.first(s), size = layout.size(s);
    if (map_) {
      f(map_ + from, from, size);
      return;
    }
    std::vector<T> line(static_cast<size_t>(patch_->col_hi - patch_->col_lo + 2)), pixels(static_cast<size_t>(layout.block));
    for (int64_t at = 0; at < size; at += layout.block) {
      const int64_t n = std::min(layout.block, size - at);
      sweeps_->sample(patch_, (from + at) / patch_->w, n / patch_->w, line.data(), pixels.data());
      f(static_cast<const T*>(pixels.data()), from + at, n);
    }
  }

  void prefetch(int64_t i) const {
    if (map_) __builtin_prefetch(map_ + i);
  }

  T at(int64_t i) const {
    if (map_) return map_[i];
    const int64_t y = i / patch_->w, x = i % patch_->w;
    const T down = patch_->row_frac[y], along = patch_->col_frac[x];
    const T* top = patch_->map + patch_->row[y] * patch_->width + patch_->col_lo + patch_->col[x];
    const T* bottom = top + (down > 0 ? patch_->width : 0);
    return between(top, bottom, down, along);
  }

 private:
  const T* map_ = nullptr;
  const PatchTask<T>* patch_ = nullptr;
  const Sweeps<T>* sweeps_ = nullptr;
};

// One image, cut into leaves.
template <typename T>
struct Pixels {
  const Sweeps<T>* sweeps;
  Layout layout;
  const uint8_t* leaf;
  const int64_t* counts;  // strips x kMaxLeaves
  Team* team;             // or nullptr

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
