// The hybrid loss of maps or patches, forward and backward, and normalised maps.
#pragma once

#include "statistics.h"

namespace dadkit::device {

// ------------------------------------------------------------------------------------------------ the record
// number: of the pixels that take part
template <typename T>
DADKIT_DEVICE void save_head(const Cut<T>& cut, int64_t b, int64_t number, double* r) {
  const Image& m = cut.image[b];
  for (int k = 0; k < record::kHead; ++k) r[k] = 0;
  r[record::kStatus] = m.status;
  r[record::kNumber] = static_cast<double>(number);
  r[record::kFlatPred] = m.flat[kPred];
  for (int k = 0; k < 9; ++k) r[record::kEdges + k] = m.edges[k];
}

template <typename T>
DADKIT_DEVICE void save_context(const Cut<T>& cut, int64_t b, int u, double* r) {
  const Context& k = cut.at(b, u);
  const bool fine = cut.image[b].status == record::kFine;
  record::at(r, u, record::kCount) = static_cast<double>(k.count);
  record::at(r, u, record::kTargetMedian) = fine ? k.median[kTarget] : 0;
  record::at(r, u, record::kTargetInverse) = k.scale[kTarget] > 0 ? 1 / k.scale[kTarget] : 1;  // 0: of no use, and never used
  record::at(r, u, record::kMedian) = fine ? k.median[kPred] : 0;
  record::at(r, u, record::kScale) = k.scale[kPred];
  record::at(r, u, record::kFloored) = k.floored;
  record::at(r, u, record::kKept) = fine && k.kept;
  record::at(r, u, record::kSignSum) = k.sign_sum;
  record::at(r, u, record::kTies) = static_cast<double>(k.equal);
  record::at(r, u, record::kUpstream) = fine ? k.upstream[0] : 0;
  record::at(r, u, record::kUpstreamZ) = fine ? k.upstream[1] : 0;
}

template <typename T>
DADKIT_DEVICE void restore_head(const Cut<T>& cut, int64_t b, const double* r) {
  Image& m = cut.image[b];
  m.status = static_cast<int32_t>(r[record::kStatus]);
  m.valid = static_cast<int64_t>(r[record::kNumber]);
  m.flat[kPred] = r[record::kFlatPred] != 0;
  for (int k = 0; k < 9; ++k) m.edges[k] = r[record::kEdges + k];
}

template <typename T>
DADKIT_DEVICE void restore_context(const Cut<T>& cut, int64_t b, int u, const double* r) {
  Context& k = cut.at(b, u);
  k.count = static_cast<int64_t>(record::at(r, u, record::kCount));
  k.median[kTarget] = record::at(r, u, record::kTargetMedian);
  k.scale[kTarget] = 1 / record::at(r, u, record::kTargetInverse);
  k.median[kPred] = record::at(r, u, record::kMedian);
  k.scale[kPred] = record::at(r, u, record::kScale);
  k.floored = record::at(r, u, record::kFloored) != 0;
  k.kept = record::at(r, u, record::kKept) != 0;
  k.sign_sum = record::at(r, u, record::kSignSum);
  k.equal = static_cast<int64_t>(record::at(r, u, record::kTies));
  k.upstream[0] = record::at(r, u, record::kUpstream);
  k.upstream[1] = record::at(r, u, record::kUpstreamZ);
}

// ------------------------------------------------------------------------------------------------ forward
// A thread's pixels in one leaf: the sum of |e|, and per level the sums of sign(e) and of sign(e) N(p), where e = N(p) - N(d).
template <typename T, int L, Walk kWalk>
struct LossRun {
  static constexpr bool kPlain = kWalk != kGeneral;
  static constexpr int kValues = 1 + 2 * L;
  struct alignas(16) Constants {  // of a leaf
    LeafNorms<T, L> norms;
    T share;
  };

  const Maps<T>& maps;
  const Cut<T>& cut;
  int64_t b;
  T* map;  // as Loss's
  uint8_t* counted;
  const Constants* of_leaves;  // of a plain call, in shared memory
  LeafNorms<T, L> norms;
  T share, sum[kValues];

