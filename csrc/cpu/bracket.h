// Brackets around the wanted ranks of all segments, from a small stratified sample. They decide speed, never a result.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "pixels.h"

namespace dadkit {

template <typename T>
struct OrderSample {
  T value;
  uint8_t leaf;
};

template <typename T>
struct SampleScratch {
  Buffer<OrderSample<T>> drawn, sorted;
};

template <typename T>
class Brackets {
 public:
  T lo[kMaxContexts], hi[kMaxContexts], pivot[kMaxContexts];

  void find(const Pixels<T>& pixels, const Segmentation& seg, const Source<T>& x, const int64_t* count, const int64_t* rank,
            SampleScratch<T>* scratch) {
    const T inf = std::numeric_limits<T>::infinity();
    for (int u = 0; u < seg.contexts; ++u) {
      lo[u] = -inf;
      hi[u] = inf;
      pivot[u] = 0;
    }
    const int64_t n = pixels.layout.n;
    if (n <= 4 * kSamples) return;
    Sample* sample = scratch->drawn.need(kSamples + 1);
    const int64_t size = draw(pixels, x, n / kSamples, sample);
    sample = sort(sample, size, scratch->sorted.need(kSamples + 1));
    places(seg, sample, size, count, rank);
    for (int l = 0; l < seg.levels; ++l) {
      int64_t seen[kMaxContexts] = {};
      const int8_t* context = seg.context[l];
      for (int64_t i = 0; i < size; ++i) {
        const int u = context[sample[i].leaf];
        if (u != kNoContext && seen[u]++ == next_[u]) take(u, sample[i].value);
      }
    }
  }

 private:
  static constexpr int64_t kSamples = 4096;
  static constexpr int64_t kAllCandidates = 2048;  // segments this small need no bracket
  static constexpr int64_t kNever = -1;

  using Sample = OrderSample<T>;

  // One pixel of every stratum, at a place that no pattern of the map can follow; fetched ahead, for no hardware foresees the places.
  static int64_t draw(const Pixels<T>& pixels, const Source<T>& x, int64_t stride, Sample* sample) {
    constexpr int64_t kAhead = 32;
    int64_t place[kAhead];
    uint32_t state = 0x9e3779b9u;
    int64_t size = 0;
    for (int64_t j = 0; j < kSamples + kAhead; ++j) {
      int64_t& slot = place[j % kAhead];
      if (j >= kAhead) {
        const T value = x.at(slot);
        const uint8_t leaf = pixels.leaf[slot];
        sample[size] = {value, leaf};
        size += leaf != kNoLeaf && std::isfinite(value);
      }
      if (j >= kSamples) continue;
      state = state * 1664525u + 1013904223u;
      slot = j * stride + static_cast<int64_t>((static_cast<uint64_t>(state) * static_cast<uint64_t>(stride)) >> 32);
      __builtin_prefetch(pixels.leaf + slot);
      x.prefetch(slot);
    }
    return size;
  }

  // By value, with the float's bits as an integer key: three passes of eleven bits. Doubles are no hot path.
  static Sample* sort(Sample* sample, int64_t size, Sample* other) {
    if (sizeof(T) != 4) {
      std::stable_sort(sample, sample + size, [](const Sample& a, const Sample& b) { return a.value < b.value; });
      return sample;
    }
    constexpr uint32_t kBuckets = 2048;
    uint32_t at[3][kBuckets] = {};
    for (int64_t i = 0; i < size; ++i) {
      const uint32_t k = key(sample[i].value);
      ++at[0][k % kBuckets];
      ++at[1][(k >> 11) % kBuckets];
      ++at[2][k >> 22];
    }
    for (int pass = 0; pass < 3; ++pass) {
      uint32_t before = 0;
      for (uint32_t& bucket : at[pass]) {
        const uint32_t here = bucket;
        bucket = before;
        before += here;
      }
      for (int64_t i = 0; i < size; ++i) other[at[pass][(key(sample[i].value) >> (11 * pass)) % kBuckets]++] = sample[i];
      std::swap(sample, other);
    }
    return sample;
  }
  static uint32_t key(T value) {
    const float narrow = static_cast<float>(value);
    uint32_t bits;
    std::memcpy(&bits, &narrow, 4);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
  }

  // Where a context's bracket and pivot lie among its samples.
  void places(const Segmentation& seg, const Sample* sample, int64_t size, const int64_t* count, const int64_t* rank) {
    int64_t of_leaf[kMaxLeaves] = {}, drawn[kMaxContexts] = {};
    for (int64_t i = 0; i < size; ++i) ++of_leaf[sample[i].leaf];
    for (int l = 0; l < seg.levels; ++l)
      for (int c = 0; c < seg.leaves; ++c)
        if (seg.context[l][c] != kNoContext) drawn[seg.context[l][c]] += of_leaf[c];
    for (int u = 0; u < seg.contexts; ++u) {
      const int64_t m = drawn[u];
      next_[u] = low_[u] = middle_[u] = high_[u] = kNever;
      if (count[u] <= kAllCandidates || m < 64) continue;
      const double q = (static_cast<double>(rank[u]) + 0.5) / static_cast<double>(count[u]);
      const double place = q * static_cast<double>(m), half = 3.5 * std::sqrt(place * (1 - q)) + 2;
      low_[u] = static_cast<int64_t>(place - half) - 1;
      high_[u] = static_cast<int64_t>(place + half) + 1;
      middle_[u] = std::min<int64_t>(m - 1, static_cast<int64_t>(place));
      next_[u] = low_[u] >= 0 ? low_[u] : middle_[u];
    }
  }

  // low < middle < high, and each is met once
  void take(int u, T value) {
    if (next_[u] == low_[u]) {
      lo[u] = value;
      next_[u] = middle_[u];
    } else if (next_[u] == middle_[u]) {
      pivot[u] = value;
      next_[u] = high_[u];
    } else {
      hi[u] = value;
      next_[u] = kNever;
    }
  }

  int64_t low_[kMaxContexts], middle_[kMaxContexts], high_[kMaxContexts], next_[kMaxContexts];
};

}  // namespace dadkit
