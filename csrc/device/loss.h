// The hybrid loss of every image or patch, what backward needs of it, and the gradient of maps.
#pragma once

#include "statistics.h"

namespace dadkit {
namespace device {

// Sums of v and v N per leaf and level become sums per context; `first` numbers of a leaf come before them
template <typename T>
DADKIT_DEVICE void collect_upstream(const Call<T>& c, int64_t b, int u, int per_leaf, int first, int levels) {
  Context& k = c.at(b, u);
  k.upstream[0] = k.upstream[1] = 0;
  for (int l = 0; l < c.seg.loss_levels; ++l) {
    for (int leaf = 0; leaf < c.seg.leaves; ++leaf) {
      if (c.context_of(l, leaf) != u || !is_counted(c, b, l, leaf)) continue;
      const double share = c.share[b * c.seg.leaves + leaf], *sums = c.sums + b * c.values + leaf * per_leaf + first;
      k.upstream[0] += share * sums[l];
      k.upstream[1] += share * sums[levels + l];
    }
  }
}

// ------------------------------------------------------------------------------------------------ forward
template <typename T, int L>
struct Loss {
  static constexpr int kValues = 1 + 2 * L;  // of a leaf: sum of |e|, sums of sign(e) and of sign(e) N(p) per level
  static constexpr int kLeaves = Slots<T>::kCount / kValues;

  Call<T> c;
  T *map, *total, *number;
  uint8_t* counted;
  double* stats;

  struct Shared {
    Rule<T> rule;
    Slots<T> slots;
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    Image& m = c.image[b];
    if (m.status == record::kFine) {
      shared.rule.load(m, block);
      for (int first = 0; first < c.seg.leaves; first += kLeaves) {
        const int here = c.seg.leaves - first < kLeaves ? c.seg.leaves - first : kLeaves;
        clear_slots(block, &shared.slots, here * kValues);
        block.threads([&](int t) { sweep(block, shared, t, first, here); });
        sum_slots(block, shared.slots, here * kValues, c.partial + (b * c.slices + block.slice) * c.values + first * kValues);
      }
    } else if (map) {
      block.threads([&](int t) { fill(block, t, m.status == record::kPoisoned); });
    }
    if (!block.last(&m.ticket[kLossTicket])) return;
    if (m.status == record::kFine) {
      sum_slices(c, block, c.seg.leaves * kValues);
      block.threads([&](int t) {
        for (int u = t; u < c.seg.contexts; u += block.size()) collect_upstream(c, b, u, kValues, 1, L);
      });
    }
    block.threads([&](int t) {
      if (t == 0) save(b, m);
      for (int u = t; u < c.seg.contexts; u += block.size()) save_context(b, u);
    });
  }

 private:
  template <typename Block>
  DADKIT_DEVICE void sweep(const Block& block, Shared& shared, int t, int first, int here) const {
    const int64_t b = block.image;
    const bool hdn = c.options.variant == kHdn;
    int current = -1;
    T m_p[L] = {}, inv_p[L] = {}, m_d[L] = {}, inv_d[L] = {}, sign[L] = {}, z_sum[L] = {}, total_abs = T(0), share = T(0);
    auto leave = [&] {
      if (current < 0) return;
      const int slot = kLeaves == 1 ? 0 : current * kValues;
      shared.slots.at[slot][t] += total_abs;
      DADKIT_UNROLL
      for (int l = 0; l < L; ++l) {
        shared.slots.at[slot + 1 + l][t] += sign[l];
        shared.slots.at[slot + 1 + L + l][t] += z_sum[l];
      }
    };
    for_pixels(c, block, t, true, true, [&](int64_t i, bool on, T d, T p) {
      const int leaf = on ? shared.rule.leaf(c, i, d) - first : -1 - first;
      if (leaf < 0 || leaf >= here) {
        if (map && first == 0 && leaf < 0) {  // in no segment
          map[b * c.n + i] = T(0);
          counted[b * c.n + i] = on && hdn;
        }
        return;
      }
      if (leaf != current) {
        leave();
        current = leaf;
        total_abs = T(0);
        share = static_cast<T>(c.share[b * c.seg.leaves + first + leaf]);
        DADKIT_UNROLL
        for (int l = 0; l < L; ++l) {
          const Terms<T> y = l < c.seg.loss_levels ? c.terms_of(b, first + leaf, l) : Terms<T>{};
          m_p[l] = y.m_p;
          inv_p[l] = y.inv_p;
          m_d[l] = y.m_d;
          inv_d[l] = y.inv_d;
          sign[l] = z_sum[l] = T(0);
        }
      }
      T here_abs = T(0);
      DADKIT_UNROLL
      for (int l = 0; l < L; ++l) {
        const T z = (p - m_p[l]) * inv_p[l];
        const T e = z - (d - m_d[l]) * inv_d[l];
        here_abs += magnitude(e);
        sign[l] += e > 0 ? T(1) : (e < 0 ? T(-1) : T(0));
        z_sum[l] += e > 0 ? z : (e < 0 ? -z : T(0));
      }
      total_abs += here_abs;
      if (map) {
        map[b * c.n + i] = here_abs * share;
        counted[b * c.n + i] = hdn || share > 0;
      }
    });
    leave();
  }

