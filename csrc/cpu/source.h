// The pixels of one image and the leaf of each: from a map in memory, or from a patch that is sampled through a box block by block, never as a
// whole.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>
#include <vector>

#include "tasks.h"
#include "team.h"

namespace dadkit {

// Memory that is kept from call to call, up to a limit: what malloc returns to the system after a call costs a page fault for every 4 KB of the
// next. Where two threads come at once, or a process was forked in between, one of them goes without.
class Reserve {
 public:
  using Memory = std::unique_ptr<char[]>;
  struct Block {
    Memory memory;
    size_t size = 0;
  };

  static Block take(size_t size) {
    Reserve& all = shared();
    const std::unique_lock<std::mutex> lock(all.mutex_, std::try_to_lock);
    for (size_t i = lock && size >= kSmall ? all.blocks_.size() : 0; i-- > 0;) {
      if (all.blocks_[i].size < size || all.blocks_[i].size > 2 * size) continue;
      Block found = std::move(all.blocks_[i]);
      all.blocks_.erase(all.blocks_.begin() + static_cast<std::ptrdiff_t>(i));
      all.kept_ -= found.size;
      return found;
    }
    return {Memory(new char[size]), size};
  }

  static void give(Block block) {
    Reserve& all = shared();
    const std::unique_lock<std::mutex> lock(all.mutex_, std::try_to_lock);
    if (!lock || block.size < kSmall || all.kept_ + block.size > kMost) return;
    all.kept_ += block.size;
    all.blocks_.push_back(std::move(block));
  }

 private:
  static constexpr size_t kSmall = 32 << 10;
#if defined(__SANITIZE_ADDRESS__)  // sees an access behind a block only where the block is as large as was asked for
  static constexpr size_t kMost = 0;
#else
  static constexpr size_t kMost = 64 << 20;
#endif
  static Reserve& shared() {
    static Reserve* const reserve = new Reserve;  // never destroyed: threads may outlive what is static
    return *reserve;
  }

  std::mutex mutex_;
  std::vector<Block> blocks_;
  size_t kept_ = 0;
};

// An uninitialised array that grows and is used again from image to image.
template <typename U>
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (block_.memory) Reserve::give(std::move(block_));
  }

  U* need(size_t n) {
    static_assert(std::is_trivially_destructible<U>::value, "a buffer ends nothing");
    if (n * sizeof(U) > block_.size) {
      if (block_.memory) Reserve::give(std::move(block_));
      block_ = Reserve::take(n * sizeof(U));
    }
    return reinterpret_cast<U*>(block_.memory.get());
  }

 private:
  Reserve::Block block_;
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
  Team* team;                       // or nullptr
  const uint8_t* leaf = nullptr;    // of every pixel, or of one strip that stands for all
  int64_t step = 1;                 // 0: for all
  const int64_t* counts = nullptr;  // strips x kMaxLeaves

  // From pixel `first` to the end of its strip.
  const uint8_t* leaves(int64_t first) const { return leaf + step * first; }

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
