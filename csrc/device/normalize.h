// Normalised maps, medians and deviations by themselves, cached statistics, single order statistics.
#pragma once

#include "loss.h"

namespace dadkit {
namespace device {

// ------------------------------------------------------------------------------------------------ normalised maps
// pred is the map, target the one that cuts the segments.
template <typename T>
struct Normalize {
  Call<T> c;
  T* out;
  double* stats;

  struct Shared {
    Rule<T> rule;
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    const Image& m = c.image[b];
    const int levels = c.options.n_segments;
    const bool fine = m.status == record::kFine;
    shared.rule.load(m, block);
    block.threads([&](int t) {
      for_pixels(c, block, t, true, true, [&](int64_t i, bool on, T d, T p) {
        const int leaf = on && fine ? shared.rule.leaf(c, i, d) : -1;
        for (int l = 0; l < levels; ++l) {
          T z = on && m.status == record::kPoisoned ? static_cast<T>(NAN) : T(0);
          if (leaf >= 0) {
            const Terms<T>& y = c.terms_of(b, leaf, l);
            z = m.flat[kPred] ? T(0) : (p - y.m_p) * y.inv_p;
          }
          out[(b * levels + l) * c.n + i] = z;
        }
      });
    });
    if (block.slice != 0) return;
    block.threads([&](int t) {
      if (t == 0) save(b, m);
      for (int u = t; u < c.seg.contexts; u += block.size()) save_context(b, u);
    });
  }

 private:
  DADKIT_DEVICE void save(int64_t b, const Image& m) const {
    double* r = stats + b * record::width(c.options);
    for (int k = 0; k < record::kHead; ++k) r[k] = 0;
    r[record::kStatus] = m.status;
    r[record::kNumber] = static_cast<double>(m.valid);
    r[record::kFlatPred] = m.flat[kPred];
    for (int k = 0; k < 9; ++k) r[record::kEdges + k] = m.edges[k];
  }
  DADKIT_DEVICE void save_context(int64_t b, int u) const {
    double* r = stats + b * record::width(c.options);
    const Context& k = c.at(b, u);
    for (int f = 0; f < record::kFields; ++f) record::at(r, u, static_cast<record::Field>(f)) = 0;
    record::at(r, u, record::kCount) = static_cast<double>(k.count);
    record::at(r, u, record::kTargetInverse) = 1;
    record::at(r, u, record::kMedian) = k.median[kPred];
    record::at(r, u, record::kScale) = k.scale[kPred];
    record::at(r, u, record::kFloored) = k.floored;
    record::at(r, u, record::kKept) = k.kept;
    record::at(r, u, record::kSignSum) = k.sign_sum;
    record::at(r, u, record::kTies) = static_cast<double>(k.equal);
  }
};

// Sums of the upstream gradient v and of v N per segment; then the slopes.
template <typename T, int L>
struct NormalizeSums {
  static constexpr int kValues = 2 * L;
  static constexpr int kLeaves = Slots<T>::kCount / kValues;

  Call<T> c;
  const T* upstream;

  struct Shared {
    Rule<T> rule;
    Slots<T> slots;
    double to_scale[kMaxContexts + 1];
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    Image& m = c.image[b];
    if (m.status != record::kFine || m.flat[kPred]) return;
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
    const int levels = c.options.n_segments;
    for_pixels(c, block, t, true, true, [&](int64_t i, bool on, T d, T p) {
      const int leaf = on ? shared.rule.leaf(c, i, d) - first : -1;
      if (leaf < 0 || leaf >= here) return;
      for (int l = 0; l < levels; ++l) {
        const Terms<T>& y = c.terms_of(b, first + leaf, l);
        const T v = upstream[(b * levels + l) * c.n + i];
        shared.slots.at[leaf * kValues + l][t] += v;
        shared.slots.at[leaf * kValues + L + l][t] += v * ((p - y.m_p) * y.inv_p);
      }
    });
  }
};

template <typename T>
struct NormalizeGradient {
  Call<T> c;
  const T* upstream;
  T* gradient;