  template <typename Block>
  DADKIT_DEVICE void fill(const Block& block, int t, bool poisoned) const {
    for_pixels(c, block, t, false, false, [&](int64_t i, bool on, T, T) {
      map[block.image * c.n + i] = on && poisoned ? static_cast<T>(NAN) : T(0);
      counted[block.image * c.n + i] = on && poisoned;
    });
  }

  DADKIT_DEVICE void save(int64_t b, const Image& m) const {
    double sum = 0;
    int64_t pixels = m.status == record::kEmpty ? 0 : m.valid;
    if (m.status == record::kFine) {
      const bool hdn = c.options.variant == kHdn;
      int finest = 0;
      for (int l = 0; l < c.options.n_segments; ++l)
        if (c.options.segments[l] == c.options.finest()) finest = l;
      if (!hdn) pixels = 0;
      for (int leaf = 0; leaf < c.seg.leaves; ++leaf) {
        const double share = c.share[b * c.seg.leaves + leaf];
        sum += share * c.sums[b * c.values + leaf * kValues];
        if (!hdn && share > 0) pixels += c.at(b, c.context_of(finest, leaf)).count;  // of the finest level a leaf is a whole segment
      }
    }
    total[b] = m.status == record::kPoisoned ? static_cast<T>(NAN) : static_cast<T>(sum);
    number[b] = static_cast<T>(pixels);
    double* r = stats + b * record::width(c.options);
    for (int k = 0; k < record::kHead; ++k) r[k] = 0;
    r[record::kStatus] = m.status;
    r[record::kNumber] = static_cast<double>(pixels);
    r[record::kFlatPred] = m.flat[kPred];
    for (int k = 0; k < 9; ++k) r[record::kEdges + k] = m.edges[k];
  }

