// The hybrid loss of every image or patch, and what backward needs of it.
#pragma once

#include "saved.h"
#include "terms.h"

namespace dadkit {
namespace device {

// A thread's pixels in one leaf: the sum of |e|, and per level the sums of sign(e) and of sign(e) N(p), where e = N(p) - N(d).
template <typename T, int L, bool kPlain>
struct LossRun {
  static constexpr int kValues = 1 + 2 * L;
  struct alignas(16) Constants {  // of a leaf
    LeafNorms<T, L> norms;
    T share;
  };

  const Call<T>& c;
  int64_t b;
  T* map;  // of every pixel's loss, or nullptr
  uint8_t* counted;
  const Constants* of_leaves;  // of a plain call, in shared memory
  LeafNorms<T, L> norms;
  T share, sum[kValues];

  static DADKIT_DEVICE Constants constants(const Call<T>& c, int64_t b, int leaf) {
    Constants y;
    y.share = static_cast<T>(c.share[b * c.seg.leaves + leaf]);
    y.norms.load(c, b, leaf);
    return y;
  }
  DADKIT_DEVICE void enter(int leaf) {
    const Constants y = kPlain ? of_leaves[leaf] : constants(c, b, leaf);
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
      map[b * c.n + i] = error * share;
      counted[b * c.n + i] = c.options.variant == kHdn || share > 0;
    }
  }
  DADKIT_DEVICE void outside(int64_t i, bool on) {
    if (!map) return;
    map[b * c.n + i] = T(0);
    counted[b * c.n + i] = on && c.options.variant == kHdn;
  }
};

//   images x slices · plain 15 KiB, general 33 · reads both maps once, writes total, number, record and maybe the pixels' losses ·
//   plain 0.95 M, general 1.8 M
template <typename T, int L, bool kPlain>
struct Loss {
  using Run = LossRun<T, L, kPlain>;

  Call<T> c;
  T *map, *total, *number;
  uint8_t* counted;
  double* stats;

  struct Shared : LeafSharedOf<T, Run, L, kPlain> {
    typename Run::Constants of_leaves[kPlain ? kPlainLeaves : 1];
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    const Image& m = c.image[b];
    const bool fine = m.status == record::kFine;
    if (!fine && map) block.threads([&](int t) { fill(block, t, m.status == record::kPoisoned); });
    if (kPlain && fine) for_each(block, c.seg.leaves, [&](int leaf) { shared.of_leaves[leaf] = Run::constants(c, b, leaf); });
    if (!sum_leaves<L, kPlain>(c, block, shared, fine, kLossTicket, [&] { return Run{c, b, map, counted, shared.of_leaves, {}, T(0), {}}; })) return;
    if (fine) collect_upstream(c, block, Run::kValues, 1, L);
    double* r = stats + b * record::width(c.options);
    single_thread(block, [&] { finish(b, m, r); });
    for_each(block, c.seg.contexts, [&](int u) { save_context(c, b, u, r); });
  }

 private:
  template <typename Block>
  DADKIT_DEVICE void fill(const Block& block, int t, bool poisoned) const {
    for_pixels<false>(c, block, t, false, [&](int64_t i, bool on, T, T) {
      map[block.image * c.n + i] = on && poisoned ? static_cast<T>(NAN) : T(0);
      counted[block.image * c.n + i] = on && poisoned;
    });
  }

  DADKIT_DEVICE void finish(int64_t b, const Image& m, double* r) const {
    double sum = 0;
    int64_t pixels = m.status == record::kEmpty ? 0 : m.valid;
    if (m.status == record::kFine) {
      const bool hdn = c.options.variant == kHdn;
      int finest = 0;
      for (int l = 0; l < c.options.n_segments; ++l)
        if (c.options.segments[l] == c.finest) finest = l;
      if (!hdn) pixels = 0;
      for (int leaf = 0; leaf < c.seg.leaves; ++leaf) {
        const double share = c.share[b * c.seg.leaves + leaf];
        sum += share * c.sums[b * c.values + leaf * Run::kValues];
        if (!hdn && share > 0) pixels += c.at(b, c.context_of(finest, leaf)).count;  // of the finest level a leaf is a whole segment
      }
    }
    total[b] = m.status == record::kPoisoned ? static_cast<T>(NAN) : static_cast<T>(sum);
    number[b] = static_cast<T>(pixels);
    save_head(c, b, pixels, r);
  }
};

}  // namespace device
}  // namespace dadkit