  static DADKIT_DEVICE Constants constants(const Cut<T>& cut, int64_t b, int leaf) {
    Constants y;
    y.share = static_cast<T>(cut.share[b * cut.seg.leaves + leaf]);
    y.norms.load(cut, b, leaf);
    return y;
  }
  DADKIT_DEVICE void enter(int leaf) {
    const Constants y = kPlain ? of_leaves[leaf] : constants(cut, b, leaf);
    norms = y.norms;
    share = y.share;
  }
  DADKIT_DEVICE void add(int64_t i, T d, T p) {
    T error = T(0);
    DADKIT_UNROLL
    for (int l = 0; l < L; ++l) {
      const T z = norms.of_pred(l, p);
      const T e = z - norms.of_target(l, d);
      error += magnitude(e);
      const T sign = (e > 0 ? T(1) : T(0)) - (e < 0 ? T(1) : T(0));
      sum[1 + l] += sign;
      sum[1 + L + l] += sign * z;
    }
    sum[0] += error;
    if (map) {
      map[b * maps.n + i] = error * share;
      counted[b * maps.n + i] = cut.options.variant == kHdn || share > 0;
    }
  }
  DADKIT_DEVICE void outside(int64_t i, bool on) {
    if (!map) return;
    map[b * maps.n + i] = T(0);
    counted[b * maps.n + i] = on && cut.options.variant == kHdn;
  }
};

//   images x slices · plain 15 KiB, general 33 · reads both maps once, writes total, number, record and maybe the pixels' losses ·
//   plain 1.0 M, general 3.0 M
template <typename T, int L, Walk kWalk>
struct Loss {
  using Run = LossRun<T, L, kWalk>;

  Maps<T> maps;
  Cut<T> cut;
  Sums sums;
  T* map;             // [images, n]: every pixel's loss; or nullptr
  T *total, *number;  // [images]
  uint8_t* counted;   // [images, n]: whether a pixel takes part; or nullptr
  double* stats;      // [images, record::width]

  struct Shared : LeafSharedOf<T, Run, L, kWalk> {
    typename Run::Constants of_leaves[Run::kPlain ? kPlainLeaves : 1];
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    const Image& m = cut.image[b];
    const bool fine = m.status == record::kFine;
    if (!fine && map) block.threads([&](int t) { fill(block, t, m.status == record::kPoisoned); });
    if (Run::kPlain && fine) for_each(block, cut.seg.leaves, [&](int leaf) { shared.of_leaves[leaf] = Run::constants(cut, b, leaf); });
    auto make = [&] { return Run{maps, cut, b, map, counted, shared.of_leaves, {}, T(0), {}}; };
    if (!sum_leaves<L, kWalk>(maps, cut, sums, block, shared, fine, kLossTicket, make)) return;
    if (fine) collect_upstream(cut, sums, block, Run::kValues, 1, L);
    double* r = stats + b * record::width(cut.options);
    single_thread(block, [&] { finish(b, m, r); });
    for_each(block, cut.seg.contexts, [&](int u) { save_context(cut, b, u, r); });
  }

 private:
  template <typename Block>
  DADKIT_DEVICE void fill(const Block& block, int t, bool poisoned) const {
    for_pixels<kGeneral>(maps, block, t, false, [&](int64_t i, bool on, T, T) {
      map[block.image * maps.n + i] = on && poisoned ? static_cast<T>(NAN) : T(0);
      counted[block.image * maps.n + i] = on && poisoned;
    });
  }

