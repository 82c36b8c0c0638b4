// Mean absolute deviations of every segment, and what follows from them: which segments count, their denominators and constants.
#pragma once

#include "terms.h"

namespace dadkit {
namespace device {

// Statistics of the target that the caller has already.
template <typename T>
struct Known {
  const int64_t* count = nullptr;
  const T* median = nullptr;
  const T* mad = nullptr;
  const T* global_mad = nullptr;
  const uint8_t* flat = nullptr;
};

// A thread's pixels in one leaf: per level sum |d - m|, sum |p - m|, and the pixels under and at the prediction's median.
template <typename T, int L>
struct DeviationRun {
  static constexpr int kValues = 4 * L;

  const Call<T>& c;
  int64_t b;
  T median[kSides][L], sum[kValues];

  DADKIT_DEVICE void enter(int leaf) {
    DADKIT_UNROLL
    for (int l = 0; l < L; ++l) {
      const int u = l < c.seg.levels ? c.context_of(l, leaf) : kNoContext;
      for (int s = 0; s < kSides; ++s) median[s][l] = u == kNoContext ? T(0) : static_cast<T>(c.at(b, u).median[s]);
    }
  }
  DADKIT_DEVICE void add(int64_t, T d, T p) {
    DADKIT_UNROLL
    for (int l = 0; l < L; ++l) {
      sum[4 * l] += magnitude(d - median[kTarget][l]);
      sum[4 * l + 1] += magnitude(p - median[kPred][l]);
      sum[4 * l + 2] += p < median[kPred][l] ? T(1) : T(0);
      sum[4 * l + 3] += p == median[kPred][l] ? T(1) : T(0);
    }
  }
  DADKIT_DEVICE void outside(int64_t, bool) {}
};

// What follows from medians and mean deviations: whether the map is flat, denominators, which segments are kept, the constants of every leaf.
template <typename T>
struct Denominators {
  Call<T> c;
  Known<T> known;
  T epsilon;

  // by the image's last block, when every context holds its count, medians and deviations
  template <typename Block>
  DADKIT_DEVICE void finish(const Block& block) const {
    const int64_t b = block.image;
    Image& m = c.image[b];
    for_each(block, c.seg.contexts, [&](int u) { replace(b, u); });
    single_thread(block, [&] { whole(b, m); });
    for_each(block, c.seg.contexts, [&](int u) { scales(b, u, m); });
    if (m.status == record::kFine) build_terms(c, block, 1.0);
  }

 private:
  DADKIT_DEVICE void replace(int64_t b, int u) const {
    Context& k = c.at(b, u);
    k.mad[kTarget] = static_cast<double>(static_cast<T>(k.mad[kTarget]));  // as TargetStats holds it: cached statistics change nothing
    const int users = c.options.contexts();
    if (known.median && u < users) {
      k.median[kTarget] = static_cast<double>(known.median[b * users + u]);
      k.mad[kTarget] = static_cast<double>(known.mad[b * users + u]);
    }
  }

  DADKIT_DEVICE void whole(int64_t b, Image& m) const {
    if (c.options.variant == kHdn || m.status != record::kFine) return;
    for (int s = 0; s < kSides; ++s) {
      m.global_mad[s] = c.at(b, c.seg.whole).mad[s];
      m.flat[s] = is_flat(m.global_mad[s], m.largest[s], epsilon);
    }
    if (known.median) {
      m.global_mad[kTarget] = static_cast<double>(known.global_mad[b]);
      m.flat[kTarget] = known.flat[b];
    }
  }

  DADKIT_DEVICE void scales(int64_t b, int u, const Image& m) const {
    Context& k = c.at(b, u);
    const bool hdn = c.options.variant == kHdn, counts = u < c.options.contexts();  // an added whole map only lends its deviation
    k.kept = counts && (hdn || c.keep_all || is_kept(c.seg.level_of[u], k.count, c.options.min_pixels, k.mad[kTarget], m.global_mad[kTarget],
                                       c.options.mad_floor, m.flat[kTarget]));
    for (int s = 0; s < kSides; ++s) {
      const Scale scale = hdn ? Scale{k.mad[s] + kHdnEpsilon, false} : scale_of(k.mad[s], m.global_mad[s], c.options.mad_floor);
      k.scale[s] = scale.value;
      k.floored = scale.floored;  // of the prediction, which comes last
    }
    k.sign_sum = static_cast<double>(k.count - k.equal - 2 * k.under);
  }
};

// The mean deviations of all segments, whose medians are known.
//   images x slices · 33 KiB · reads both maps once · 2.1 M
template <typename T, int L>
struct Deviation {
  using Run = DeviationRun<T, L>;

  Call<T> c;
  Denominators<T> then;

  using Shared = LeafShared<T>;

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    const bool fine = c.image[b].status == record::kFine;
    if (!sum_leaves<L, false>(c, block, shared, fine, kDeviationTicket, [&] { return Run{c, b, {}, {}}; })) return;
    for_each(block, c.seg.contexts, [&](int u) { deviations(b, u); });
    then.finish(block);
  }

 private:
  DADKIT_DEVICE void deviations(int64_t b, int u) const {
    Context& k = c.at(b, u);
    double sum[4] = {};
    if (c.image[b].status == record::kFine) {
      for (int leaf = 0; leaf < c.seg.leaves; ++leaf) {
        for (int l = 0; l < c.seg.levels; ++l) {
          if (c.context_of(l, leaf) != u) continue;
          for (int v = 0; v < 4; ++v) sum[v] += c.sums[b * c.values + leaf * Run::kValues + 4 * l + v];
        }
      }
    }
    const int64_t n = k.count + (c.options.variant == kHdn);
    for (int s = 0; s < kSides; ++s) k.mad[s] = n > 0 && c.sides[s] ? sum[s] / static_cast<double>(n) : 0;
    k.under = static_cast<int64_t>(sum[2]);
    k.equal = static_cast<int64_t>(sum[3]);
  }
};

}  // namespace device
}  // namespace dadkit
