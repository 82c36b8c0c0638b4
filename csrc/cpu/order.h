// Exact order statistics of many segments at once, and the sums of absolute deviations from them, in one sweep over the pixels.
//
// A small stratified sample brackets every wanted rank. The sweep counts what lies under a bracket, sums |x - pivot| outside it and keeps
// the candidates inside, so the exact value is then found among the candidates, and sum |x - m| follows without another sweep:
//   sum |x - m| = sum_outside |x - pivot| + (above - below) (pivot - m) + sum_candidates |x - m|.
// A bracket that misses is noticed by the counts and answered by a full search: the sample decides speed, never the result.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "segmentation.h"
#include "source.h"

namespace dadkit {

struct Statistic {
  double value = 0;      // the order statistic
  double deviation = 0;  // sum |x - value|
  int64_t under = 0, equal = 0;
};

template <typename T>
struct OrderSample {
  T value;
  uint8_t leaf;
};

template <typename T>
struct OrderScratch {
  Buffer<T> candidates, gathered, other;
  std::vector<OrderSample<T>> sample, sorted;
  std::vector<SelectTask<T>> tasks;
};

// One image, cut into leaves.
template <typename T>
struct Pixels {
  const Sweeps<T>* sweeps;
  Layout layout;
  const uint8_t* leaf;
  const int64_t* counts;  // strips x kMaxLeaves
  bool parallel;

  void members(const Segmentation& seg, int context, uint8_t* member) const {
    std::memset(member, 0, 256);
    for (int l = 0; l < seg.levels; ++l)
      for (int c = 0; c < seg.leaves; ++c)
        if (seg.context[l][c] == context) member[c] = 1;
  }
  void count_contexts(const Segmentation& seg, int64_t* count) const {
    std::memset(count, 0, sizeof(int64_t) * kMaxContexts);
    for (int64_t s = 0; s < layout.strips(); ++s)
      for (int l = 0; l < seg.levels; ++l)
        for (int c = 0; c < seg.leaves; ++c)
          if (seg.context[l][c] != kNoContext) count[seg.context[l][c]] += counts[s * kMaxLeaves + c];
  }
};

// k-th smallest of n values by narrowing brackets; destroys both arrays.
template <typename T>
T kth_smallest(const Sweeps<T>& sweeps, T* a, int64_t n, int64_t k, T* b) {
  constexpr int kSample = 64, kHalf = 13;  // 3.3 standard deviations of a sample's median
  while (n > 384) {
    T sample[kSample];
    for (int j = 0; j < kSample; ++j) sample[j] = a[(2 * j + 1) * n / (2 * kSample)];
    std::sort(sample, sample + kSample);
    const int at = static_cast<int>(k * kSample / n);
    const T lo = at - kHalf < 0 ? -std::numeric_limits<T>::infinity() : sample[at - kHalf];
    const T hi = at + kHalf >= kSample ? std::numeric_limits<T>::infinity() : sample[at + kHalf];
    int64_t below = 0;
    const int64_t inside = sweeps.filter(a, n, lo, hi, b, &below);
    if (k >= below && k < below + inside && inside < n) {
      std::swap(a, b);
      n = inside;
      k -= below;
      continue;
    }
    for (T end : {lo, hi}) {  // many equal values: the answer may be an end of the bracket
      double unused;
      int64_t under = 0, equal = 0;
      sweeps.deviation(a, n, end, &unused, &under, &equal);
      if (k >= under && k < under + equal) return end;
    }
    break;
  }
  std::nth_element(a, a + k, a + n);
  return a[k];
}

template <typename T>
class OrderStatistics {
 public:
  OrderStatistics(const Pixels<T>& pixels, const Segmentation& seg, OrderScratch<T>* scratch)
      : pixels_(pixels), seg_(seg), scratch_(scratch) {
    pixels.count_contexts(seg, count_);
  }

  const int64_t* counts() const { return count_; }

  // Fills out[context] for every context of seg that has pixels; false where a pixel is not finite. rank: nullptr for lower medians.
  bool compute(const Source<T>& x, const int64_t* rank, Statistic* out) {
    for (int u = 0; u < seg_.contexts; ++u) rank_[u] = rank ? rank[u] : (count_[u] - 1) / 2;
    bracket(x);
    const bool narrow = sweep(x);
    bool finite = narrow;
    if (!narrow) {  // a sum is not finite: either a pixel is not, or the sum overflowed
      finite = all_finite(x);
      if (!finite) return false;
    }
    for (int u = 0; u < seg_.contexts; ++u) {
      out[u] = Statistic();
      if (count_[u] > 0 && (!narrow || !finish(x, u, &out[u]))) search(x, u, &out[u]);
    }
    return true;
  }

