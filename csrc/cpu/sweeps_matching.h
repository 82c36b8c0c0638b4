// The sweeps of the gradient matching loss, row by row: residuals, every second column, the differences with their slopes, and the gradient.
//
// A pixel that does not count has the residual NaN: every comparison with it is false, so it drops out of all sums without a mask. A row has
// room for a value before it and two vectors behind it, which hold NaN (weights: 0), so all sweeps but those to the maps take whole vectors.
#pragma once

#include "runs.h"

namespace dadkit::DADKIT_UNIT {

template <typename V>
DADKIT_INLINE void close_row(typename V::Scalar* row, int64_t n, typename V::Scalar outside) {
  row[-1] = outside;
  V::store(row + n, V::set1(outside));
  V::store(row + n + V::W, V::set1(outside));
}

// Calls step(pixels from x, i, store) for vectors of n pixels; store(out, v) writes what exists of a vector.
template <typename V, typename Step>
DADKIT_INLINE void over_row(const typename V::Scalar* x, int64_t n, Step step) {
  using T = typename V::Scalar;
  int64_t i = 0;
  for (; i + V::W <= n; i += V::W) {
    fetch_ahead(x + i);
    step(V::load(x + i), i, [&](T* out, typename V::F v) { V::store(out + i, v); });
  }
  if (i == n) return;
  step(V::load(Rest<V>(x + i, static_cast<int>(n - i)).x), i, [&](T* out, typename V::F v) {
    T last[V::W];
    V::store(last, v);
    std::memcpy(out + i, last, sizeof(T) * static_cast<size_t>(n - i));
  });
}

// R = N(p) - N(d)
template <typename V>
void residual_sweep(const typename V::Scalar* p, const typename V::Scalar* d, const uint8_t* mask, int64_t n,
                    const ResidualTask<typename V::Scalar>* task, typename V::Scalar* residual) {
  using T = typename V::Scalar;
  using F = typename V::F;
  const T nan = static_cast<T>(__builtin_nan(""));
  const F m_p = V::set1(task->m_p), inv_p = V::set1(task->inv_p), m_d = V::set1(task->m_d), inv_d = V::set1(task->inv_d), nowhere = V::set1(nan);
  auto step = [&](const T* xs, const T* ys, const uint8_t* valid, int64_t i) {
    const F r = (V::load(xs) - m_p) * inv_p - (V::load(ys) - m_d) * inv_d;
    V::store(residual + i, valid ? V::select(V::mask_of(valid), r, nowhere) : r);
  };
  int64_t i = 0;
  for (; i + V::W <= n; i += V::W) {
    fetch_ahead(p + i);
    fetch_ahead(d + i);
    step(p + i, d + i, mask ? mask + i : nullptr, i);
  }
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    uint8_t bits[16] = {};
    if (mask) std::memcpy(bits, mask + i, static_cast<size_t>(rest));
    step(Rest<V>(p + i, rest).x, Rest<V>(d + i, rest).x, mask ? bits : nullptr, i);
  }
  close_row<V>(residual, n, nan);
}

// The first, third, fifth … of a row's n values
template <typename V>
void halve_sweep(const typename V::Scalar* row, int64_t n, typename V::Scalar outside, typename V::Scalar* out) {
  for (int64_t i = 0; i < n; i += 2 * V::W) V::store(out + i / 2, V::evens(V::load(row + i), V::load(row + i + V::W)));
  close_row<V>(out, (n + 1) / 2, outside);
}

