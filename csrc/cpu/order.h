// Exact order statistics of many segments at once, and the sums of absolute deviations from them, in one sweep over the pixels.
//
// The sweep counts what lies under a bracket, sums |x - pivot|, and keeps the candidates inside the bracket, so the exact value is then
// found among the candidates, and sum |x - m| follows without another sweep:
//   sum |x - m| = sum |x - pivot| + (above - below) (pivot - m) + sum_candidates (|x - m| - |x - pivot|).
// A bracket that misses is noticed by the counts and answered by a full search.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "source.h"

namespace dadkit {

// ------------------------------------------------------------------------------------------------ brackets
// Brackets around the wanted ranks of all segments, from a small stratified sample. They decide speed, never a result.
template <typename T>
struct OrderSample {
  T value;
  uint8_t leaf;
};

template <typename T>
class Brackets {
 public:
  T lo[kMaxContexts], hi[kMaxContexts], pivot[kMaxContexts];

  void find(const Pixels<T>& pixels, const Segmentation& seg, const Source<T>& x, const int64_t* count, const int64_t* rank) {
    const T inf = std::numeric_limits<T>::infinity();
    for (int u = 0; u < seg.contexts; ++u) {
      lo[u] = -inf;
      hi[u] = inf;
      pivot[u] = 0;
    }
    const int64_t n = pixels.layout.n;
    const int64_t strata = std::min<int64_t>(kSamples, seg.leaves * kSamplesPerLeaf);
    if (n <= 4 * strata) return;
    Buffer<Sample> drawn, sorted;
    Sample* sample = drawn.need(kSamples + 1);
    const int64_t size = draw(pixels, x, strata, n / strata, sample);
    sample = sort(sample, size, sorted.need(kSamples + 1));
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
  static constexpr int64_t kSamples = 4096, kSamplesPerLeaf = 1024;
  static constexpr int64_t kAllCandidates = 2048;  // segments this small need no bracket
  static constexpr int64_t kNever = -1;

  using Sample = OrderSample<T>;

  // One pixel of every stratum, at a place that no pattern of the map can follow; fetched ahead, for no hardware foresees the places.
  static int64_t draw(const Pixels<T>& pixels, const Source<T>& x, int64_t strata, int64_t stride, Sample* sample) {
    constexpr int64_t kAhead = 32;
    int64_t place[kAhead];
    uint32_t state = 0x9e3779b9u;
    int64_t size = 0;
    for (int64_t j = 0; j < strata + kAhead; ++j) {
      int64_t& slot = place[j % kAhead];
      if (j >= kAhead) {
        const T value = x.at(slot);
        const uint8_t leaf = *pixels.leaves(slot);
        sample[size] = {value, leaf};
        size += leaf != kNoLeaf && std::isfinite(value);
      }
      if (j >= strata) continue;
      state = state * 1664525u + 1013904223u;
      slot = j * stride + static_cast<int64_t>((static_cast<uint64_t>(state) * static_cast<uint64_t>(stride)) >> 32);
      __builtin_prefetch(pixels.leaves(slot));
      x.prefetch(slot);
    }
    return size;
  }

  // By value, with the float's bits as an integer key, digit by digit: small samples pay for the buckets, large ones for the passes. Doubles are no
  // hot path.
  static Sample* sort(Sample* sample, int64_t size, Sample* other) {
    if (sizeof(T) != 4) {
      std::stable_sort(sample, sample + size, [](const Sample& a, const Sample& b) { return a.value < b.value; });
      return sample;
    }
    const int bits = size > 2048 ? 11 : 8;
    const uint32_t buckets = 1u << bits;
    for (int shift = 0; shift < 32; shift += bits) {
      uint32_t at[2048 + 1];  // where a bucket begins, one place behind
      std::fill(at, at + buckets + 1, 0u);
      for (int64_t i = 0; i < size; ++i) ++at[(key(sample[i].value) >> shift) % buckets + 1];
      for (uint32_t b = 0; b < buckets; ++b) at[b + 1] += at[b];
      for (int64_t i = 0; i < size; ++i) other[at[(key(sample[i].value) >> shift) % buckets]++] = sample[i];
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

// ------------------------------------------------------------------------------------------------ among the candidates
// The k-th smallest of n values in a list, by narrowing brackets: three or four sweeps over ever shorter lists, which take turns in a and b.
// Both are as long as the list and have room for one vector behind.
template <typename T>
T kth_smallest(const Sweeps<T>& sweeps, const T* list, int64_t n, int64_t k, T* a, T* b) {
  constexpr int kSample = 64, kHalf = 13;  // 3.3 standard deviations of a sample's median
  while (n > 384) {
    T sample[kSample];
    for (int j = 0; j < kSample; ++j) sample[j] = list[(2 * j + 1) * n / (2 * kSample)];
    const int at = static_cast<int>(k * kSample / n);
    const T* top = at + kHalf < kSample ? &sample[at + kHalf] : nullptr;
    const T* bottom = at >= kHalf ? &sample[at - kHalf] : nullptr;
    if (top) std::nth_element(sample, sample + at + kHalf, sample + kSample);
    if (bottom) std::nth_element(sample, sample + at - kHalf, top ? sample + at + kHalf : sample + kSample);
    const T lo = bottom ? *bottom : -std::numeric_limits<T>::infinity(), hi = top ? *top : std::numeric_limits<T>::infinity();
    int64_t below = 0;
    const int64_t inside = sweeps.filter(list, n, lo, hi, a, &below);
    if (k >= below && k < below + inside && inside < n) {
      list = a;
      std::swap(a, b);
      n = inside;
      k -= below;
      continue;
    }
    for (T end : {lo, hi}) {  // many equal values: the answer may be an end of the bracket
      double unused;
      int64_t under = 0, equal = 0;
      sweeps.deviation(list, n, end, end, &unused, &unused, &under, &equal);
      if (k >= under && k < under + equal) return end;
    }
    break;
  }
  std::copy(list, list + n, a);
  std::nth_element(a, a + k, a + n);
  return a[k];
}

// ------------------------------------------------------------------------------------------------ order statistics
struct Statistic {
  double value = 0;      // the order statistic
  double deviation = 0;  // sum |x - value|
  int64_t under = 0, equal = 0;
};

// Of one map over the segments of an image.
template <typename T>
class OrderStatistics {
 public:
  OrderStatistics(const Pixels<T>& pixels, const Segmentation& seg, const Source<T>& x) : pixels_(pixels), seg_(seg), x_(x) {
    pixels.count_contexts(seg, 0, pixels.layout.strips(), count_);
  }

  // Fills out[context] for every context of seg that has pixels; false where a pixel is not finite. rank: nullptr for lower medians.
  bool compute(const int64_t* rank, Statistic* out) { return compute(this, 1, rank, &out); }

  // The same of several maps over one image: a team takes their brackets, their strips and their contexts as tasks.
  static bool compute(OrderStatistics* of, int64_t maps, const int64_t* rank, Statistic* const* out) {
    Team* team = of->pixels_.team;
    const int64_t strips = of->pixels_.layout.strips(), contexts = of->seg_.contexts;
    for_each(team, maps, [&](int64_t k) { of[k].prepare(rank); });
    for_each(team, maps * strips, [&](int64_t i) { of[i / strips].sweep(i % strips); });
    for (int64_t k = 0; k < maps; ++k)
      if (!of[k].add_up() && !of[k].all_finite()) return false;  // a sum is not finite: either a pixel is not, or the sum overflowed
    for_each(team, maps * contexts, [&](int64_t i) {
      const int u = static_cast<int>(i % contexts);
      of[i / contexts].finish(u, out[i / contexts] + u);
    });
    return true;
  }

 private:
  // Strips that a team shares have sums and lists of candidates of their own, as long as they can ever become; in order they share them.
  void sweep(int64_t s) {
    SelectTask<T>* task = tasks_ + (pixels_.team ? s : 0);
    x_.blocks(pixels_.layout, s, [&](const T* px, int64_t first, int64_t n) { pixels_.sweeps->select(px, pixels_.leaves(first), n, task); });
    if (!pixels_.team) take_sums(task);
  }

  // Whether all sums are finite
  bool add_up() {
    for (int64_t g = 0; pixels_.team && g < groups_; ++g) take_sums(tasks_ + g);
    for (int u = 0; u < seg_.contexts; ++u) {
      inside_[u] = 0;
      for (int64_t g = 0; g < groups_; ++g) inside_[u] += length(g, u);
      below_[u] -= inside_[u];
      narrow_ &= std::isfinite(sum_[u]);
    }
    return narrow_;
  }

  void prepare(const int64_t* rank) {
    for (int u = 0; u < seg_.contexts; ++u) rank_[u] = rank ? rank[u] : (count_[u] - 1) / 2;
    bracket_.find(pixels_, seg_, x_, count_, rank_);
    const int64_t strips = pixels_.layout.strips(), slack = 64;
    groups_ = pixels_.team ? strips : std::min<int64_t>(strips, 1);
    T* next = candidates_.need(static_cast<size_t>(seg_.levels * pixels_.layout.n + groups_ * seg_.contexts * slack));
    tasks_ = task_memory_.need(static_cast<size_t>(groups_));
    start_.resize(static_cast<size_t>(groups_ * seg_.contexts));
    for (int64_t g = 0; g < groups_; ++g) {
      SelectTask<T>& task = tasks_[g];
      brackets_of(&task);
      int64_t size[kMaxContexts] = {};
      pixels_.count_contexts(seg_, g, pixels_.team ? g + 1 : strips, size);
      for (int u = 0; u < seg_.contexts; ++u) {
        task.end[u] = start_[static_cast<size_t>(g * seg_.contexts + u)] = next;
        next += size[u] + slack;
      }
    }
  }

  void brackets_of(SelectTask<T>* task) const {
    const T inf = std::numeric_limits<T>::infinity();
    task->levels = seg_.levels;
    task->end[kMaxContexts] = nullptr;
    const int compiled = seg_.levels <= 4 ? seg_.levels : kMaxLevels;  // a sweep may run for more levels than the image has
    for (int l = 0; l < compiled; ++l) {
      for (int c = 0; c < seg_.leaves; ++c) {
        const int u = l < seg_.levels ? seg_.context[l][c] : kNoContext;
        const bool none = u == kNoContext;
        task->lo.at[l][c] = none ? inf : bracket_.lo[u];
        task->hi.at[l][c] = none ? -inf : bracket_.hi[u];
        task->pivot.at[l][c] = none ? 0 : bracket_.pivot[u];
        task->deviation.at[l][c] = 0;
        task->reached.at[l][c] = 0;
        task->context[l][c] = none ? kMaxContexts : u;
      }
    }
  }

  // Adds a strip's sums, and clears them for the next strip: the order of the additions is the strips', however they ran.
  void take_sums(SelectTask<T>* task) {
    for (int l = 0; l < seg_.levels; ++l) {
      for (int c = 0; c < seg_.leaves; ++c) {
        const int u = seg_.context[l][c];
        if (u == kNoContext) continue;
        sum_[u] += task->deviation.at[l][c];
        below_[u] += task->reached.at[l][c];
        task->deviation.at[l][c] = 0;
        task->reached.at[l][c] = 0;
      }
    }
  }

  void finish(int u, Statistic* out) const {
    *out = Statistic();
    if (count_[u] > 0 && (!narrow_ || !among_candidates(u, out))) search(u, out);
  }

  // False where the bracket missed.
  bool among_candidates(int u, Statistic* out) const {
    const int64_t inside = inside_[u], k = rank_[u], below = below_[u], above = count_[u] - below - inside;
    Buffer<T> other, gathered;
    T* spare = other.need(static_cast<size_t>(2 * (inside + 64)));
    const T* list = candidates(u, &gathered);
    const T pivot = bracket_.pivot[u];
    T m;
    double from_m, from_pivot;
    if (k >= below && k < below + inside) {
      m = kth_smallest(*pixels_.sweeps, list, inside, k - below, spare, spare + inside + 64);
      pixels_.sweeps->deviation(list, inside, m, pivot, &from_m, &from_pivot, &out->under, &out->equal);
      out->under += below;
    } else {  // a value that many pixels share can be an end of the bracket
      m = k < below ? bracket_.lo[u] : bracket_.hi[u];
      if (!std::isfinite(m)) return false;
      count(u, m, &out->under, &out->equal);
      if (k < out->under || k >= out->under + out->equal) return false;
      int64_t unused_under, unused_equal;
      pixels_.sweeps->deviation(list, inside, m, pivot, &from_m, &from_pivot, &unused_under, &unused_equal);
    }
    out->value = static_cast<double>(m);
    out->deviation = from_m;
    if (inside < count_[u]) {  // else no pivot is needed; without a bracket it is 0, and far from the values
      const double moved = static_cast<double>(pivot) - out->value;
      out->deviation += sum_[u] - from_pivot + static_cast<double>(above - below) * moved;
      if (out->deviation < 0) out->deviation = 0;
    }
    return std::isfinite(out->deviation);
  }

  // A context's candidates in one list.
  const T* candidates(int u, Buffer<T>* room) const {
    if (groups_ <= 1) return start_[static_cast<size_t>(u)];
    T* gathered = room->need(static_cast<size_t>(inside_[u] + 64));
    int64_t at = 0;
    for (int64_t g = 0; g < groups_; ++g) {
      std::memcpy(gathered + at, start_[static_cast<size_t>(g * seg_.contexts + u)], sizeof(T) * static_cast<size_t>(length(g, u)));
      at += length(g, u);
    }
    return gathered;
  }

  void count(int u, T value, int64_t* under, int64_t* equal) const {
    uint8_t member[256];
    pixels_.members(seg_, u, member);
    *under = *equal = 0;
    pixels_.all_blocks(x_, [&](const T* px, int64_t first, int64_t n) {
      pixels_.sweeps->count(px, pixels_.leaves(first), n, member, value, under, equal);
    });
  }

  // The full search, for a bracket that missed: collect the segment and select in it.
  void search(int u, Statistic* out) const {
    uint8_t member[256];
    pixels_.members(seg_, u, member);
    std::vector<T> all;
    all.reserve(static_cast<size_t>(count_[u]));
    pixels_.all_blocks(x_, [&](const T* px, int64_t first, int64_t n) {
      for (int64_t i = 0; i < n; ++i)
        if (member[*pixels_.leaves(first + i)]) all.push_back(px[i]);
    });
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

  bool all_finite() const {
    bool finite = true;
    pixels_.all_blocks(x_, [&](const T* px, int64_t first, int64_t n) {
      for (int64_t i = 0; i < n; ++i)
        if (*pixels_.leaves(first + i) != kNoLeaf) finite &= std::isfinite(px[i]);
    });
    return finite;
  }

  int64_t length(int64_t g, int u) const {
    return tasks_[g].end[u] - start_[static_cast<size_t>(g * seg_.contexts + u)];
  }

  const Pixels<T>& pixels_;
  const Segmentation& seg_;
  const Source<T> x_;
  Buffer<T> candidates_;
  Buffer<SelectTask<T>> task_memory_;
  SelectTask<T>* tasks_ = nullptr;  // one, or one a strip
  Brackets<T> bracket_;
  int64_t count_[kMaxContexts] = {}, rank_[kMaxContexts];
  double sum_[kMaxContexts] = {};                           // of |x - pivot|
  int64_t below_[kMaxContexts] = {}, inside_[kMaxContexts];  // at or under the bracket's lower end; candidates
  bool narrow_ = true;                                       // all sums are finite
  int64_t groups_ = 0;
  std::vector<T*> start_;  // groups x contexts
};

}  // namespace dadkit
