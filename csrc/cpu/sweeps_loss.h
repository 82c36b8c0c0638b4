// The sweeps once the order statistics are known: the loss with its sums, its gradient, and normalised maps.
#pragma once

#include "runs.h"

namespace dadkit::DADKIT_UNIT {

template <typename V, int L>
struct PairConstants {
  typename V::F m_p[L], inv_p[L], m_d[L], inv_d[L];
  template <typename Task>
  DADKIT_INLINE PairConstants(const Task& task, uint8_t c) {
    for (int l = 0; l < L; ++l) {
      m_p[l] = V::set1(task.m_p.at[l][c]);
      inv_p[l] = V::set1(task.inv_p.at[l][c]);
      m_d[l] = V::set1(task.m_d.at[l][c]);
      inv_d[l] = V::set1(task.inv_d.at[l][c]);
    }
  }
};

template <typename V, int L, bool kWeighted>
void loss_block(const typename V::Scalar* p, const typename V::Scalar* d, const uint8_t* leaf, const typename V::Scalar* weight, int64_t vectors,
                LossTask<typename V::Scalar>* task, typename V::Scalar* map) {
  using F = typename V::F;
  using M = typename V::M;
  F abs_sums[kMaxLeaves], signs[kMaxLeaves][L], zs[kMaxLeaves][L];
  uint64_t touched = 0;
  auto step = [&](uint8_t c, int64_t first, int64_t last, bool alone) {
    const PairConstants<V, L> k(*task, c);
    const F share = V::set1(task->share[c]), one = V::set1(1), nothing = V::zero();
    const bool fresh = !(touched >> c & 1);
    touched |= static_cast<uint64_t>(1) << c;
    F total = fresh ? nothing : abs_sums[c];
    F sign_sum[L], z_sum[L];
    for (int l = 0; l < L; ++l) {
      sign_sum[l] = fresh ? nothing : signs[c][l];
      z_sum[l] = fresh ? nothing : zs[c][l];
    }
    for (int64_t v = first; v < last; ++v) {
      fetch_ahead(p + v * V::W);
      fetch_ahead(d + v * V::W);
      const M m = V::leaf_is(leaf + v * V::W, c);
      const F x = V::load(p + v * V::W), y = V::load(d + v * V::W);
      const F w = kWeighted ? V::load(weight + v * V::W) : one;
      F here = nothing;
      for (int l = 0; l < L; ++l) {
        const F z = (x - k.m_p[l]) * k.inv_p[l];
        const F e = z - (y - k.m_d[l]) * k.inv_d[l];
        const M unequal = V::differ_in(m, e, nothing);
        if (!kWeighted) here = here + V::abs(e);
        sign_sum[l] = V::add_if(sign_sum[l], unequal, V::turned(w, e));
        z_sum[l] = V::add_if(z_sum[l], unequal, V::turned(kWeighted ? w * z : z, e));
      }
      if (!kWeighted) {
        total = V::add_if(total, m, here);
        if (map) V::store(map + v * V::W, V::select(m, here * share, alone ? nothing : V::load(map + v * V::W)));
      }
    }
    abs_sums[c] = total;
    for (int l = 0; l < L; ++l) {
      signs[c][l] = sign_sum[l];
      zs[c][l] = z_sum[l];
    }
  };
  for_runs<V>(leaf, vectors, step, [&](int64_t v) {
    if (map) V::store(map + v * V::W, V::zero());
  });
  for (int c = 0; c < kMaxLeaves && touched >> c; ++c) {
    if (!(touched >> c & 1)) continue;
    if (!kWeighted) task->abs_sum[c] += lane_sum<V>(abs_sums[c]);
    for (int l = 0; l < L; ++l) {
      task->sign_sum.at[l][c] += lane_sum<V>(signs[c][l]);
      task->z_sum.at[l][c] += lane_sum<V>(zs[c][l]);
    }
  }
}

template <typename V, int L, bool kWeighted>
void loss_levels(const typename V::Scalar* p, const typename V::Scalar* d, const uint8_t* leaf, const typename V::Scalar* weight, int64_t n,
                 LossTask<typename V::Scalar>* task, typename V::Scalar* map) {
  using T = typename V::Scalar;
  in_blocks<V>(
      n,
      [&](int64_t at, int64_t vectors) {
        loss_block<V, L, kWeighted>(p + at, d + at, leaf + at, kWeighted ? weight + at : nullptr, vectors, task, map ? map + at : nullptr);
      },
      [&](int64_t at, int rest) {
        T out[V::W];
        const Rest<V> w(kWeighted ? weight + at : p + at, rest);
        loss_block<V, L, kWeighted>(Rest<V>(p + at, rest).x, Rest<V>(d + at, rest).x, RestLeaf<V>(leaf + at, rest).x, w.x, 1, task,
                                    map ? out : nullptr);
        if (map) std::memcpy(map + at, out, sizeof(T) * static_cast<size_t>(rest));
      });
}

template <typename V>
void loss_sweep(const typename V::Scalar* p, const typename V::Scalar* d, const uint8_t* leaf, int64_t n, LossTask<typename V::Scalar>* task,
                typename V::Scalar* map) {
  by_levels(task->levels, [&](auto levels) { loss_levels<V, decltype(levels)::value, false>(p, d, leaf, nullptr, n, task, map); });
}

template <typename V>
void weighted_sums_sweep(const typename V::Scalar* p, const typename V::Scalar* d, const uint8_t* leaf, const typename V::Scalar* weight, int64_t n,
                         LossTask<typename V::Scalar>* task) {
  by_levels(task->levels, [&](auto levels) { loss_levels<V, decltype(levels)::value, true>(p, d, leaf, weight, n, task, nullptr); });
}

// ------------------------------------------------------------------------------------------------ gradient of the loss
template <typename V, int L, bool kWeighted>
void gradient_block(const typename V::Scalar* p, const typename V::Scalar* d, const uint8_t* leaf, const typename V::Scalar* weight, int64_t vectors,
                    const GradientTask<typename V::Scalar>& task, typename V::Scalar* out) {
  using T = typename V::Scalar;
  using F = typename V::F;
  using M = typename V::M;
  auto step = [&](uint8_t c, int64_t first, int64_t last, bool alone) {
    const PairConstants<V, L> k(task, c);
    const F nothing = V::zero();
    const M all = V::eq(nothing, nothing);
    F side[L], mad[L], tie[L];
    for (int l = 0; l < L; ++l) {
      side[l] = V::set1(task.side.at[l][c]);
      mad[l] = V::set1(task.mad.at[l][c]);
      tie[l] = V::set1(task.tie.at[l][c]);
    }
    const T *xs = p, *ys = d, *ws = weight;  // in registers: the compiler cannot know that no store to `out` changes what this captures
    const uint8_t* leaves = leaf;
    T* to = out;
    for (int64_t i = first * V::W; i < last * V::W; i += V::W) {
      fetch_ahead(xs + i);
      fetch_ahead(ys + i);
      fetch_to_write(to + i);
      const M m = V::leaf_is(leaves + i, c);
      const F x = V::load(xs + i), y = V::load(ys + i);
      const F w = kWeighted ? V::load(ws + i) : nothing;
      F g = nothing;
      for (int l = 0; l < L; ++l) {
        const F off = x - k.m_p[l];
        const F e = off * k.inv_p[l] - (y - k.m_d[l]) * k.inv_d[l];
        const F slope = kWeighted ? side[l] * w : side[l];
        g = V::add_if(g, V::differ_in(all, e, nothing), V::turned(slope, e));
        g = g + V::select(V::eq(off, nothing), tie[l], V::turned(mad[l], off));
      }
      V::store(to + i, V::select(m, g, alone ? nothing : V::load(to + i)));
    }
  };
  for_runs<V>(leaf, vectors, step, [&](int64_t v) { V::store(out + v * V::W, V::zero()); });
}

template <typename V, int L, bool kWeighted>
void gradient_levels(const typename V::Scalar* p, const typename V::Scalar* d, const uint8_t* leaf, const typename V::Scalar* weight, int64_t n,
                     const GradientTask<typename V::Scalar>& task, typename V::Scalar* out) {
  using T = typename V::Scalar;
  in_blocks<V>(
      n,
      [&](int64_t at, int64_t vectors) {
        gradient_block<V, L, kWeighted>(p + at, d + at, leaf + at, kWeighted ? weight + at : nullptr, vectors, task, out + at);
      },
      [&](int64_t at, int rest) {
        T last[V::W];
        const Rest<V> w(kWeighted ? weight + at : p + at, rest);
        gradient_block<V, L, kWeighted>(Rest<V>(p + at, rest).x, Rest<V>(d + at, rest).x, RestLeaf<V>(leaf + at, rest).x, w.x, 1, task, last);
        std::memcpy(out + at, last, sizeof(T) * static_cast<size_t>(rest));
      });
}

template <typename V>
void gradient_sweep(const typename V::Scalar* p, const typename V::Scalar* d, const uint8_t* leaf, const typename V::Scalar* weight, int64_t n,
                    const GradientTask<typename V::Scalar>* task, typename V::Scalar* out) {
  by_levels(task->levels, [&](auto levels) {
    if (weight) {
      gradient_levels<V, decltype(levels)::value, true>(p, d, leaf, weight, n, *task, out);
    } else {
      gradient_levels<V, decltype(levels)::value, false>(p, d, leaf, nullptr, n, *task, out);
    }
  });
}

// ------------------------------------------------------------------------------------------------ normalised maps
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
    level_sweep<V>(x, leaf, l < task->upstreams ? upstream + l * task->pitch : nullptr, n, out, [&](uint8_t c, typename V::M m, F value, F u, F before) {
      const F off = value - V::set1(task->m.at[l][c]), nothing = V::zero();
      const F mad = V::set1(task->mad.at[l][c]), tie = V::set1(task->tie.at[l][c]);
      F g = before + u * V::set1(task->side.at[l][c]);
      g = V::sub_if(V::add_if(g, V::lt(nothing, off), mad), V::lt(off, nothing), mad);
      return V::select(m, V::add_if(g, V::eq(off, nothing), tie), before);
    });
  }
}

}  // namespace dadkit::DADKIT_UNIT
