// The sweeps after the order statistics are known: loss and its sums, gradients, normalised maps.
#pragma once

#include "sweeps_matching.h"

namespace dadkit {
namespace DADKIT_UNIT {

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
  if (map)
    for (int64_t v = 0; v < vectors; ++v) V::store(map + v * V::W, V::zero());
  for_runs<V>(leaf, vectors, [&](uint8_t c, int64_t first, int64_t last) {
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
        const M over = V::both(m, V::lt(nothing, e)), under = V::both(m, V::lt(e, nothing));
        const F wz = kWeighted ? w * z : z;
        if (!kWeighted) here = here + V::abs(e);
        sign_sum[l] = V::sub_if(V::add_if(sign_sum[l], over, w), under, w);
        z_sum[l] = V::sub_if(V::add_if(z_sum[l], over, wz), under, wz);
      }
      if (!kWeighted) {
        total = V::add_if(total, m, here);
        if (map) V::store(map + v * V::W, V::select(m, here * share, V::load(map + v * V::W)));
      }
    }
    abs_sums[c] = total;
    for (int l = 0; l < L; ++l) {
      signs[c][l] = sign_sum[l];
      zs[c][l] = z_sum[l];
    }
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
  switch (task->levels) {
    case 1: return loss_levels<V, 1, false>(p, d, leaf, nullptr, n, task, map);
    case 2: return loss_levels<V, 2, false>(p, d, leaf, nullptr, n, task, map);
    case 3: return loss_levels<V, 3, false>(p, d, leaf, nullptr, n, task, map);
    case 4: return loss_levels<V, 4, false>(p, d, leaf, nullptr, n, task, map);
    default: return loss_levels<V, kMaxLevels, false>(p, d, leaf, nullptr, n, task, map);
  }
}

template <typename V>
void weighted_sums_sweep(const typename V::Scalar* p, const typename V::Scalar* d, const uint8_t* leaf, const typename V::Scalar* weight, int64_t n,
                         LossTask<typename V::Scalar>* task) {
  switch (task->levels) {
    case 1: return loss_levels<V, 1, true>(p, d, leaf, weight, n, task, nullptr);
    case 2: return loss_levels<V, 2, true>(p, d, leaf, weight, n, task, nullptr);
    case 3: return loss_levels<V, 3, true>(p, d, leaf, weight, n, task, nullptr);
    case 4: return loss_levels<V, 4, true>(p, d, leaf, weight, n, task, nullptr);
    default: return loss_levels<V, kMaxLevels, true>(p, d, leaf, weight, n, task, nullptr);
  }
}

// ------------------------------------------------------------------------------------------------ gradient of the loss
template <typename V, int L, bool kWeighted>
void gradient_block(const typename V::Scalar* p, const typename V::Scalar* d, const uint8_t* leaf, const typename V::Scalar* weight, int64_t vectors,
                    const GradientTask<typename V::Scalar>& task, typename V::Scalar* out) {
  using F = typename V::F;
  using M = typename V::M;
  for (int64_t v = 0; v < vectors; ++v) {
    __builtin_prefetch(reinterpret_cast<const char*>(out + v * V::W) + 4096, 1);  // to be written
    V::store(out + v * V::W, V::zero());
  }
  for_runs<V>(leaf, vectors, [&](uint8_t c, int64_t first, int64_t last) {
    const PairConstants<V, L> k(task, c);
    const F nothing = V::zero();
    F side[L], mad[L], tie[L];
    for (int l = 0; l < L; ++l) {
      side[l] = V::set1(task.side.at[l][c]);
      mad[l] = V::set1(task.mad.at[l][c]);
      tie[l] = V::set1(task.tie.at[l][c]);
    }
    for (int64_t v = first; v < last; ++v) {
      fetch_ahead(p + v * V::W);
      fetch_ahead(d + v * V::W);
      const M m = V::leaf_is(leaf + v * V::W, c);
      const F x = V::load(p + v * V::W), y = V::load(d + v * V::W);
      const F w = kWeighted ? V::load(weight + v * V::W) : nothing;
      F g = nothing;
      for (int l = 0; l < L; ++l) {
        const F off = x - k.m_p[l];
        const F e = off * k.inv_p[l] - (y - k.m_d[l]) * k.inv_d[l];
        const F step = kWeighted ? side[l] * w : side[l];
        g = V::sub_if(V::add_if(g, V::lt(nothing, e), step), V::lt(e, nothing), step);
        g = V::sub_if(V::add_if(g, V::lt(nothing, off), mad[l]), V::lt(off, nothing), mad[l]);
        g = V::add_if(g, V::eq(off, nothing), tie[l]);
      }
      V::store(out + v * V::W, V::select(m, g, V::load(out + v * V::W)));
    }
  });
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

template <typename V, int L>
void gradient_either(const typename V::Scalar* p, const typename V::Scalar* d, const uint8_t* leaf, const typename V::Scalar* weight, int64_t n,
                     const GradientTask<typename V::Scalar>& task, typename V::Scalar* out) {
  if (weight) {
    gradient_levels<V, L, true>(p, d, leaf, weight, n, task, out);
  } else {
    gradient_levels<V, L, false>(p, d, leaf, nullptr, n, task, out);
  }
}

template <typename V>
void gradient_sweep(const typename V::Scalar* p, const typename V::Scalar* d, const uint8_t* leaf, const typename V::Scalar* weight, int64_t n,
                    const GradientTask<typename V::Scalar>* task, typename V::Scalar* out) {
  switch (task->levels) {
    case 1: return gradient_either<V, 1>(p, d, leaf, weight, n, *task, out);
    case 2: return gradient_either<V, 2>(p, d, leaf, weight, n, *task, out);
    case 3: return gradient_either<V, 3>(p, d, leaf, weight, n, *task, out);
    case 4: return gradient_either<V, 4>(p, d, leaf, weight, n, *task, out);
    default: return gradient_either<V, kMaxLevels>(p, d, leaf, weight, n, *task, out);
  }
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
    level_sweep<V>(x, leaf, upstream + l * task->pitch, n, out, [&](uint8_t c, typename V::M m, F value, F u, F before) {
      const F off = value - V::set1(task->m.at[l][c]), nothing = V::zero();
      const F mad = V::set1(task->mad.at[l][c]), tie = V::set1(task->tie.at[l][c]);
      F g = before + u * V::set1(task->side.at[l][c]);
      g = V::sub_if(V::add_if(g, V::lt(nothing, off), mad), V::lt(off, nothing), mad);
      return V::select(m, V::add_if(g, V::eq(off, nothing), tie), before);
    });
  }
}

// ------------------------------------------------------------------------------------------------ reading through a box
template <typename V>
void sample_rows(const PatchTask<typename V::Scalar>* patch, int64_t row, int64_t rows, typename V::Scalar* scratch, typename V::Scalar* out) {
  using T = typename V::Scalar;
  using F = typename V::F;
  const int64_t columns = patch->col_hi - patch->col_lo + 1;
  for (int64_t r = row; r < row + rows; ++r, out += patch->w) {
    const int64_t next = patch->row[r] + (patch->row_frac[r] > 0);
    const T* top = patch->map + patch->row[r] * patch->width + patch->col_lo;
    const T* bottom = patch->map + next * patch->width + patch->col_lo;
    const T f = patch->row_frac[r];
    const F down = V::set1(f), up = V::set1(1 - f), one = V::set1(1);
    int64_t x = 0;
    for (; x + V::W <= columns; x += V::W) {
      V::store(scratch + x, V::load(top + x) * up + V::load(bottom + x) * down);
    }
    for (; x < columns; ++x) scratch[x] = top[x] * (1 - f) + bottom[x] * f;
    scratch[columns] = scratch[columns - 1];
    int64_t j = 0;
    for (; j + V::W <= patch->w; j += V::W) {
      F left, right;
      V::gather_pair(scratch, patch->col + j, left, right);
      const F along = V::load(patch->col_frac + j);
      right = V::select(V::eq(along, V::zero()), left, right);  // a neighbour of weight zero is not read: it may be NaN
      V::store(out + j, left * (one - along) + right * along);
    }
    for (; j < patch->w; ++j) {
      const T along = patch->col_frac[j], left = scratch[patch->col[j]];
      out[j] = along == 0 ? left : left * (1 - along) + scratch[patch->col[j] + 1] * along;
    }
  }
}

template <typename V>
void adjoint_row_sweep(const PatchTask<typename V::Scalar>* patch, const typename V::Scalar* line, typename V::Scalar* out) {
  using T = typename V::Scalar;
  using F = typename V::F;
  const int64_t columns = patch->col_hi - patch->col_lo + 1;
  int64_t x = 0;
  for (; x + V::W <= columns; x += V::W) {
    F sum = V::load(out + x);
    for (int k = 0; k + 1 < patch->depth; k += 2) {
      F first, second;
      V::gather_pair(line + k, patch->first + x, first, second);
      sum = sum + first * V::load(patch->weight + k * patch->pitch + x);
      sum = sum + second * V::load(patch->weight + (k + 1) * patch->pitch + x);
    }
    V::store(out + x, sum);
  }
  for (; x < columns; ++x) {
    T sum = out[x];
    for (int k = 0; k < patch->depth; ++k) sum += line[patch->first[x] + k] * patch->weight[k * patch->pitch + x];
    out[x] = sum;
  }
}

template <typename V>
void add_scaled_sweep(const typename V::Scalar* x, typename V::Scalar scale, int64_t n, typename V::Scalar* out) {
  const typename V::F s = V::set1(scale);
  int64_t i = 0;
  for (; i + V::W <= n; i += V::W) V::store(out + i, V::load(out + i) + V::load(x + i) * s);
  for (; i < n; ++i) out[i] += x[i] * scale;
}

template <typename V>
const Sweeps<typename V::Scalar>* table() {
  static const Sweeps<typename V::Scalar> sweeps = {
      V::W,
      range_sweep<V>,
      leaves_sweep<V>,
      select_sweep<V>,
      count_sweep<V>,
      loss_sweep<V>,
      weighted_sums_sweep<V>,
      gradient_sweep<V>,
      normalize_sweep<V>,
      normalize_sums_sweep<V>,
      normalize_gradient_sweep<V>,
      filter_sweep<V>,
      deviation_sweep<V>,
      sample_rows<V>,
      adjoint_row_sweep<V>,
      add_scaled_sweep<V>,
      residual_sweep<V>,
      difference_sweep<V>,
      difference_adjoint_sweep<V>,
      residual_gradient_sweep<V>,
  };
  return &sweeps;
}

}  // namespace DADKIT_UNIT
}  // namespace dadkit