  DADKIT_DEVICE void finish(int64_t b, const Image& m, double* r) const {
    double sum = 0;
    int64_t pixels = m.status == record::kEmpty ? 0 : m.valid;
    if (m.status == record::kFine) {
      const bool hdn = cut.options.variant == kHdn;
      int finest = 0;
      for (int l = 0; l < cut.options.n_segments; ++l)
        if (cut.options.segments[l] == cut.finest) finest = l;
      if (!hdn) pixels = 0;
      for (int leaf = 0; leaf < cut.seg.leaves; ++leaf) {
        const double share = cut.share[b * cut.seg.leaves + leaf];
        sum += share * sums.of(b)[leaf * Run::kValues];
        if (!hdn && share > 0) pixels += cut.at(b, cut.context_of(finest, leaf)).count;  // of the finest level a leaf is a whole segment
      }
    }
    total[b] = m.status == record::kPoisoned ? static_cast<T>(NAN) : static_cast<T>(sum);
    number[b] = static_cast<T>(pixels);
    save_head(cut, b, pixels, r);
  }
};

// ------------------------------------------------------------------------------------------------ backward: slopes of segments
// Slopes of all contexts from their upstream sums; a floored segment hands its part to the whole map.
template <typename T, typename Block>
DADKIT_DEVICE void build_slopes(const Cut<T>& cut, const Block& block, double unit, double* to_scale) {
  const int64_t b = block.image;
  for_each(block, cut.seg.contexts, [&](int u) {
    Context& k = cut.at(b, u);
    k.mad_slope = k.tie_slope = to_scale[u] = 0;
    if (!k.kept || k.count == 0) return;
    const SegmentGradient g = segment_gradient(unit * k.upstream[0], unit * k.upstream[1], k.scale[kPred],
                                               static_cast<double>(k.count + (cut.options.variant == kHdn)), k.sign_sum,
                                               static_cast<double>(k.equal), k.floored != 0, cut.options.detach_median);
    k.mad_slope = g.mad;
    k.tie_slope = g.tie;
    to_scale[u] = g.scale;
  });
  single_thread(block, [&] {
    if (cut.seg.whole == kNoContext) return;
    double to_global = 0;
    for (int u = 0; u < cut.seg.contexts; ++u) to_global += to_scale[u];
    Context& whole = cut.at(b, cut.seg.whole);
    if (to_global == 0 || whole.count == 0) return;
    const double mad = cut.options.mad_floor * to_global / static_cast<double>(whole.count);
    whole.mad_slope += mad;
    if (!cut.options.detach_median && whole.equal > 0) whole.tie_slope -= mad * whole.sign_sum / static_cast<double>(whole.equal);
  });
}

// Brings back what forward left; without upstream gradients per pixel the slopes follow at once.
//   images x 1 · 0.7 KiB · reads the records · 0.001 M
template <typename T>
struct Prepare {
  Cut<T> cut;
  const double* stats;  // [images, record::width]
  const T* total;       // [images]: gradient of the totals; or nullptr: every pixel has its own, and UpstreamSums comes next
  struct Shared {
    double to_scale[kMaxContexts];
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    const double* r = stats + b * record::width(cut.options);
    single_thread(block, [&] { restore_head(cut, b, r); });
    for_each(block, cut.seg.contexts, [&](int u) { restore_context(cut, b, u, r); });
    if (cut.image[b].status != record::kFine) return;
    const double unit = total ? static_cast<double>(total[b]) : 1.0;
    if (total) build_slopes(cut, block, unit, shared.to_scale);
    build_terms(cut, block, unit);
  }
};

// ------------------------------------------------------------------------------------------------ the upstream gradient of N
// v of a pixel on level l, where its error is e, times a factor; 0 where it has none, whatever the factor.
//
// Of a loss: the sign of the error, times the pixel's weight.
template <typename T>
struct LossUpstream {
  const T* weight;  // [images, n]; or nullptr: 1, and the terms hold the total's gradient

  struct Pixel {
    T weight;
    DADKIT_DEVICE T times(int, T e, T factor) const { return e > 0 ? weight * factor : (e < 0 ? -(weight * factor) : T(0)); }
  };
  DADKIT_DEVICE Pixel at(const Maps<T>& maps, int64_t b, int64_t i) const { return {weight ? weight[b * maps.n + i] : T(1)}; }
};

// Of normalised maps: given, (images, levels, pixels).
template <typename T>
struct MapUpstream {
  const T* gradient;  // [images, levels, n]
  int levels;

  struct Pixel {
    const T* first;
    int64_t n;
    int levels;
    DADKIT_DEVICE T times(int l, T, T factor) const { return l < levels ? first[l * n] * factor : T(0); }
  };
  DADKIT_DEVICE Pixel at(const Maps<T>& maps, int64_t b, int64_t i) const {
    return {gradient + b * levels * maps.n + i, maps.n, levels};
  }
};

// A thread's pixels in one leaf: per level the sums of v and of v N.
template <typename T, int L, typename Upstream>
struct UpstreamRun {
  static constexpr int kValues = 2 * L;