 private:
  static constexpr int64_t kSamples = 4096;
  static constexpr int64_t kAllCandidates = 2048;  // segments this small need no bracket

  using Sample = OrderSample<T>;

  void bracket(const Source<T>& x) {
    const T inf = std::numeric_limits<T>::infinity();
    for (int u = 0; u < seg_.contexts; ++u) {
      lo_[u] = -inf;
      hi_[u] = inf;
      pivot_[u] = 0;
    }
    const int64_t n = pixels_.layout.n;
    if (n <= 4 * kSamples) return;
    std::vector<Sample>& sample = scratch_->sample;
    draw(x, n / kSamples, &sample);
    sort(&sample, &scratch_->sorted);
    int64_t drawn[kMaxContexts] = {};
    for (int l = 0; l < seg_.levels; ++l) {
      for (const Sample& s : sample) {
        const int u = seg_.context[l][s.leaf];
        if (u != kNoContext) ++drawn[u];
      }
    }
    // places of a context's bracket and pivot among its samples
    int64_t low[kMaxContexts], high[kMaxContexts], middle[kMaxContexts], seen[kMaxContexts] = {};
    for (int u = 0; u < seg_.contexts; ++u) {
      const int64_t m = drawn[u];
      low[u] = high[u] = middle[u] = -1;
      if (count_[u] <= kAllCandidates || m < 64) continue;
      const double q = (static_cast<double>(rank_[u]) + 0.5) / static_cast<double>(count_[u]);
      const double at = q * static_cast<double>(m), half = 3.5 * std::sqrt(at * (1 - q)) + 2;
      low[u] = static_cast<int64_t>(at - half) - 1;
      high[u] = static_cast<int64_t>(at + half) + 1;
      middle[u] = std::min<int64_t>(m - 1, static_cast<int64_t>(at));
    }
    for (int l = 0; l < seg_.levels; ++l) {
      for (const Sample& s : sample) {
        const int u = seg_.context[l][s.leaf];
        if (u == kNoContext) continue;
        const int64_t k = seen[u]++;
        if (k == low[u]) lo_[u] = s.value;
        if (k == middle[u]) pivot_[u] = s.value;
        if (k == high[u]) hi_[u] = s.value;
      }
    }
  }

  // One pixel of every stratum, at a place that no pattern of the map can follow; fetched ahead, for no hardware foresees the places.
  void draw(const Source<T>& x, int64_t stride, std::vector<Sample>* sample) const {
    constexpr int64_t kAhead = 32;
    int64_t place[kAhead];
    uint32_t state = 0x9e3779b9u;
    sample->clear();
    for (int64_t j = 0; j < kSamples + kAhead; ++j) {
      int64_t& slot = place[j % kAhead];
      if (j >= kAhead && pixels_.leaf[slot] != kNoLeaf) {
        const T value = x.at(slot);
        if (std::isfinite(value)) sample->push_back({value, pixels_.leaf[slot]});
      }
      if (j >= kSamples) continue;
      state = state * 1664525u + 1013904223u;
      slot = j * stride + static_cast<int64_t>((static_cast<uint64_t>(state) * static_cast<uint64_t>(stride)) >> 32);
      __builtin_prefetch(pixels_.leaf + slot);
      x.prefetch(slot);
    }
  }

  // By value, with the float's bits as an integer key: three passes of eleven bits. Doubles are no hot path.
  void sort(std::vector<Sample>* sample, std::vector<Sample>* other) const {
    if (sizeof(T) != 4) {
      std::stable_sort(sample->begin(), sample->end(), [](const Sample& a, const Sample& b) { return a.value < b.value; });
      return;
    }
    other->resize(sample->size());
    for (int pass = 0; pass < 3; ++pass) {
      uint32_t at[2049] = {};
      for (const Sample& s : *sample) ++at[(key(s.value) >> (11 * pass) & 2047) + 1];
      for (int k = 0; k < 2048; ++k) at[k + 1] += at[k];
      for (const Sample& s : *sample) (*other)[at[key(s.value) >> (11 * pass) & 2047]++] = s;
      std::swap(*sample, *other);
    }
  }
  static uint32_t key(T value) {
    const float narrow = static_cast<float>(value);
    uint32_t bits;
    std::memcpy(&bits, &narrow, 4);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
  }

