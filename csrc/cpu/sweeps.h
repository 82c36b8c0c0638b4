// The sweeps over pixels, written once over the vector type of vec.h and compiled once per instruction set.
//
// Depth maps are smooth, so neighbouring vectors mostly lie in one leaf: every sweep walks over runs of vectors with one leaf, with that
// leaf's constants and sums in registers, and takes a mixed vector leaf by leaf. Sums are kept per lane in T over at most one block of
// 256 vectors and then added to doubles, so their rounding error does not grow with the map.
#pragma once

#include "tasks.h"
#include "vec.h"

namespace dadkit {
namespace DADKIT_UNIT {

// Calls step(leaf, first, last) for runs of whole vectors [first, last) in which every lane has that leaf or must be left out; step masks the lanes itself.
template <typename V, typename Step>
DADKIT_INLINE void for_runs(const uint8_t* leaf, int64_t vectors, Step step) {
  constexpr int W = V::W;
  int64_t v = 0;
  while (v < vectors) {
    const uint8_t* here = leaf + v * W;
    int lane = 0;
    while (lane < W && here[lane] == kNoLeaf) ++lane;
    if (lane == W) {
      ++v;
      continue;
    }
    const uint8_t c = here[lane];
    if (V::uniform(here, c)) {
      int64_t last = v + 1;
      while (last < vectors && V::uniform(leaf + last * W, c)) ++last;
      step(c, v, last);
      v = last;
      continue;
    }
    uint64_t seen = 0;
    for (; lane < W; ++lane) {
      const uint8_t k = here[lane];
      if (k == kNoLeaf || (seen >> k & 1)) continue;
      seen |= static_cast<uint64_t>(1) << k;
      step(k, v, v + 1);
    }
    ++v;
  }
}

// Hardware stops fetching ahead at the end of a page: the sweeps over whole maps ask for the next one themselves.
template <typename T>
DADKIT_INLINE void fetch_ahead(const T* x) {
  __builtin_prefetch(reinterpret_cast<const char*>(x) + 2048);
}

// Splits n pixels into blocks of at most 256 vectors and a rest of less than one vector.
template <typename V, typename Block, typename Rest>
DADKIT_INLINE void in_blocks(int64_t n, Block block, Rest rest) {
  constexpr int W = V::W;
  const int64_t whole = n / W;
  for (int64_t v = 0; v < whole; v += 256) block(v * W, (whole - v < 256 ? whole - v : 256));
  if (n % W) rest(whole * W, static_cast<int>(n % W));
}

// One vector with the rest of an array, zeros behind it.
template <typename V>
struct Rest {
  typename V::Scalar x[V::W] = {};
  DADKIT_INLINE Rest(const typename V::Scalar* from, int n) {
    for (int k = 0; k < n; ++k) x[k] = from[k];
  }
};

template <typename V>
struct RestLeaf {
  uint8_t x[V::W < 16 ? 16 : V::W];
  DADKIT_INLINE RestLeaf(const uint8_t* from, int n) {
    std::memset(x, kNoLeaf, sizeof(x));
    for (int k = 0; k < V::W; ++k) x[k] = k < n ? from[k] : kNoLeaf;
  }
};

template <typename V>
DADKIT_INLINE double lane_sum(typename V::F v) {
  typename V::Scalar lanes[V::W];
  V::store(lanes, v);
  double sum = 0;
  for (int k = 0; k < V::W; ++k) sum += static_cast<double>(lanes[k]);
  return sum;
}

template <typename V>
DADKIT_INLINE int64_t lane_count(typename V::I v) {
  typename V::Lane lanes[V::W];
  V::store_counts(lanes, v);
  int64_t sum = 0;
  for (int k = 0; k < V::W; ++k) sum += lanes[k];
  return sum;
}

// ------------------------------------------------------------------------------------------------ range, leaves
template <typename V>
void range_sweep(const typename V::Scalar* x, const uint8_t* mask, int64_t n, RangeTask<typename V::Scalar>* out) {
  using T = typename V::Scalar;
  using F = typename V::F;
  const T inf = static_cast<T>(__builtin_inf());
  const F top = V::set1(inf);
  F lo = V::set1(inf), hi = V::set1(-inf);
  int64_t count = 0;
  bool finite = true;
  auto vector = [&](F v, typename V::M m, typename V::I& valid) {
    const typename V::M fine = V::lt(V::abs(v), top);
    lo = V::min(lo, V::select(m, v, V::set1(inf)));
    hi = V::max(hi, V::select(m, v, V::set1(-inf)));
    valid = V::inc_if(valid, m);
    finite &= !V::any(V::without(m, fine));
  };
  in_blocks<V>(
      n,
      [&](int64_t at, int64_t vectors) {
        typename V::I valid = V::no_counts();
        for (int64_t v = 0; v < vectors; ++v) {
          const int64_t i = at + v * V::W;
          fetch_ahead(x + i);
          const F value = V::load(x + i);
          vector(value, mask ? V::mask_of(mask + i) : V::eq(V::zero(), V::zero()), valid);
        }
        count += lane_count<V>(valid);
      },
      [&](int64_t at, int rest) {
        typename V::I valid = V::no_counts();
        uint8_t bits[16] = {};
        for (int k = 0; k < rest; ++k) bits[k] = mask ? mask[at + k] : 1;
        vector(V::load(Rest<V>(x + at, rest).x), V::mask_of(bits), valid);
        count += lane_count<V>(valid);
      });
  T a[V::W], b[V::W];
  V::store(a, lo);
  V::store(b, hi);
  out->lo = a[0];
  out->hi = b[0];
  for (int k = 1; k < V::W; ++k) {
    out->lo = a[k] < out->lo ? a[k] : out->lo;
    out->hi = b[k] > out->hi ? b[k] : out->hi;
  }
  out->count = count;
  out->finite = finite;
}

template <typename V>
void leaves_sweep(const typename V::Scalar* d, const uint8_t* mask, int64_t n, const typename V::Scalar* edges, int n_edges, bool at_edge,
                  uint8_t* leaf, int64_t* counts) {
  using F = typename V::F;
  using I = typename V::I;
  using M = typename V::M;
  F edge[7];
  I reached[7];
  for (int k = 0; k < n_edges; ++k) edge[k] = V::set1(edges[k]);
  for (int k = 0; k < n_edges; ++k) reached[k] = V::no_counts();
  I valid = V::no_counts();
  auto vector = [&](F v, M m, uint8_t* out) {
    I id = V::no_counts();
    for (int k = 0; k < n_edges; ++k) {
      const M over = at_edge ? V::ge(v, edge[k]) : V::lt(edge[k], v);
      id = V::inc_if(id, over);
      reached[k] = V::inc_if(reached[k], V::both(over, m));
    }
    valid = V::inc_if(valid, m);
    V::store_bytes(out, V::select_counts(m, id, V::counts1(kNoLeaf)));
  };
  int64_t total[8] = {};
  auto flush = [&] {
    total[0] += lane_count<V>(valid);
    valid = V::no_counts();
    for (int k = 0; k < n_edges; ++k) {
      total[k + 1] += lane_count<V>(reached[k]);
      reached[k] = V::no_counts();
    }
  };
  in_blocks<V>(
      n,
      [&](int64_t at, int64_t vectors) {
        for (int64_t v = 0; v < vectors; ++v) {
          const int64_t i = at + v * V::W;
          fetch_ahead(d + i);
          vector(V::load(d + i), mask ? V::mask_of(mask + i) : V::eq(V::zero(), V::zero()), leaf + i);
        }
        flush();
      },
      [&](int64_t at, int rest) {
        uint8_t bits[16] = {}, ids[16];
        for (int k = 0; k < rest; ++k) bits[k] = mask ? mask[at + k] : 1;
        vector(V::load(Rest<V>(d + at, rest).x), V::mask_of(bits), ids);
        std::memcpy(leaf + at, ids, static_cast<size_t>(rest));
        flush();
      });
  for (int k = 0; k <= n_edges; ++k) counts[k] += total[k] - (k < n_edges ? total[k + 1] : 0);
}

// ------------------------------------------------------------------------------------------------ order statistics
template <typename V, int L>
void select_block(const typename V::Scalar* x, const uint8_t* leaf, int64_t vectors, SelectTask<typename V::Scalar>* task) {
  using F = typename V::F;
  using M = typename V::M;
  F sums[kMaxLeaves][L];
  typename V::I counts[kMaxLeaves][L];
  uint64_t touched = 0;
  for_runs<V>(leaf, vectors, [&](uint8_t c, int64_t first, int64_t last) {
    F lo[L], hi[L], pivot[L], sum[L];
    typename V::I below[L];
    const bool fresh = !(touched >> c & 1);
    touched |= static_cast<uint64_t>(1) << c;
    for (int l = 0; l < L; ++l) {
      lo[l] = V::set1(task->lo.at[l][c]);
      hi[l] = V::set1(task->hi.at[l][c]);
      pivot[l] = V::set1(task->pivot.at[l][c]);
      sum[l] = fresh ? V::zero() : sums[c][l];
      below[l] = fresh ? V::no_counts() : counts[c][l];
    }
    for (int64_t v = first; v < last; ++v) {
      fetch_ahead(x + v * V::W);
      const F value = V::load(x + v * V::W);
      const M m = V::leaf_is(leaf + v * V::W, c);
      for (int l = 0; l < L; ++l) {
        const M under = V::both(m, V::le(value, lo[l]));
        const M inside = V::without(V::both(m, V::lt(value, hi[l])), under);
        below[l] = V::inc_if(below[l], under);
        sum[l] = V::add_if(sum[l], V::without(m, inside), V::abs(value - pivot[l]));
        if (V::any(inside)) {
          auto*& end = task->end[task->context[l][c]];
          end = V::compress(end, inside, value);
        }
      }
    }
    for (int l = 0; l < L; ++l) {
      sums[c][l] = sum[l];
      counts[c][l] = below[l];
    }
  });
  for (int c = 0; touched >> c; ++c) {
    if (!(touched >> c & 1)) continue;
    for (int l = 0; l < L; ++l) {
      task->outside.at[l][c] += lane_sum<V>(sums[c][l]);
      task->below.at[l][c] += lane_count<V>(counts[c][l]);
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
  switch (task->levels) {
    case 1: return select_levels<V, 1>(x, leaf, n, task);
    case 2: return select_levels<V, 2>(x, leaf, n, task);
    case 3: return select_levels<V, 3>(x, leaf, n, task);
    case 4: return select_levels<V, 4>(x, leaf, n, task);
    default: return select_levels<V, kMaxLevels>(x, leaf, n, task);
  }
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
void deviation_sweep(const typename V::Scalar* x, int64_t n, typename V::Scalar m, double* sum_abs, int64_t* under, int64_t* equal) {
  const typename V::F middle = V::set1(m);
  double total = 0;
  int64_t less_n = 0, same_n = 0;
  in_blocks<V>(
      n,
      [&](int64_t at, int64_t vectors) {
        typename V::F sum = V::zero();
        typename V::I less = V::no_counts(), same = V::no_counts();
        for (int64_t v = 0; v < vectors; ++v) {
          const typename V::F value = V::load(x + at + v * V::W);
          sum = sum + V::abs(value - middle);
          less = V::inc_if(less, V::lt(value, middle));
          same = V::inc_if(same, V::eq(value, middle));
        }
        total += lane_sum<V>(sum);
        less_n += lane_count<V>(less);
        same_n += lane_count<V>(same);
      },
      [&](int64_t at, int rest) {
        for (int k = 0; k < rest; ++k) {
          const typename V::Scalar value = x[at + k];
          total += static_cast<double>(value < m ? m - value : value - m);
          less_n += value < m;
          same_n += value == m;
        }
      });
  *sum_abs = total;
  *under = less_n;
  *equal = same_n;
}

}  // namespace DADKIT_UNIT
}  // namespace dadkit
