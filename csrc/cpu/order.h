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
#include <vector>

#include "bracket.h"
#include "kth.h"

namespace dadkit {

struct Statistic {
  double value = 0;      // the order statistic
  double deviation = 0;  // sum |x - value|
  int64_t under = 0, equal = 0;
};

template <typename T>
struct OrderScratch {
  Buffer<T> candidates, gathered, other;
  SampleScratch<T> sample;
  std::vector<SelectTask<T>> tasks;
};

template <typename T>
class OrderStatistics {
 public:
  OrderStatistics(const Pixels<T>& pixels, const Segmentation& seg, OrderScratch<T>* scratch)
      : pixels_(pixels), seg_(seg), scratch_(scratch) {
    pixels.count_contexts(seg, 0, pixels.layout.strips(), count_);
  }

  const int64_t* counts() const { return count_; }

  // Fills out[context] for every context of seg that has pixels; false where a pixel is not finite. rank: nullptr for lower medians.
  bool compute(const Source<T>& x, const int64_t* rank, Statistic* out) {
    for (int u = 0; u < seg_.contexts; ++u) rank_[u] = rank ? rank[u] : (count_[u] - 1) / 2;
    bracket_.find(pixels_, seg_, x, count_, rank_, &scratch_->sample);
    const bool narrow = sweep(x);
    if (!narrow && !all_finite(x)) return false;  // a sum is not finite: either a pixel is not, or the sum overflowed
    for (int u = 0; u < seg_.contexts; ++u) {
      out[u] = Statistic();
      if (count_[u] > 0 && (!narrow || !finish(x, u, &out[u]))) search(x, u, &out[u]);
    }
    return true;
  }

 private:
  // Strips in parallel have sums and lists of candidates of their own, as long as they can ever become; one after the other they share them.
  bool sweep(const Source<T>& x) {
    const int64_t strips = pixels_.layout.strips();
    prepare();
    std::fill(sum_, sum_ + kMaxContexts, 0.0);
    std::fill(below_, below_ + kMaxContexts, int64_t{0});
    for_each(pixels_.parallel, strips, [&](int64_t s) {
      SelectTask<T>* task = &scratch_->tasks[static_cast<size_t>(pixels_.parallel ? s : 0)];
      x.blocks(pixels_.layout, s, [&](const T* px, int64_t first, int64_t n) { pixels_.sweeps->select(px, pixels_.leaf + first, n, task); });
      if (!pixels_.parallel) take_sums(task);
    });
    for (int64_t s = 0; pixels_.parallel && s < strips; ++s) take_sums(&scratch_->tasks[static_cast<size_t>(s)]);
    bool finite = true;
    for (int u = 0; u < seg_.contexts; ++u) {
      inside_[u] = 0;
      for (int64_t g = 0; g < groups_; ++g) inside_[u] += length(g, u);
      below_[u] -= inside_[u];
      finite &= std::isfinite(sum_[u]);
    }
    return finite;
  }

  void prepare() {
    const int64_t strips = pixels_.layout.strips(), slack = 64;
    groups_ = pixels_.parallel ? strips : std::min<int64_t>(strips, 1);
    T* next = scratch_->candidates.need(static_cast<size_t>(seg_.levels * pixels_.layout.n + groups_ * seg_.contexts * slack));
    if (scratch_->tasks.size() < static_cast<size_t>(groups_)) scratch_->tasks.resize(static_cast<size_t>(groups_));
    start_.resize(static_cast<size_t>(groups_ * seg_.contexts));
    for (int64_t g = 0; g < groups_; ++g) {
      SelectTask<T>& task = scratch_->tasks[static_cast<size_t>(g)];
      brackets_of(&task);
      int64_t size[kMaxContexts] = {};
      pixels_.count_contexts(seg_, g, pixels_.parallel ? g + 1 : strips, size);
      for (int u = 0; u < seg_.contexts; ++u) {
        task.end[u] = start_[static_cast<size_t>(g * seg_.contexts + u)] = next;
        next += size[u] + slack;
      }
    }
  }

