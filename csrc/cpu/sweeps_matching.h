// The sweeps of the gradient matching loss, row by row: residuals, sums of their differences, and the adjoint of these.
//
// A pixel that does not count has the residual NaN: every comparison with it is false, so it drops out of all sums without a mask.
#pragma once

#include "runs.h"

namespace dadkit::DADKIT_UNIT {

// Calls step(i) for whole vectors and last(i) for the single elements behind them.
template <typename V, typename Step, typename Last>
DADKIT_INLINE void along(int64_t n, Step step, Last last) {
  int64_t i = 0;
  for (; i + V::W <= n; i += V::W) step(i);
  for (; i < n; ++i) last(i);
}

template <typename V>
void residual_sweep(const typename V::Scalar* p, const typename V::Scalar* d, const uint8_t* mask, int64_t n,
                    const ResidualTask<typename V::Scalar>* task, typename V::Scalar* normalised, typename V::Scalar* residual) {
  using T = typename V::Scalar;
  using F = typename V::F;
  const T nan = static_cast<T>(__builtin_nan(""));
  const F m_p = V::set1(task->m_p), inv_p = V::set1(task->inv_p), m_d = V::set1(task->m_d), inv_d = V::set1(task->inv_d), nowhere = V::set1(nan);
  along<V>(
      n,
      [&](int64_t i) {
        const F z = (V::load(p + i) - m_p) * inv_p;
        F r = z - (V::load(d + i) - m_d) * inv_d;
        if (mask) r = V::select(V::mask_of(mask + i), r, nowhere);
        V::store(normalised + i, z);
        V::store(residual + i, r);
      },
      [&](int64_t i) {
        const T z = (p[i] - task->m_p) * task->inv_p;
        normalised[i] = z;
        residual[i] = mask && !mask[i] ? nan : z - (d[i] - task->m_d) * task->inv_d;
      });
}

// Over the pairs (x, x + 1) and (this row, the next) of one row: sum of w |dR| and of w sign(dR) dN; steps gets |dR| of both pairs at x.
// Rows are padded by one NaN at either end.
template <typename V>
void difference_sweep(const DifferenceRows<typename V::Scalar>* rows, int64_t n, double* sum_abs, double* sum_z, typename V::Scalar* steps) {
  using T = typename V::Scalar;
  using F = typename V::F;
  F total = V::zero(), total_z = V::zero();
  double rest = 0, rest_z = 0;
  const F nothing = V::zero(), one = V::set1(1);
  const T *r = rows->residual, *down = rows->next, *z = rows->normalised, *z_down = rows->normalised_next, *weight = rows->weight;
  along<V>(
      n,
      [&](int64_t i) {
        const F here = V::load(r + i), z_here = V::load(z + i), w = weight ? V::load(weight + i) : one;
        const F e_x = V::load(r + i + 1) - here, e_y = V::load(down + i) - here;
        const F z_x = (V::load(z + i + 1) - z_here) * w, z_y = (V::load(z_down + i) - z_here) * w;
        const F step = V::add_if(V::add_if(nothing, V::eq(e_x, e_x), V::abs(e_x)), V::eq(e_y, e_y), V::abs(e_y));
        total = total + step * w;
        total_z = V::sub_if(V::add_if(total_z, V::lt(nothing, e_x), z_x), V::lt(e_x, nothing), z_x);
        total_z = V::sub_if(V::add_if(total_z, V::lt(nothing, e_y), z_y), V::lt(e_y, nothing), z_y);
        if (steps) V::store(steps + i, step);
      },
      [&](int64_t i) {
        const T w = weight ? weight[i] : T(1), e[2] = {r[i + 1] - r[i], down[i] - r[i]}, dz[2] = {z[i + 1] - z[i], z_down[i] - z[i]};
        T step = 0;
        for (int k = 0; k < 2; ++k) {
          if (!(e[k] == e[k])) continue;
          step += e[k] < 0 ? -e[k] : e[k];
          rest_z += static_cast<double>(e[k] > 0 ? dz[k] * w : (e[k] < 0 ? -(dz[k] * w) : T(0)));
        }
        rest += static_cast<double>(step * w);
        if (steps) steps[i] = step;
      });
  *sum_abs += lane_sum<V>(total) + rest;
  *sum_z += lane_sum<V>(total_z) + rest_z;
}

// The adjoint: out[x] = c (w(x-1) s(x-1, x) - w(x) s(x, x+1)), columns and rows alike, with s(a, b) = sign(R(b) - R(a)).
template <typename V, bool kWeighted>
void adjoint_of_differences(const DifferenceRows<typename V::Scalar>* rows, int64_t n, typename V::Scalar scale, typename V::Scalar* out) {
  using T = typename V::Scalar;
  using F = typename V::F;
  const T *r = rows->residual, *up = rows->previous, *down = rows->next, *w = rows->weight, *w_up = rows->weight_previous;
  const F nothing = V::zero(), c = V::set1(scale);
  auto signed_sum = [&](F sum, F e, F by) { return V::sub_if(V::add_if(sum, V::lt(nothing, e), by), V::lt(e, nothing), by); };
  auto sign = [](T e, T by) { return e > 0 ? by : (e < 0 ? -by : T(0)); };
  along<V>(
      n,
      [&](int64_t i) {
        const F here = V::load(r + i), own = kWeighted ? V::load(w + i) * c : c;
        F g = signed_sum(nothing, here - V::load(r + i - 1), kWeighted ? V::load(w + i - 1) * c : c);
        g = signed_sum(g, here - V::load(up + i), kWeighted ? V::load(w_up + i) * c : c);
        g = signed_sum(g, here - V::load(r + i + 1), own);
        V::store(out + i, signed_sum(g, here - V::load(down + i), own));
      },
      [&](int64_t i) {
        const T own = kWeighted ? w[i] * scale : scale;
        out[i] = sign(r[i] - r[i - 1], kWeighted ? w[i - 1] * scale : scale) + sign(r[i] - up[i], kWeighted ? w_up[i] * scale : scale) +
                 sign(r[i] - r[i + 1], own) + sign(r[i] - down[i], own);
      });
}

template <typename V>
void difference_adjoint_sweep(const DifferenceRows<typename V::Scalar>* rows, int64_t n, typename V::Scalar scale, typename V::Scalar* out) {
  if (rows->weight) {
    adjoint_of_differences<V, true>(rows, n, scale, out);
  } else {
    adjoint_of_differences<V, false>(rows, n, scale, out);
  }
}

// out = side v + mad sign(p - m) + tie [p = m] where the residual is a number, else 0
template <typename V>
void residual_gradient_sweep(const typename V::Scalar* p, const typename V::Scalar* v, const typename V::Scalar* residual, int64_t n,
                             const ResidualTask<typename V::Scalar>* task, typename V::Scalar* out) {
  using T = typename V::Scalar;
  using F = typename V::F;
  const F m = V::set1(task->m_p), side = V::set1(task->side), mad = V::set1(task->mad), tie = V::set1(task->tie), nothing = V::zero();
  along<V>(
      n,
      [&](int64_t i) {
        const F off = V::load(p + i) - m, r = V::load(residual + i);
        F g = V::load(v + i) * side;
        g = V::sub_if(V::add_if(g, V::lt(nothing, off), mad), V::lt(off, nothing), mad);
        g = V::add_if(g, V::eq(off, nothing), tie);
        V::store(out + i, V::select(V::eq(r, r), g, nothing));
      },
      [&](int64_t i) {
        const T off = p[i] - task->m_p;
        const T g = v[i] * task->side + (off > 0 ? task->mad : (off < 0 ? -task->mad : task->tie));
        out[i] = residual[i] == residual[i] ? g : T(0);
      });
}

}  // namespace dadkit::DADKIT_UNIT