  const Maps<T>& maps;
  const Cut<T>& cut;
  int64_t b;
  Upstream upstream;
  LeafNorms<T, L> norms;
  T sum[kValues];

  DADKIT_DEVICE void enter(int leaf) { norms.load(cut, b, leaf); }
  DADKIT_DEVICE void add(int64_t i, T d, T p) {
    const auto v = upstream.at(maps, b, i);
    DADKIT_UNROLL
    for (int l = 0; l < L; ++l) {
      const T z = norms.of_pred(l, p);
      const T e = z - norms.of_target(l, d);
      sum[l] += v.times(l, e, T(1));
      sum[L + l] += v.times(l, e, z);
    }
  }
  DADKIT_DEVICE void outside(int64_t, bool) {}
};

// The upstream sums of every segment where every pixel has an upstream gradient of its own; then the slopes.
//   images x slices · 34 KiB · reads both maps and the upstream gradients once · 2.9 M
template <typename T, int L, typename Upstream>
struct UpstreamSums {
  using Run = UpstreamRun<T, L, Upstream>;

  Maps<T> maps;
  Cut<T> cut;
  Sums sums;
  Upstream upstream;

  struct Shared : LeafShared<T> {
    double to_scale[kMaxContexts];
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    const Image& m = cut.image[b];
    if (m.status != record::kFine || m.flat[kPred]) return;
    if (!sum_leaves<L, kGeneral>(maps, cut, sums, block, shared, true, kUpstreamTicket, [&] { return Run{maps, cut, b, upstream, {}, {}}; })) return;
    collect_upstream(cut, sums, block, Run::kValues, 0, L);
    build_slopes(cut, block, 1.0, shared.to_scale);
    build_terms(cut, block, 1.0);
  }
};

// ------------------------------------------------------------------------------------------------ backward: the gradient of every pixel
// The gradient at the pixels of one image or patch.
template <typename T, typename Upstream>
struct PixelGradient {
  const Maps<T>& maps;
  const Cut<T>& cut;
  const Rule<T>& rule;
  const Terms<T>* terms;
  const Upstream& upstream;
  int64_t b;
  bool poisoned, some;  // all NaN; not all zero

  DADKIT_DEVICE PixelGradient(const Maps<T>& all, const Cut<T>& segments, const Rule<T>& leaves, const Terms<T>* of_leaves, const Upstream& given,
                              int64_t image)
      : maps(all), cut(segments), rule(leaves), terms(of_leaves), upstream(given), b(image) {
    const Image& m = cut.image[b];
    poisoned = m.status == record::kPoisoned;
    some = m.status == record::kFine && !m.flat[kPred] && m.valid > 0;
  }

  DADKIT_DEVICE T operator()(int64_t i, bool on, T d, T p) const {
    if (!on || !some) return on && poisoned ? static_cast<T>(NAN) : T(0);
    const int leaf = rule.leaf(maps, cut, i, d);
    if (leaf < 0) return T(0);
    const auto v = upstream.at(maps, b, i);
    T g = 0;
    for (int l = 0; l < cut.seg.levels; ++l) {
      const Terms<T>& y = terms[leaf * cut.seg.levels + l];
      const T off = p - y.m_p;
      g += v.times(l, off * y.inv_p - (d - y.m_d) * y.inv_d, y.side);
      g += off > 0 ? y.mad : (off < 0 ? -y.mad : y.tie);
    }
    return g;
  }
};

//   images x slices · reads both maps once, and upstream gradients of pixels, writes the gradient · 2.1 M
template <typename T, typename Upstream>
struct Gradient {
  Maps<T> maps;
  Cut<T> cut;
  Upstream upstream;
  Output<T> gradient;  // [images, n]

