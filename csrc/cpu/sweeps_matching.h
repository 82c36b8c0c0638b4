// The sweeps of the gradient matching loss, row by row: residuals, every second column, sums of differences, and the adjoint of these.
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

// R = N(p) - N(d) and, unless it is nullptr, N(p)
template <typename V>
void residual_sweep(const typename V::Scalar* p, const typename V::Scalar* d, const uint8_t* mask, int64_t n,
                    const ResidualTask<typename V::Scalar>* task, typename V::Scalar* normalised, typename V::Scalar* residual) {
  using T = typename V::Scalar;
  using F = typename V::F;
  const T nan = static_cast<T>(__builtin_nan(""));
  const F m_p = V::set1(task->m_p), inv_p = V::set1(task->inv_p), m_d = V::set1(task->m_d), inv_d = V::set1(task->inv_d), nowhere = V::set1(nan);
  auto step = [&](const T* xs, const T* ys, const uint8_t* valid, int64_t i) {
    const F z = (V::load(xs) - m_p) * inv_p, r = z - (V::load(ys) - m_d) * inv_d;
    if (normalised) V::store(normalised + i, z);
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

// Over the pairs (x, x + 1) and (this row, the next) of one row: sum of w |dR| and of w sign(dR) dN; steps gets |dR| of both pairs at x.
template <typename V>
void difference_sweep(const DifferenceRows<typename V::Scalar>* rows, int64_t n, double* sum_abs, double* sum_z, typename V::Scalar* steps) {
  using F = typename V::F;
  using M = typename V::M;
  const auto *r = rows->residual, *down = rows->next, *z = rows->normalised, *z_down = rows->normalised_next, *weight = rows->weight;
  const F nothing = V::zero(), one = V::set1(1);
  const M all = V::eq(nothing, nothing);
  F total = nothing, total_z = nothing;
  for (int64_t i = 0; i < n; i += V::W) {
    const F here = V::load(r + i), z_here = V::load(z + i), w = weight ? V::load(weight + i) : one;
    const F e_x = V::load(r + i + 1) - here, e_y = V::load(down + i) - here;
    const M in_x = V::differ_in(all, e_x, nothing), in_y = V::differ_in(all, e_y, nothing);
    const F step = V::add_if(V::add_if(nothing, in_x, V::abs(e_x)), in_y, V::abs(e_y));
    total = total + step * w;
    total_z = V::add_if(total_z, in_x, V::turned((V::load(z + i + 1) - z_here) * w, e_x));
    total_z = V::add_if(total_z, in_y, V::turned((V::load(z_down + i) - z_here) * w, e_y));
    if (steps) V::store(steps + i, step);
  }
  *sum_abs += lane_sum<V>(total);
  *sum_z += lane_sum<V>(total_z);
}

// The adjoint: out[x] = c (w(x-1) s(x-1, x) - w(x) s(x, x+1)), columns and rows alike, with s(a, b) = sign(R(b) - R(a)); to it is added what
// the next coarser scale says of every second column, unless that is nullptr.
template <typename V, bool kWeighted>
void adjoint_of_differences(const DifferenceRows<typename V::Scalar>* rows, int64_t n, typename V::Scalar scale,
                            const typename V::Scalar* coarser, typename V::Scalar* out) {
  using F = typename V::F;
  const auto *r = rows->residual, *up = rows->previous, *down = rows->next, *w = rows->weight, *w_up = rows->weight_previous;
  const F nothing = V::zero(), c = V::set1(scale);
  const typename V::M all = V::eq(nothing, nothing);
  for (int64_t i = 0; i < n; i += V::W) {
    const F here = V::load(r + i), own = kWeighted ? V::load(w + i) * c : c;
    F g = nothing;
    auto add = [&](const typename V::Scalar* other, F by) {
      const F e = here - V::load(other);
      g = V::add_if(g, V::differ_in(all, e, nothing), V::turned(by, e));
    };
    add(r + i - 1, kWeighted ? V::load(w + i - 1) * c : c);
    add(up + i, kWeighted ? V::load(w_up + i) * c : c);
    add(r + i + 1, own);
    add(down + i, own);
    V::store(out + i, coarser ? g + V::spread(coarser + i / 2) : g);
  }
}

template <typename V>
void difference_adjoint_sweep(const DifferenceRows<typename V::Scalar>* rows, int64_t n, typename V::Scalar scale,
                              const typename V::Scalar* coarser, typename V::Scalar* out) {
  if (rows->weight) {
    adjoint_of_differences<V, true>(rows, n, scale, coarser, out);
  } else {
    adjoint_of_differences<V, false>(rows, n, scale, coarser, out);
  }
}

// out = side v + mad sign(p - m) + tie [p = m] where the residual is a number, else 0
template <typename V>
void residual_gradient_sweep(const typename V::Scalar* p, const typename V::Scalar* v, const typename V::Scalar* residual, int64_t n,
                             const ResidualTask<typename V::Scalar>* task, typename V::Scalar* out) {
  using F = typename V::F;
  const F m = V::set1(task->m_p), side = V::set1(task->side), mad = V::set1(task->mad), tie = V::set1(task->tie), nothing = V::zero();
  auto gradient = [&](const typename V::Scalar* xs, int64_t i) {
    const F off = V::load(xs) - m, r = V::load(residual + i);
    const F g = V::load(v + i) * side + V::select(V::eq(off, nothing), tie, V::turned(mad, off));
    return V::select(V::eq(r, r), g, nothing);
  };
  int64_t i = 0;
  for (; i + V::W <= n; i += V::W) V::store(out + i, gradient(p + i, i));
  if (i == n) return;
  typename V::Scalar last[V::W];
  V::store(last, gradient(Rest<V>(p + i, static_cast<int>(n - i)).x, i));
  std::memcpy(out + i, last, sizeof(last[0]) * static_cast<size_t>(n - i));
}

}  // namespace dadkit::DADKIT_UNIT