// Answers the sum of |dR| over the pairs (x, x + 1) and (this row, the next) of one row; steps gets |dR| of both pairs at x. slopes gets the
// adjoint: c (w(x-1) s(x-1, x) - w(x) s(x, x+1)), columns and rows alike, with s(a, b) = sign(R(b) - R(a)), and added to it what the next
// coarser scale says of every second column, unless that is nullptr.
template <typename V, bool kSlopes, bool kWeighted>
double differences_of(const DifferenceRows<typename V::Scalar>& rows, int64_t n, typename V::Scalar* steps, typename V::Scalar scale,
                      const typename V::Scalar* coarser, typename V::Scalar* slopes) {
  using F = typename V::F;
  using M = typename V::M;
  const auto *r = rows.residual, *up = rows.previous, *down = rows.next, *w = rows.weight, *w_up = rows.weight_previous;
  const F nothing = V::zero(), c = V::set1(scale);
  const M all = V::eq(nothing, nothing);
  F total = nothing;
  for (int64_t i = 0; i < n; i += V::W) {
    const F here = V::load(r + i), right = here - V::load(r + i + 1), below = here - V::load(down + i);
    const M in_x = V::differ_in(all, right, nothing), in_y = V::differ_in(all, below, nothing);
    const F step = V::add_if(V::add_if(nothing, in_x, V::abs(right)), in_y, V::abs(below));
    total = total + step;
    if (!kSlopes) {
      if (steps) V::store(steps + i, step);
      continue;
    }
    const F own = kWeighted ? V::load(w + i) * c : c, left = here - V::load(r + i - 1), above = here - V::load(up + i);
    F g = V::add_if(nothing, V::differ_in(all, left, nothing), V::turned(kWeighted ? V::load(w + i - 1) * c : c, left));
    g = V::add_if(g, V::differ_in(all, above, nothing), V::turned(kWeighted ? V::load(w_up + i) * c : c, above));
    g = V::add_if(V::add_if(g, in_x, V::turned(own, right)), in_y, V::turned(own, below));
    V::store(slopes + i, coarser ? g + V::spread(coarser + i / 2) : g);
  }
  return lane_sum<V>(total);
}

template <typename V>
double differences_sweep(const DifferenceRows<typename V::Scalar>* rows, int64_t n, typename V::Scalar* steps, typename V::Scalar scale,
                         const typename V::Scalar* coarser, typename V::Scalar* slopes) {
  if (!slopes) return differences_of<V, false, false>(*rows, n, steps, scale, coarser, slopes);
  if (rows->weight) return differences_of<V, true, true>(*rows, n, steps, scale, coarser, slopes);
  return differences_of<V, true, false>(*rows, n, steps, scale, coarser, slopes);
}

// out = v, the slope of N(p), and NaN where the residual is; answers the sum of v N(p).
template <typename V>
double slope_sweep(const typename V::Scalar* p, const typename V::Scalar* slope, const typename V::Scalar* residual, int64_t n,
                   const ResidualTask<typename V::Scalar>* task, typename V::Scalar* out) {
  using F = typename V::F;
  const F m = V::set1(task->m_p), inv = V::set1(task->inv_p), nothing = V::zero();
  F sum = nothing;
  over_row<V>(p, n, [&](F x, int64_t i, auto store) {
    const F v = V::load(slope + i), r = V::load(residual + i);
    const typename V::M counts = V::eq(r, r);
    sum = V::add_if(sum, counts, v * ((x - m) * inv));
    fetch_to_write(out + i);
    store(out, V::select(counts, v, r));
  });
  return lane_sum<V>(sum);
}

// Of v, in place: out = side v + mad sign(p - m) + tie [p = m], 0 where v is NaN.
template <typename V>
void residual_gradient_sweep(const typename V::Scalar* p, int64_t n, const ResidualTask<typename V::Scalar>* task, typename V::Scalar* out) {
  using F = typename V::F;
  const F m = V::set1(task->m_p), side = V::set1(task->side), mad = V::set1(task->mad), tie = V::set1(task->tie), nothing = V::zero();
  over_row<V>(p, n, [&](F x, int64_t i, auto store) {
    const F off = x - m, v = i + V::W <= n ? V::load(out + i) : V::load(Rest<V>(out + i, static_cast<int>(n - i)).x);
    const F g = v * side + V::select(V::eq(off, nothing), tie, V::turned(mad, off));
    store(out, V::select(V::eq(v, v), g, nothing));
  });
}

}  // namespace dadkit::DADKIT_UNIT