  struct Shared {
    Rule<T> rule;
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    shared.rule.load(cut, b, block);
    const PixelGradient<T, Upstream> slope(maps, cut, shared.rule, &cut.terms_of(b, 0, 0), upstream, b);
    block.threads([&](int t) {
      for_pixels<kGeneral>(maps, block, t, slope.some, [&](int64_t i, bool on, T d, T p) { gradient.set(b * maps.n + i, slope(i, on, d, p)); });
    });
  }
};

// The same of a plain call whose pixels all have the total's gradient, which the terms hold. A thread keeps its leaf's terms in registers and
// writes kGroup pixels at once.
//   images x slices · 0.4 KiB · reads both maps once, writes the gradient · 0.82 M
template <typename T, int L, Walk kWalk>
struct PlainGradient {
  Maps<T> maps;
  Cut<T> cut;
  Output<T> gradient;  // [images, n]

  struct alignas(16) Constants {  // of a leaf
    Terms<T> level[L];
  };
  struct Shared {
    Rule<T> rule;
    Constants of_leaves[kPlainLeaves];
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    const Image& m = cut.image[b];
    const bool some = m.status == record::kFine && !m.flat[kPred] && m.valid > 0;
    const T otherwise = m.status == record::kPoisoned ? static_cast<T>(NAN) : T(0);
    shared.rule.load(cut, b, block);
    for_each(block, cut.seg.leaves * L, [&](int j) {
      shared.of_leaves[j / L].level[j % L] = j % L < cut.seg.levels ? cut.terms_of(b, j / L, j % L) : Terms<T>{};
    });
    block.threads([&](int t) {
      const Rule<T> rule = shared.rule;
      Constants terms{};
      int current = -1;
      for_groups<kWalk>(maps, block, t, true, [&](int64_t i, int64_t, const Group<uint8_t>& m, const Group<T>& d, const Group<T>& p) {
        Group<T> g;
        DADKIT_UNROLL
        for (int k = 0; k < kGroup; ++k) {
          g.at[k] = m.at[k] ? otherwise : T(0);
          if (!some || !m.at[k]) continue;
          const int leaf = rule.template plain_leaf<L>(d.at[k]);
          if (leaf != current) {
            current = leaf;
            terms = shared.of_leaves[leaf];
          }
          g.at[k] = 0;
          DADKIT_UNROLL
          for (int l = 0; l < L; ++l) {
            const Terms<T>& y = terms.level[l];
            const T off = p.at[k] - y.m_p, e = off * y.inv_p - (d.at[k] - y.m_d) * y.inv_d;
            g.at[k] += (e > 0 ? y.side : T(0)) - (e < 0 ? y.side : T(0));
            g.at[k] += off == 0 ? y.tie : (off > 0 ? y.mad : T(0)) - (off < 0 ? y.mad : T(0));
          }
        }
        gradient.set_group((b * maps.n + i) / kGroup, g);
      });
    });
  }
};

// ------------------------------------------------------------------------------------------------ normalised maps
// N of every pixel on every level; backward is UpstreamSums and Gradient with the upstream gradients that are given. pred is the map, target
// the one that cuts the segments.
//   images x slices · reads both maps once, writes as many maps as there are levels
template <typename T>
struct Normalize {
  Maps<T> maps;
  Cut<T> cut;
  T* out;         // [images, levels, n]
  double* stats;  // [images, record::width]

  struct Shared {
    Rule<T> rule;
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    const Image& m = cut.image[b];
    const int levels = cut.options.n_segments;
    const bool fine = m.status == record::kFine;
    shared.rule.load(cut, b, block);
    block.threads([&](int t) {
      for_pixels<kGeneral>(maps, block, t, true, [&](int64_t i, bool on, T d, T p) {
        const int leaf = on && fine ? shared.rule.leaf(maps, cut, i, d) : -1;
        for (int l = 0; l < levels; ++l) {
          T z = on && m.status == record::kPoisoned ? static_cast<T>(NAN) : T(0);
          if (leaf >= 0) {
            const Terms<T>& y = cut.terms_of(b, leaf, l);
            z = m.flat[kPred] ? T(0) : (p - y.m_p) * y.inv_p;
          }
          out[(b * levels + l) * maps.n + i] = z;
        }
      });
    });
    if (block.slice != 0) return;
    double* r = stats + b * record::width(cut.options);
    single_thread(block, [&] { save_head(cut, b, m.valid, r); });
    for_each(block, cut.seg.contexts, [&](int u) { save_context(cut, b, u, r); });
  }
};

}  // namespace dadkit::device