  void brackets_of(SelectTask<T>* task) const {
    const T inf = std::numeric_limits<T>::infinity();
    task->levels = seg_.levels;
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
        sum_[u] += task->deviation.at[l][c];
        below_[u] += task->reached.at[l][c];
        task->deviation.at[l][c] = 0;
        task->reached.at[l][c] = 0;
      }
    }
  }

  // From the candidates; false where the bracket missed.
  bool finish(const Source<T>& x, int u, Statistic* out) {
    const int64_t inside = inside_[u], k = rank_[u], below = below_[u], above = count_[u] - below - inside;
    T* spare = scratch_->other.need(static_cast<size_t>(2 * (inside + 64)));
    const T* list = candidates(u);
    const T pivot = bracket_.pivot[u];
    T m;
    double from_m, from_pivot;
    if (k >= below && k < below + inside) {
      std::memcpy(spare, list, sizeof(T) * static_cast<size_t>(inside));
      m = kth_smallest(*pixels_.sweeps, spare, inside, k - below, spare + inside + 64);
      pixels_.sweeps->deviation(list, inside, m, pivot, &from_m, &from_pivot, &out->under, &out->equal);
      out->under += below;
    } else {  // a value that many pixels share can be an end of the bracket
      m = k < below ? bracket_.lo[u] : bracket_.hi[u];
      if (!std::isfinite(m)) return false;
      count(x, u, m, &out->under, &out->equal);
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
  const T* candidates(int u) {
    if (groups_ <= 1) return start_[static_cast<size_t>(u)];
    T* gathered = scratch_->gathered.need(static_cast<size_t>(inside_[u] + 64));
    int64_t at = 0;
    for (int64_t g = 0; g < groups_; ++g) {
      std::memcpy(gathered + at, start_[static_cast<size_t>(g * seg_.contexts + u)], sizeof(T) * static_cast<size_t>(length(g, u)));
      at += length(g, u);
    }
    return gathered;
  }

  void count(const Source<T>& x, int u, T value, int64_t* under, int64_t* equal) const {
    uint8_t member[256];
    pixels_.members(seg_, u, member);
    *under = *equal = 0;
    pixels_.all_blocks(x, [&](const T* px, int64_t first, int64_t n) {
      pixels_.sweeps->count(px, pixels_.leaf + first, n, member, value, under, equal);
    });
  }

  // The full search, for a bracket that missed: collect the segment and select in it.
  void search(const Source<T>& x, int u, Statistic* out) const {
    uint8_t member[256];
    pixels_.members(seg_, u, member);
    std::vector<T> all;
    all.reserve(static_cast<size_t>(count_[u]));
    pixels_.all_blocks(x, [&](const T* px, int64_t first, int64_t n) {
      for (int64_t i = 0; i < n; ++i)
        if (member[pixels_.leaf[first + i]]) all.push_back(px[i]);
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

  bool all_finite(const Source<T>& x) const {
    bool finite = true;
    pixels_.all_blocks(x, [&](const T* px, int64_t first, int64_t n) {
      for (int64_t i = 0; i < n; ++i)
        if (pixels_.leaf[first + i] != kNoLeaf) finite &= std::isfinite(px[i]);
    });
    return finite;
  }

  int64_t length(int64_t g, int u) const {
    return scratch_->tasks[static_cast<size_t>(g)].end[u] - start_[static_cast<size_t>(g * seg_.contexts + u)];
  }

  const Pixels<T>& pixels_;
  const Segmentation& seg_;
  OrderScratch<T>* scratch_;
  Brackets<T> bracket_;
  int64_t count_[kMaxContexts] = {}, rank_[kMaxContexts];
  double sum_[kMaxContexts];                           // of |x - pivot|
  int64_t below_[kMaxContexts], inside_[kMaxContexts];  // at or under the bracket's lower end; candidates
  int64_t groups_ = 0;
  std::vector<T*> start_;  // groups x contexts
};

}  // namespace dadkit