  struct Shared {
    Rule<T> rule;
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    const Image& m = c.image[b];
    const int levels = c.options.n_segments;
    const bool some = m.status == record::kFine && !m.flat[kPred];
    shared.rule.load(m, block);
    block.threads([&](int t) {
      for_pixels(c, block, t, some, some, [&](int64_t i, bool on, T d, T p) {
        T g = on && m.status == record::kPoisoned ? static_cast<T>(NAN) : T(0);
        const int leaf = on && some ? shared.rule.leaf(c, i, d) : -1;
        for (int l = 0; leaf >= 0 && l < c.seg.levels; ++l) {
          const Terms<T>& y = c.terms_of(b, leaf, l);
          const T off = p - y.m_p;
          if (l < levels) g += upstream[(b * levels + l) * c.n + i] * y.side;
          g += off > 0 ? y.mad : (off < 0 ? -y.mad : y.tie);
        }
        gradient[b * c.n + i] = g;
      });
    });
  }
};

// ------------------------------------------------------------------------------------------------ single statistics
// One thread an image; pred is the map.
template <typename T>
struct SaveMedian {
  Call<T> c;
  T *median, *mad;
  double* stats;
  struct Shared {};
  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared&) const {
    block.threads([&](int t) {
      if (t != 0) return;
      const int64_t b = block.image;
      const Image& m = c.image[b];
      const Context& k = c.at(b, 0);
      const bool fine = m.status == record::kFine, poisoned = m.status == record::kPoisoned;
      const T nothing = poisoned ? static_cast<T>(NAN) : T(0);
      median[b] = fine ? static_cast<T>(k.median[kPred]) : nothing;
      mad[b] = fine ? static_cast<T>(k.mad[kPred]) : nothing;
      double* r = stats + 5 * b;
      r[0] = m.status;
      r[1] = fine ? k.median[kPred] : 0;
      r[2] = static_cast<double>(k.count);
      r[3] = k.sign_sum;
      r[4] = static_cast<double>(k.equal);
    });
  }
};

template <typename T>
struct MedianGradient {
  Call<T> c;
  const T *grad_median, *grad_mad;
  const double* stats;
  T* gradient;
  struct Shared {};
  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared&) const {
    const int64_t b = block.image;
    const double* r = stats + 5 * b;
    const double per_pixel = static_cast<double>(grad_mad[b]) / fmax(1.0, r[2]);
    const double at_median = static_cast<double>(grad_median[b]) - per_pixel * r[3];
    const T m = static_cast<T>(r[1]), side = static_cast<T>(per_pixel), tie = static_cast<T>(at_median / fmax(1.0, r[4]));
    block.threads([&](int t) {
      for_pixels(c, block, t, false, true, [&](int64_t i, bool on, T, T p) {
        T g = p > m ? side : (p < m ? -side : tie);
        if (r[0] == record::kPoisoned) g = static_cast<T>(NAN);
        gradient[b * c.n + i] = on && r[0] != record::kEmpty ? g : T(0);
      });
    });
  }
};

// The target's statistics as TargetStats holds them.
template <typename T>
struct SaveStatistics {
  Call<T> c;
  T *edges, *median, *mad, *global_mad;
  int64_t* count;
  uint8_t* flat;
  struct Shared {};
  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared&) const {
    const int64_t b = block.image;
    const Image& m = c.image[b];
    const int borders = c.options.partition == kGrid ? 0 : c.options.finest() + 1, users = c.options.contexts();
    block.threads([&](int t) {
      for (int k = t; k < borders; k += block.size()) edges[b * borders + k] = static_cast<T>(m.edges[k]);
      for (int u = t; u < users; u += block.size()) {
        const Context& k = c.at(b, u);
        count[b * users + u] = k.count;
        median[b * users + u] = static_cast<T>(k.median[kTarget]);
        mad[b * users + u] = static_cast<T>(k.mad[kTarget]);
      }
      if (t != 0) return;
      global_mad[b] = static_cast<T>(m.global_mad[kTarget]);
      flat[b] = m.status == record::kFine ? m.flat[kTarget] != 0 : 1;
    });
  }
};

// The values at given ranks; the contexts are the ranks.
template <typename T>
struct SaveOrder {
  Call<T> c;
  T* out;
  int64_t stride;
  struct Shared {};
  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared&) const {
    const int64_t b = block.image;
    block.threads([&](int t) {
      for (int u = t; u < c.seg.contexts; u += block.size()) {
        const int status = c.image[b].status;
        const T none = status == record::kPoisoned ? static_cast<T>(NAN) : T(0);
        out[b * stride + u] = status == record::kFine ? static_cast<T>(c.at(b, u).median[kTarget]) : none;
      }
    });
  }
};

}  // namespace device
}  // namespace dadkit