  // Strips in parallel have sums and lists of candidates of their own, as long as they can ever become; one after the other they share them.
  bool sweep(const Source<T>& x) {
    const int64_t strips = pixels_.layout.strips(), slack = 64;
    groups_ = pixels_.parallel ? strips : std::min<int64_t>(strips, 1);
    T* next = scratch_->candidates.need(static_cast<size_t>(seg_.levels * pixels_.layout.n + groups_ * seg_.contexts * slack));
    if (scratch_->tasks.size() < static_cast<size_t>(groups_)) scratch_->tasks.resize(static_cast<size_t>(groups_));
    start_.resize(static_cast<size_t>(groups_ * seg_.contexts));
    for (int64_t g = 0; g < groups_; ++g) {
      SelectTask<T>& task = scratch_->tasks[static_cast<size_t>(g)];
      brackets_of(&task);
      int64_t size[kMaxContexts] = {};
      for (int64_t s = pixels_.parallel ? g : 0; s < (pixels_.parallel ? g + 1 : strips); ++s)
        for (int l = 0; l < seg_.levels; ++l)
          for (int c = 0; c < seg_.leaves; ++c)
            if (seg_.context[l][c] != kNoContext) size[seg_.context[l][c]] += pixels_.counts[s * kMaxLeaves + c];
      for (int u = 0; u < seg_.contexts; ++u) {
        task.end[u] = start_[static_cast<size_t>(g * seg_.contexts + u)] = next;
        next += size[u] + slack;
      }
    }
    std::fill(outside_, outside_ + kMaxContexts, 0.0);
    std::fill(below_, below_ + kMaxContexts, int64_t{0});
    for_each(pixels_.parallel, strips, [&](int64_t s) {
      SelectTask<T>* task = &scratch_->tasks[static_cast<size_t>(pixels_.parallel ? s : 0)];
      x.blocks(pixels_.layout, s, [&](const T* px, int64_t first, int64_t n) { pixels_.sweeps->select(px, pixels_.leaf + first, n, task); });
      if (!pixels_.parallel) take_sums(task);
    });
    for (int64_t s = 0; pixels_.parallel && s < strips; ++s) take_sums(&scratch_->tasks[static_cast<size_t>(s)]);
    for (int u = 0; u < seg_.contexts; ++u)
      if (!std::isfinite(outside_[u])) return false;
    return true;
  }

  void brackets_of(SelectTask<T>* task) const {
    const T inf = std::numeric_limits<T>::infinity();
    task->levels = seg_.levels;
    const int compiled = seg_.levels <= 4 ? seg_.levels : kMaxLevels;  // a sweep may run for more levels than the image has
    for (int l = 0; l < compiled; ++l) {
      for (int c = 0; c < seg_.leaves; ++c) {
        const int u = l < seg_.levels ? seg_.context[l][c] : kNoContext;
        const bool none = u == kNoContext;
        task->lo.at[l][c] = none ? inf : lo_[u];
        task->hi.at[l][c] = none ? -inf : hi_[u];
        task->pivot.at[l][c] = none ? 0 : pivot_[u];
        task->outside.at[l][c] = 0;
        task->below.at[l][c] = 0;
        task->context[l][c] = none ? 0 : u;
      }
    }
  }

  // Adds a strip's sums, and clears them for the next strip: the order of the additions is the strips', however they ran.
  void take_sums(SelectTask<T>* task) {
    for (int l = 0; l < seg_.levels; ++l) {
      for (int c = 0; c < seg_.leaves; ++c) {
        const int u = seg_.context[l][c];
        if (u == kNoContext) continue;
        outside_[u] += task->outside.at[l][c];
        below_[u] += task->below.at[l][c];
        task->outside.at[l][c] = 0;
        task->below.at[l][c] = 0;
      }
    }
  }

