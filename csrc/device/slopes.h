// Backward before its last pass: from what forward left, and from every pixel's upstream gradient where it has one of its own, to the
// slopes of every segment.
#pragma once

#include "saved.h"
#include "terms.h"

namespace dadkit {
namespace device {

// Slopes of all contexts from their upstream sums; a floored segment hands its part to the whole map.
template <typename T, typename Block>
DADKIT_DEVICE void build_slopes(const Call<T>& c, const Block& block, double unit, double* to_scale) {
  const int64_t b = block.image;
  for_each(block, c.seg.contexts, [&](int u) {
    Context& k = c.at(b, u);
    k.mad_slope = k.tie_slope = to_scale[u] = 0;
    if (!k.kept || k.count == 0) return;
    const SegmentGradient g = segment_gradient(unit * k.upstream[0], unit * k.upstream[1], k.scale[kPred],
                                               static_cast<double>(k.count + (c.options.variant == kHdn)), k.sign_sum,
                                               static_cast<double>(k.equal), k.floored != 0, false, c.options.detach_median);
    k.mad_slope = g.mad;
    k.tie_slope = g.tie;
    to_scale[u] = g.scale;
  });
  single_thread(block, [&] {
    if (c.seg.whole == kNoContext) return;
    double to_global = 0;
    for (int u = 0; u < c.seg.contexts; ++u) to_global += to_scale[u];
    Context& whole = c.at(b, c.seg.whole);
    if (to_global == 0 || whole.count == 0) return;
    const double mad = c.options.mad_floor * to_global / static_cast<double>(whole.count);
    whole.mad_slope += mad;
    if (!c.options.detach_median && whole.equal > 0) whole.tie_slope -= mad * whole.sign_sum / static_cast<double>(whole.equal);
  });
}

// Brings back what forward left; without upstream gradients per pixel the slopes follow at once.
//   images x 1 · 0.7 KiB · reads the records · 0.001 M
template <typename T>
struct Prepare {
  Call<T> c;
  const double* stats;
  const T* total;  // gradient of the totals, or nullptr: every pixel has its own, and UpstreamSums comes next
  struct Shared {
    double to_scale[kMaxContexts];
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    const double* r = stats + b * record::width(c.options);
    single_thread(block, [&] { restore_head(c, b, r); });
    for_each(block, c.seg.contexts, [&](int u) { restore_context(c, b, u, r); });
    if (c.image[b].status != record::kFine) return;
    const double unit = total ? static_cast<double>(total[b]) : 1.0;
    if (total) build_slopes(c, block, unit, shared.to_scale);
    build_terms(c, block, unit);
  }
};

// ------------------------------------------------------------------------------------------------ the upstream gradient of N
// v of a pixel on level l, where its error is e, times a factor; 0 where it has none, whatever the factor.
//
// Of a loss: the sign of the error, times the pixel's weight.
template <typename T>
struct LossUpstream {
  const T* weight;  // of every pixel; or nullptr: 1, and the terms hold the total's gradient

  struct Pixel {
    T weight;
    DADKIT_DEVICE T times(int, T e, T factor) const { return e > 0 ? weight * factor : (e < 0 ? -(weight * factor) : T(0)); }
  };
  DADKIT_DEVICE Pixel at(const Call<T>& c, int64_t b, int64_t i) const { return {weight ? weight[b * c.n + i] : T(1)}; }
};

// Of normalised maps: given, (images, levels, pixels).
template <typename T>
struct MapUpstream {
  const T* gradient;

  struct Pixel {
    const T* first;
    int64_t n;
    int levels;
    DADKIT_DEVICE T times(int l, T, T factor) const { return l < levels ? first[l * n] * factor : T(0); }
  };
  DADKIT_DEVICE Pixel at(const Call<T>& c, int64_t b, int64_t i) const {
    return {gradient + b * c.seg.loss_levels * c.n + i, c.n, c.seg.loss_levels};
  }
};

// A thread's pixels in one leaf: per level the sums of v and of v N.
template <typename T, int L, typename Upstream>
struct UpstreamRun {
  static constexpr int kValues = 2 * L;

  const Call<T>& c;
  int64_t b;
  Upstream upstream;
  LeafNorms<T, L> norms;
  T sum[kValues];

  DADKIT_DEVICE void enter(int leaf) { norms.load(c, b, leaf); }
  DADKIT_DEVICE void add(int64_t i, T d, T p) {
    const auto v = upstream.at(c, b, i);
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
//   images x slices · 34 KiB · reads both maps and the upstream gradients once
template <typename T, int L, typename Upstream>
struct UpstreamSums {
  using Run = UpstreamRun<T, L, Upstream>;

  Call<T> c;
  Upstream upstream;

  struct Shared : LeafShared<T> {
    double to_scale[kMaxContexts];
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    const Image& m = c.image[b];
    if (m.status != record::kFine || m.flat[kPred]) return;
    if (!sum_leaves<L, false>(c, block, shared, true, kUpstreamTicket, [&] { return Run{c, b, upstream, {}, {}}; })) return;
    collect_upstream(c, block, Run::kValues, 0, L);
    build_slopes(c, block, 1.0, shared.to_scale);
    build_terms(c, block, 1.0);
  }
};

}  // namespace device
}  // namespace dadkit