  DADKIT_DEVICE void save_context(int64_t b, int u) const {
    double* r = stats + b * record::width(c.options);
    const Context& k = c.at(b, u);
    const bool fine = c.image[b].status == record::kFine;
    record::at(r, u, record::kCount) = static_cast<double>(k.count);
    record::at(r, u, record::kTargetMedian) = fine ? k.median[kTarget] : 0;
    record::at(r, u, record::kTargetInverse) = 1 / k.scale[kTarget];
    record::at(r, u, record::kMedian) = fine ? k.median[kPred] : 0;
    record::at(r, u, record::kScale) = k.scale[kPred];
    record::at(r, u, record::kFloored) = k.floored;
    record::at(r, u, record::kKept) = fine && k.kept;
    record::at(r, u, record::kSignSum) = k.sign_sum;
    record::at(r, u, record::kTies) = static_cast<double>(k.equal);
    record::at(r, u, record::kUpstream) = fine ? k.upstream[0] : 0;
    record::at(r, u, record::kUpstreamZ) = fine ? k.upstream[1] : 0;
  }
};

// ------------------------------------------------------------------------------------------------ backward
// Slopes of all contexts from their upstream sums; a floored segment hands its part to the whole map.
template <typename T, typename Block>
DADKIT_DEVICE void build_slopes(const Call<T>& c, const Block& block, double unit, double* to_scale) {
  const int64_t b = block.image;
  block.threads([&](int t) {
    for (int u = t; u < c.seg.contexts; u += block.size()) {
      Context& k = c.at(b, u);
      k.mad_slope = k.tie_slope = to_scale[u] = 0;
      if (!k.kept || k.count == 0) continue;
      const SegmentGradient g = segment_gradient(unit * k.upstream[0], unit * k.upstream[1], k.scale[kPred],
                                                 static_cast<double>(k.count + (c.options.variant == kHdn)), k.sign_sum,
                                                 static_cast<double>(k.equal), k.floored != 0, false, c.options.detach_median);
      k.mad_slope = g.mad;
      k.tie_slope = g.tie;
      to_scale[u] = g.scale;
    }
  });
  block.threads([&](int t) {
    if (t != 0 || c.seg.whole == kNoContext) return;
    double to_global = 0;
    for (int u = 0; u < c.seg.contexts; ++u) to_global += to_scale[u];
    Context& whole = c.at(b, c.seg.whole);
    if (to_global == 0 || whole.count == 0) return;
    const double mad = c.options.mad_floor * to_global / static_cast<double>(whole.count);
    whole.mad_slope += mad;
    if (!c.options.detach_median && whole.equal > 0) whole.tie_slope -= mad * whole.sign_sum / static_cast<double>(whole.equal);
  });
}

// Brings back what forward left; without weights per pixel the slopes follow at once.
template <typename T>
struct Prepare {
  Call<T> c;
  const double* stats;
  const T* total;  // gradient of the totals, or nullptr: weights per pixel come later
  struct Shared {
    double to_scale[kMaxContexts + 1];
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    const double* r = stats + b * record::width(c.options);
    Image& m = c.image[b];
    block.threads([&](int t) {
      if (t == 0) {
        m.status = static_cast<int32_t>(r[record::kStatus]);
        m.flat[kPred] = r[record::kFlatPred] != 0;
        m.valid = static_cast<int64_t>(r[record::kNumber]);
        for (int k = 0; k < 9; ++k) m.edges[k] = r[record::kEdges + k];
      }
      for (int u = t; u < c.seg.contexts; u += block.size()) restore(r, u, &c.at(b, u));
    });
    if (m.status != record::kFine) return;
    const double unit = total ? static_cast<double>(total[b]) : 1.0;
    if (total) build_slopes(c, block, unit, shared.to_scale);
    build_terms(c, block, unit);
  }

 private:
  static DADKIT_DEVICE void restore(const double* r, int u, Context* k) {
    k->count = static_cast<int64_t>(record::at(r, u, record::kCount));
    k->median[kTarget] = record::at(r, u, record::kTargetMedian);
    k->scale[kTarget] = 1 / record::at(r, u, record::kTargetInverse);
    k->median[kPred] = record::at(r, u, record::kMedian);
    k->scale[kPred] = record::at(r, u, record::kScale);
    k->floored = record::at(r, u, record::kFloored) != 0;
    k->kept = record::at(r, u, record::kKept) != 0;
    k->sign_sum = record::at(r, u, record::kSignSum);
    k->equal = static_cast<int64_t>(record::at(r, u, record::kTies));
    k->upstream[0] = record::at(r, u, record::kUpstream);
    k->upstream[1] = record::at(r, u, record::kUpstreamZ);
  }
};

// The upstream sums again, with a weight per pixel; then the slopes.
template <typename T, int L>
struct WeightedSums {
  static constexpr int kValues = 2 * L;
  static constexpr int kLeaves = Slots<T>::kCount / kValues;

  Call<T> c;
  const T* weight;

