// The sweeps of the order statistics: brackets and candidates, and the work on lists of candidates.
#pragma once

#include "runs.h"

namespace dadkit::DADKIT_UNIT {

template <typename V, int L>
void select_block(const typename V::Scalar* x, const uint8_t* leaf, int64_t vectors, SelectTask<typename V::Scalar>* task) {
  using F = typename V::F;
  using M = typename V::M;
  F sums[kMaxLeaves][L];
  typename V::I counts[kMaxLeaves][L];  // under the bracket's upper end
  uint64_t touched = 0;
  for_runs<V>(leaf, vectors, [&](uint8_t c, int64_t first, int64_t last) {
    F lo[L], hi[L], pivot[L], sum[L];
    typename V::I reached[L];
    typename V::Scalar* end[L];
    const bool fresh = !(touched >> c & 1);
    touched |= static_cast<uint64_t>(1) << c;
    for (int l = 0; l < L; ++l) {
      lo[l] = V::set1(task->lo.at[l][c]);
      hi[l] = V::set1(task->hi.at[l][c]);
      pivot[l] = V::set1(task->pivot.at[l][c]);
      sum[l] = fresh ? V::zero() : sums[c][l];
      reached[l] = fresh ? V::no_counts() : counts[c][l];
      end[l] = task->end[task->context[l][c]];
    }
    for (int64_t v = first; v < last; ++v) {
      fetch_ahead(x + v * V::W);
      const F value = V::load(x + v * V::W);
      const M m = V::leaf_is(leaf + v * V::W, c);
      for (int l = 0; l < L; ++l) {
        const M under_top = V::lt_in(m, value, hi[l]);
        const M inside = V::lt_in(under_top, lo[l], value);
        reached[l] = V::inc_if(reached[l], under_top);
        sum[l] = V::add_if(sum[l], m, V::abs(value - pivot[l]));
        if (V::any(inside)) end[l] = V::compress(end[l], inside, value);
      }
    }
    for (int l = 0; l < L; ++l) {
      sums[c][l] = sum[l];
      counts[c][l] = reached[l];
      task->end[task->context[l][c]] = end[l];
    }
  });
  for (int c = 0; touched >> c; ++c) {
    if (!(touched >> c & 1)) continue;
    for (int l = 0; l < L; ++l) {
      task->deviation.at[l][c] += lane_sum<V>(sums[c][l]);
      task->reached.at[l][c] += lane_count<V>(counts[c][l]);
    }
    if (c == kMaxLeaves - 1) break;
  }
}

template <typename V, int L>
void select_levels(const typename V::Scalar* x, const uint8_t* leaf, int64_t n, SelectTask<typename V::Scalar>* task) {
  in_blocks<V>(
      n, [&](int64_t at, int64_t vectors) { select_block<V, L>(x + at, leaf + at, vectors, task); },
      [&](int64_t at, int rest) { select_block<V, L>(Rest<V>(x + at, rest).x, RestLeaf<V>(leaf + at, rest).x, 1, task); });
}

template <typename V>
void select_sweep(const typename V::Scalar* x, const uint8_t* leaf, int64_t n, SelectTask<typename V::Scalar>* task) {
  by_levels(task->levels, [&](auto levels) { select_levels<V, decltype(levels)::value>(x, leaf, n, task); });
}

template <typename V>
void count_sweep(const typename V::Scalar* x, const uint8_t* leaf, int64_t n, const uint8_t* member, typename V::Scalar value, int64_t* under,
                 int64_t* equal) {
  const typename V::F bound = V::set1(value);
  auto block = [&](const typename V::Scalar* xs, const uint8_t* leaves, int64_t vectors) {
    typename V::I less = V::no_counts(), same = V::no_counts();
    for_runs<V>(leaves, vectors, [&](uint8_t c, int64_t first, int64_t last) {
      if (!member[c]) return;
      for (int64_t v = first; v < last; ++v) {
        const typename V::F here = V::load(xs + v * V::W);
        const typename V::M m = V::leaf_is(leaves + v * V::W, c);
        less = V::inc_if(less, V::both(m, V::lt(here, bound)));
        same = V::inc_if(same, V::both(m, V::eq(here, bound)));
      }
    });
    *under += lane_count<V>(less);
    *equal += lane_count<V>(same);
  };
  in_blocks<V>(
      n, [&](int64_t at, int64_t vectors) { block(x + at, leaf + at, vectors); },
      [&](int64_t at, int rest) { block(Rest<V>(x + at, rest).x, RestLeaf<V>(leaf + at, rest).x, 1); });
}

template <typename V>
int64_t filter_sweep(const typename V::Scalar* x, int64_t n, typename V::Scalar lo, typename V::Scalar hi, typename V::Scalar* out, int64_t* below) {
  using T = typename V::Scalar;
  const typename V::F low = V::set1(lo), high = V::set1(hi);
  T* end = out;
  int64_t under = 0;
  in_blocks<V>(
      n,
      [&](int64_t at, int64_t vectors) {
        typename V::I count = V::no_counts();
        for (int64_t v = 0; v < vectors; ++v) {
          const typename V::F value = V::load(x + at + v * V::W);
          const typename V::M at_most = V::le(value, low);
          count = V::inc_if(count, at_most);
          end = V::compress(end, V::without(V::lt(value, high), at_most), value);
        }
        under += lane_count<V>(count);
      },
      [&](int64_t at, int rest) {
        for (int k = 0; k < rest; ++k) {
          const T value = x[at + k];
          if (value <= lo) {
            ++under;
          } else if (value < hi) {
            *end++ = value;
          }
        }
      });
  *below = under;
  return end - out;
}

template <typename V>
void deviation_sweep(const typename V::Scalar* x, int64_t n, typename V::Scalar m, typename V::Scalar pivot, double* from_m, double* from_pivot,
                     int64_t* under, int64_t* equal) {
  const typename V::F middle = V::set1(m), other = V::set1(pivot);
  double total = 0, total_pivot = 0;
  int64_t less_n = 0, same_n = 0;
  in_blocks<V>(
      n,
      [&](int64_t at, int64_t vectors) {
        typename V::F sum = V::zero(), sum_pivot = V::zero();
        typename V::I less = V::no_counts(), same = V::no_counts();
        for (int64_t v = 0; v < vectors; ++v) {
          const typename V::F value = V::load(x + at + v * V::W);
          sum = sum + V::abs(value - middle);
          sum_pivot = sum_pivot + V::abs(value - other);
          less = V::inc_if(less, V::lt(value, middle));
          same = V::inc_if(same, V::eq(value, middle));
        }
        total += lane_sum<V>(sum);
        total_pivot += lane_sum<V>(sum_pivot);
        less_n += lane_count<V>(less);
        same_n += lane_count<V>(same);
      },
      [&](int64_t at, int rest) {
        for (int k = 0; k < rest; ++k) {
          const typename V::Scalar value = x[at + k];
          total += static_cast<double>(value < m ? m - value : value - m);
          total_pivot += static_cast<double>(value < pivot ? pivot - value : value - pivot);
          less_n += value < m;
          same_n += value == m;
        }
      });
  *from_m = total;
  *from_pivot = total_pivot;
  *under = less_n;
  *equal = same_n;
}

}  // namespace dadkit::DADKIT_UNIT