  bool finish(const Source<T>& x, int u, Statistic* out) {
    int64_t inside = 0;
    for (int64_t g = 0; g < groups_; ++g) inside += length(g, u);
    const T* list = start_[static_cast<size_t>(u)];
    T* spare = scratch_->other.need(static_cast<size_t>(2 * (inside + 64)));
    if (groups_ > 1) {
      T* gathered = scratch_->gathered.need(static_cast<size_t>(inside + 64));
      int64_t at = 0;
      for (int64_t g = 0; g < groups_; ++g) {
        std::memcpy(gathered + at, start_[static_cast<size_t>(g * seg_.contexts + u)], sizeof(T) * static_cast<size_t>(length(g, u)));
        at += length(g, u);
      }
      list = gathered;
    }
    const int64_t k = rank_[u], below = below_[u], above = count_[u] - below - inside;
    T m;
    if (k >= below && k < below + inside) {
      std::memcpy(spare, list, sizeof(T) * static_cast<size_t>(inside));
      m = kth_smallest(*pixels_.sweeps, spare, inside, k - below, spare + inside + 64);
      double sum;
      pixels_.sweeps->deviation(list, inside, m, &sum, &out->under, &out->equal);
      out->under += below;
      out->deviation = sum;
    } else {  // a value that many pixels share can be an end of the bracket
      m = k < below ? lo_[u] : hi_[u];
      if (!std::isfinite(m)) return false;
      count(x, u, m, &out->under, &out->equal);
      if (k < out->under || k >= out->under + out->equal) return false;
      int64_t unused_under, unused_equal;
      pixels_.sweeps->deviation(list, inside, m, &out->deviation, &unused_under, &unused_equal);
    }
    out->value = static_cast<double>(m);
    const double moved = static_cast<double>(pivot_[u]) - out->value;
    out->deviation += outside_[u] + static_cast<double>(above - below) * moved;
    if (out->deviation < 0) out->deviation = 0;
    return std::isfinite(out->deviation);
  }

  void count(const Source<T>& x, int u, T value, int64_t* under, int64_t* equal) const {
    uint8_t member[256];
    pixels_.members(seg_, u, member);
    *under = *equal = 0;
    for (int64_t s = 0; s < pixels_.layout.strips(); ++s) {
      x.blocks(pixels_.layout, s, [&](const T* px, int64_t first, int64_t n) {
        pixels_.sweeps->count(px, pixels_.leaf + first, n, member, value, under, equal);
      });
    }
  }

  // The full search, for a bracket that missed: collect the segment and select in it.
  void search(const Source<T>& x, int u, Statistic* out) const {
    uint8_t member[256];
    pixels_.members(seg_, u, member);
    std::vector<T> all;
    all.reserve(static_cast<size_t>(count_[u]));
    for (int64_t s = 0; s < pixels_.layout.strips(); ++s) {
      x.blocks(pixels_.layout, s, [&](const T* px, int64_t first, int64_t n) {
        for (int64_t i = 0; i < n; ++i)
          if (member[pixels_.leaf[first + i]]) all.push_back(px[i]);
      });
    }
    std::vector<T> sorted = all;
    std::nth_element(sorted.begin(), sorted.begin() + rank_[u], sorted.end());
    const T m = sorted[static_cast<size_t>(rank_[u])];
    *out = Statistic();
    out->value = static_cast<double>(m);
    for (T v : all) {
      out->deviation += std::abs(static_cast<double>(v) - out->value);
      out->under += v < m;
      out->equal += v == m;
    }
  }

  bool all_finite(const Source<T>& x) const {
    bool finite = true;
    for (int64_t s = 0; s < pixels_.layout.strips(); ++s) {
      x.blocks(pixels_.layout, s, [&](const T* px, int64_t first, int64_t n) {
        for (int64_t i = 0; i < n; ++i)
          if (pixels_.leaf[first + i] != kNoLeaf) finite &= std::isfinite(px[i]);
      });
    }
    return finite;
  }

  int64_t length(int64_t g, int u) const {
    return scratch_->tasks[static_cast<size_t>(g)].end[u] - start_[static_cast<size_t>(g * seg_.contexts + u)];
  }

  const Pixels<T>& pixels_;
  const Segmentation& seg_;
  OrderScratch<T>* scratch_;
  int64_t count_[kMaxContexts];
  int64_t rank_[kMaxContexts];
  T lo_[kMaxContexts], hi_[kMaxContexts], pivot_[kMaxContexts];
  double outside_[kMaxContexts];
  int64_t below_[kMaxContexts];
  int64_t groups_ = 0;
  std::vector<T*> start_;  // groups x contexts
};

}  // namespace dadkit