  struct Shared {
    Rule<T> rule;
    Slots<T> slots;
    double to_scale[kMaxContexts + 1];
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    Image& m = c.image[b];
    if (m.status != record::kFine) return;
    shared.rule.load(m, block);
    for (int first = 0; first < c.seg.leaves; first += kLeaves) {
      const int here = c.seg.leaves - first < kLeaves ? c.seg.leaves - first : kLeaves;
      clear_slots(block, &shared.slots, here * kValues);
      block.threads([&](int t) { sweep(block, shared, t, first, here); });
      sum_slots(block, shared.slots, here * kValues, c.partial + (b * c.slices + block.slice) * c.values + first * kValues);
    }
    if (!block.last(&m.ticket[kWeightTicket])) return;
    sum_slices(c, block, c.seg.leaves * kValues);
    block.threads([&](int t) {
      for (int u = t; u < c.seg.contexts; u += block.size()) collect_upstream(c, b, u, kValues, 0, L);
    });
    build_slopes(c, block, 1.0, shared.to_scale);
    build_terms(c, block, 1.0);
  }

 private:
  template <typename Block>
  DADKIT_DEVICE void sweep(const Block& block, Shared& shared, int t, int first, int here) const {
    const int64_t b = block.image;
    int current = -1;
    Terms<T> y[L] = {};
    T sign[L] = {}, z_sum[L] = {};
    auto leave = [&] {
      if (current < 0) return;
      const int slot = kLeaves == 1 ? 0 : current * kValues;
      DADKIT_UNROLL
      for (int l = 0; l < L; ++l) {
        shared.slots.at[slot + l][t] += sign[l];
        shared.slots.at[slot + L + l][t] += z_sum[l];
      }
    };
    for_pixels(c, block, t, true, true, [&](int64_t i, bool on, T d, T p) {
      const int leaf = on ? shared.rule.leaf(c, i, d) - first : -1;
      if (leaf < 0 || leaf >= here) return;
      if (leaf != current) {
        leave();
        current = leaf;
        DADKIT_UNROLL
        for (int l = 0; l < L; ++l) {
          y[l] = l < c.seg.loss_levels ? c.terms_of(b, first + leaf, l) : Terms<T>{};
          sign[l] = z_sum[l] = T(0);
        }
      }
      const T w = weight[b * c.n + i];
      DADKIT_UNROLL
      for (int l = 0; l < L; ++l) {
        const T z = (p - y[l].m_p) * y[l].inv_p;
        const T e = z - (d - y[l].m_d) * y[l].inv_d;
        sign[l] += e > 0 ? w : (e < 0 ? -w : T(0));
        z_sum[l] += e > 0 ? w * z : (e < 0 ? -(w * z) : T(0));
      }
    });
    leave();
  }
};

// The gradient at one pixel of known leaf, from its terms; w: its weight, or 1 where the terms hold the total's gradient.
template <typename T>
DADKIT_DEVICE T slope_at(const Terms<T>* terms, int levels, T w, T p, T d) {
  T g = 0;
  for (int l = 0; l < levels; ++l) {
    const Terms<T>& y = terms[l];
    const T off = p - y.m_p;
    const T e = off * y.inv_p - (d - y.m_d) * y.inv_d;
    const T side = w * y.side;
    g += e > 0 ? side : (e < 0 ? -side : T(0));
    g += off > 0 ? y.mad : (off < 0 ? -y.mad : y.tie);
  }
  return g;
}

template <typename T>
struct Gradient {
  Call<T> c;
  const T* weight;
  T* gradient;

  struct Shared {
    Rule<T> rule;
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    const Image& m = c.image[b];
    const bool some = m.status == record::kFine && !m.flat[kPred] && m.valid > 0;
    const T poison = static_cast<T>(NAN);
    shared.rule.load(m, block);
    block.threads([&](int t) {
      for_pixels(c, block, t, some, some, [&](int64_t i, bool on, T d, T p) {
        T g = on && m.status == record::kPoisoned ? poison : T(0);
        const int leaf = on && some ? shared.rule.leaf(c, i, d) : -1;
        if (leaf >= 0) g = slope_at(&c.terms_of(b, leaf, 0), c.seg.levels, weight ? weight[b * c.n + i] : T(1), p, d);
        gradient[b * c.n + i] = g;
      });
    });
  }
};

}  // namespace device
}  // namespace dadkit
