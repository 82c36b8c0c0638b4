// Normalised maps and their gradients.
#pragma once

#include "runs.h"

namespace dadkit {
namespace DADKIT_UNIT {

// One level at a time: `normalize` is no hot path, and its outputs are what costs.
template <typename V, typename Body>
DADKIT_INLINE void level_sweep(const typename V::Scalar* x, const uint8_t* leaf, const typename V::Scalar* upstream, int64_t n,
                               typename V::Scalar* out, Body body) {
  using T = typename V::Scalar;
  using F = typename V::F;
  auto block = [&](const T* xs, const uint8_t* leaves, const T* us, int64_t vectors, T* to) {
    for_runs<V>(leaves, vectors, [&](uint8_t c, int64_t first, int64_t last) {
      for (int64_t v = first; v < last; ++v) {
        const int64_t i = v * V::W;
        const F u = us ? V::load(us + i) : V::zero();
        const F before = to ? V::load(to + i) : V::zero();
        const F after = body(c, V::leaf_is(leaves + i, c), V::load(xs + i), u, before);
        if (to) V::store(to + i, after);
      }
    });
  };
  in_blocks<V>(
      n,
      [&](int64_t at, int64_t vectors) { block(x + at, leaf + at, upstream ? upstream + at : nullptr, vectors, out ? out + at : nullptr); },
      [&](int64_t at, int rest) {
        Rest<V> last(out ? out + at : x + at, rest);
        const Rest<V> us(upstream ? upstream + at : x + at, rest);
        block(Rest<V>(x + at, rest).x, RestLeaf<V>(leaf + at, rest).x, upstream ? us.x : nullptr, 1, out ? last.x : nullptr);
        if (out) std::memcpy(out + at, last.x, sizeof(T) * static_cast<size_t>(rest));
      });
}

template <typename V>
void normalize_sweep(const typename V::Scalar* x, const uint8_t* leaf, int64_t n, const NormalizeTask<typename V::Scalar>* task,
                     typename V::Scalar* out) {
  using F = typename V::F;
  for (int l = 0; l < task->levels; ++l) {
    level_sweep<V>(x, leaf, nullptr, n, out + l * task->pitch, [&](uint8_t c, typename V::M m, F value, F, F before) {
      return V::select(m, (value - V::set1(task->m.at[l][c])) * V::set1(task->inv.at[l][c]), before);
    });
  }
}

template <typename V>
void normalize_sums_sweep(const typename V::Scalar* x, const uint8_t* leaf, const typename V::Scalar* upstream, int64_t n,
                          NormalizeTask<typename V::Scalar>* task) {
  using F = typename V::F;
  for (int l = 0; l < task->levels; ++l) {
    level_sweep<V>(x, leaf, upstream + l * task->pitch, n, nullptr, [&](uint8_t c, typename V::M m, F value, F u, F before) {
      const F z = (value - V::set1(task->m.at[l][c])) * V::set1(task->inv.at[l][c]);
      task->u_sum.at[l][c] += lane_sum<V>(V::select(m, u, V::zero()));
      task->z_sum.at[l][c] += lane_sum<V>(V::select(m, u * z, V::zero()));
      return before;
    });
  }
}

template <typename V>
void normalize_gradient_sweep(const typename V::Scalar* x, const uint8_t* leaf, const typename V::Scalar* upstream, int64_t n,
                              const NormalizeTask<typename V::Scalar>* task, typename V::Scalar* out) {
  using F = typename V::F;
  for (int l = 0; l < task->levels; ++l) {
    level_sweep<V>(x, leaf, upstream + l * task->pitch, n, out, [&](uint8_t c, typename V::M m, F value, F u, F before) {
      const F off = value - V::set1(task->m.at[l][c]), nothing = V::zero();
      const F mad = V::set1(task->mad.at[l][c]), tie = V::set1(task->tie.at[l][c]);
      F g = before + u * V::set1(task->side.at[l][c]);
      g = V::sub_if(V::add_if(g, V::lt(nothing, off), mad), V::lt(off, nothing), mad);
      return V::select(m, V::add_if(g, V::eq(off, nothing), tie), before);
    });
  }
}

}  // namespace DADKIT_UNIT
}  // namespace dadkit
