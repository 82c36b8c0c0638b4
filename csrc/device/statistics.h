// Statistics of every segment of one or two maps: ranges and borders, exact medians by radix search, mean deviations, and what follows from
// them: which segments count, their denominators, and the constants of every leaf.
#pragma once

#include "walk.h"

namespace dadkit::device {

// A pass of a radix search: a histogram of the next byte, and sums of its parts, so that a rank is found in two short walks.
constexpr int kBins = 256, kParts = 16;

// parts[k] of `histograms` many behind each other.
template <typename Block>
DADKIT_DEVICE void sum_parts(const Block& block, const uint32_t* bins, int histograms, uint32_t* parts) {
  for_each(block, histograms * kParts, [&](int k) {
    uint32_t sum = 0;
    for (int j = 0; j < kBins / kParts; ++j) sum += bins[k * (kBins / kParts) + j];
    parts[k] = sum;
  });
}

// The bin that holds a rank, which is left as the rank within it.
DADKIT_DEVICE int find_bin(const uint32_t* bins, const uint32_t* parts, int64_t* rank) {
  int part = 0;
  while (part < kParts - 1 && *rank >= static_cast<int64_t>(parts[part])) *rank -= parts[part++];
  int bin = part * (kBins / kParts);
  while (bin < kBins - 1 && *rank >= static_cast<int64_t>(bins[bin])) *rank -= bins[bin++];
  return bin;
}

// Smallest, largest, number and finiteness of both maps; then the borders of the target's segments. What is read through boxes is kept.
//   images x slices · 2 KiB · reads both maps once · plain 0.18 M, general 0.41 M
template <typename T, Walk kWalk>
struct Range {
  Maps<T> maps;
  Cut<T> cut;
  const T* edges;  // [images, finest + 1], given; or nullptr
  T* resampled;    // [images, n]: keeps what pred is through the boxes; or nullptr

  struct Shared {
    Key<T> top[kSides][kThreads], bottom[kSides][kThreads];
    uint32_t valid, bad;
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    Image& m = cut.image[b];
    single_thread(block, [&] { shared.valid = shared.bad = 0; });
    block.threads([&](int t) { walk(block, shared, t); });
    for (int half = block.size() / 2; half > 0; half /= 2) {
      block.threads([&](int t) {
        if (t >= half) return;
        for (int s = 0; s < kSides; ++s) {
          larger(&shared.top[s][t], shared.top[s][t + half]);
          larger(&shared.bottom[s][t], shared.bottom[s][t + half]);
        }
      });
    }
    single_thread(block, [&] {
      if (shared.valid == 0) return;
      atomic_add(&m.valid, static_cast<int64_t>(shared.valid));
      if (shared.bad) atomic_add(&m.bad, static_cast<int64_t>(shared.bad));
      for (int s = 0; s < kSides; ++s) {
        atomic_max(&m.top[s], shared.top[s][0]);
        atomic_max(&m.bottom[s], shared.bottom[s][0]);
      }
    });
    if (!block.last(&m.ticket[kRangeTicket])) return;
    single_thread(block, [&] { finish(b, m); });
  }

 private:
  static DADKIT_DEVICE void larger(Key<T>* at, Key<T> key) { *at = key > *at ? key : *at; }

  template <typename Block>
  DADKIT_DEVICE void walk(const Block& block, Shared& shared, int t) const {
    const int64_t b = block.image;
    Key<T> top[kSides] = {}, bottom[kSides] = {};
    uint32_t valid = 0, bad = 0;
    if (maps.boxes.present(b)) {
      T low[kSides] = {T(INFINITY), T(INFINITY)}, high[kSides] = {T(-INFINITY), T(-INFINITY)}, zero = 0;  // zero: NaN if a value is not finite
      for_pixels<kWalk>(maps, block, t, true, [&](int64_t i, bool on, T d, T p) {
        if (kWalk == kGeneral && resampled) resampled[b * maps.n + i] = p;
        if (!on) return;
        ++valid;
        const T x[kSides] = {d, p};
        DADKIT_UNROLL
        for (int s = 0; s < kSides; ++s) {
          low[s] = fmin(low[s], x[s]);
          high[s] = fmax(high[s], x[s]);
          zero += x[s] - x[s];
        }
      });
      if (zero == 0) {
        for (int s = 0; s < kSides && valid; ++s) {
          top[s] = key_of(high[s]);
          bottom[s] = static_cast<Key<T>>(~key_of(low[s]));
        }
      } else {  // the range is then that of the finite values
        for_pixels<kWalk>(maps, block, t, true, [&](int64_t, bool on, T d, T p) {
          const T x[kSides] = {d, p};
          for (int s = 0; s < kSides; ++s) {
            if (!on) continue;
            bad += !is_finite(x[s]);
            if (!is_finite(x[s])) continue;
            larger(&top[s], key_of(x[s]));
            larger(&bottom[s], static_cast<Key<T>>(~key_of(x[s])));
          }
        });
      }
    }
    for (int s = 0; s < kSides; ++s) {
      shared.top[s][t] = top[s];
      shared.bottom[s][t] = bottom[s];
    }
    if (valid) atomic_add(&shared.valid, valid);
    if (bad) atomic_add(&shared.bad, bad);
  }

  DADKIT_DEVICE void finish(int64_t b, Image& m) const {
    m.status = m.valid == 0 ? record::kEmpty : (m.bad ? record::kPoisoned : record::kFine);
    T low[kSides], high[kSides];
    for (int s = 0; s < kSides; ++s) {
      if (s == kPred && !maps.pred && !maps.through_boxes) continue;
      const bool any = m.top[s] != 0;
      low[s] = any ? value_of<T>(static_cast<Key<T>>(~static_cast<Key<T>>(m.bottom[s]))) : T(0);
      high[s] = any ? value_of<T>(static_cast<Key<T>>(m.top[s])) : T(0);
      m.low[s] = static_cast<double>(low[s]);
      m.high[s] = static_cast<double>(high[s]);
      m.largest[s] = fmax(fabs(static_cast<double>(low[s])), fabs(static_cast<double>(high[s])));
    }
    if (cut.options.partition == kGrid) return;
    for (int k = 0; k <= cut.finest; ++k) {
      m.edges[k] = static_cast<double>(edges ? edges[b * (cut.finest + 1) + k] : border<T>(low[0], high[0] - low[0], k, cut.finest));
    }
  }
};

// ------------------------------------------------------------------------------------------------ the search
// One radix pass: how many of a segment's values that begin with what is known have each next byte; then which byte the median has.
//   images x slices, once a byte of the key · 34 KiB · reads both maps once · 3.8 M
template <typename T>
struct Search {
  static constexpr int kChunk = 16;  // contexts at once
  static constexpr int kPasses = static_cast<int>(sizeof(T));

  Maps<T> maps;
  Cut<T> cut;
  uint32_t* histogram;   // [images, seg.contexts, kSides, kBins]
  int pass;
  const int64_t* ranks;  // [images, ranks_stride], of every context; nullptr: the lower median's
  int64_t ranks_stride;

  struct Shared {
    Rule<T> rule;
    uint32_t bins[kChunk * kSides * kBins];
    uint32_t parts[kChunk * kSides * kParts];
    Key<T> prefix[kChunk * kSides];
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    Image& m = cut.image[b];
    if (m.status != record::kFine) return;
    shared.rule.load(cut, b, block);
    for (int first = 0; first < cut.seg.contexts; first += kChunk) {
      const int here = chunk_at(first);
      uint32_t* global = histogram_of(b, first);
      for_each(block, here * kSides * kBins, [&](int k) { shared.bins[k] = 0; });
      for_each(block, here * kSides, [&](int k) { shared.prefix[k] = static_cast<Key<T>>(cut.at(b, first + k / kSides).prefix[k % kSides]); });
      block.threads([&](int t) { count(block, shared, t, first, here); });
      for_each(block, here * kSides * kBins, [&](int k) {
        if (shared.bins[k]) atomic_add(global + k, shared.bins[k]);
      });
    }
    if (!block.last(&m.ticket[kFirstPassTicket + pass])) return;
    for (int first = 0; first < cut.seg.contexts; first += kChunk) {
      const int here = chunk_at(first);
      uint32_t* global = histogram_of(b, first);
      for_each(block, here * kSides * kBins, [&](int k) {
        shared.bins[k] = global[k];
        global[k] = 0;  // for the next pass
      });
      sum_parts(block, shared.bins, here * kSides, shared.parts);
      for_each(block, here, [&](int k) { pick(b, first + k, shared.bins + k * kSides * kBins, shared.parts + k * kSides * kParts); });
    }
  }

 private:
  DADKIT_DEVICE int chunk_at(int first) const { return cut.seg.contexts - first < kChunk ? cut.seg.contexts - first : kChunk; }
  DADKIT_DEVICE uint32_t* histogram_of(int64_t b, int first) const { return histogram + (b * cut.seg.contexts + first) * kSides * kBins; }
  DADKIT_DEVICE int shift() const { return 8 * (kPasses - 1 - pass); }

  template <typename Block>
  DADKIT_DEVICE void count(const Block& block, Shared& shared, int t, int first, int here) const {
    const Key<T> known = pass == 0 ? Key<T>(0) : static_cast<Key<T>>(~Key<T>(0) << (shift() + 8));
    for_pixels<kGeneral>(maps, block, t, true, [&](int64_t i, bool on, T d, T p) {
      const int leaf = on ? shared.rule.leaf(maps, cut, i, d) : -1;
      if (leaf < 0) return;
      const Key<T> key[kSides] = {key_of(d), key_of(p)};
      for (int l = 0; l < cut.seg.levels; ++l) {
        const int u = cut.context_of(l, leaf) - first;
        if (u < 0 || u >= here) continue;
        for (int s = 0; s < kSides; ++s) {
          if (!cut.sides[s] || ((key[s] ^ shared.prefix[u * kSides + s]) & known) != 0) continue;
          warp_aggregated_increment(shared.bins, static_cast<uint32_t>((u * kSides + s) * kBins) + static_cast<uint32_t>(key[s] >> shift() & 255));
        }
      }
    });
  }

  DADKIT_DEVICE void pick(int64_t b, int u, const uint32_t* bins, const uint32_t* parts) const {
    Context& k = cut.at(b, u);
    for (int s = 0; s < kSides; ++s, bins += kBins, parts += kParts) {
      if (!cut.sides[s]) continue;
      if (pass == 0) {
        int64_t count = 0;
        for (int j = 0; j < kParts; ++j) count += parts[j];
        k.count = count;
        k.rank[s] = ranks ? ranks[b * ranks_stride + u] : (count - 1) / 2;
        if (k.rank[s] >= count) k.rank[s] = count - 1;
        if (k.rank[s] < 0) k.rank[s] = 0;
      }
      if (k.count == 0) continue;
      const int byte = find_bin(bins, parts, &k.rank[s]);
      k.prefix[s] |= static_cast<uint64_t>(byte) << shift();
      if (pass == kPasses - 1) k.median[s] = static_cast<double>(value_of<T>(static_cast<Key<T>>(k.prefix[s])));
    }
  }
};

// ------------------------------------------------------------------------------------------------ constants of leaves
template <typename T>
DADKIT_DEVICE bool is_counted(const Cut<T>& cut, int64_t b, int l, int leaf) {
  return l < cut.seg.loss_levels && cut.context_of(l, leaf) != kNoContext && cut.at(b, cut.context_of(l, leaf)).kept != 0;
}

// Terms and shares of all leaves, from the contexts. unit: the gradient of the total, or 1 where every pixel has its own.
template <typename T, typename Block>
DADKIT_DEVICE void build_terms(const Cut<T>& cut, const Block& block, double unit) {
  const int64_t b = block.image;
  const bool flat = cut.image[b].flat[kPred] != 0;
  for_each(block, cut.seg.leaves, [&](int leaf) {
    int kept = 0;
    for (int l = 0; l < cut.seg.loss_levels; ++l) kept += is_counted(cut, b, l, leaf);
    const double share = cut.keep_all ? 1.0 : (kept ? 1.0 / kept : 0.0);
    cut.share[b * cut.seg.leaves + leaf] = share;
    for (int l = 0; l < cut.seg.levels; ++l) {
      Terms<T> y{};
      const int u = cut.context_of(l, leaf);
      if (u != kNoContext) {
        const Context& k = cut.at(b, u);
        y.m_p = static_cast<T>(k.median[kPred]);
        y.mad = static_cast<T>(k.mad_slope);
        y.tie = static_cast<T>(k.tie_slope);
        if (is_counted(cut, b, l, leaf)) {
          y.inv_p = flat ? T(0) : static_cast<T>(1 / k.scale[kPred]);
          y.m_d = static_cast<T>(k.median[kTarget]);
          y.inv_d = static_cast<T>(1 / k.scale[kTarget]);
          y.side = static_cast<T>(unit * static_cast<double>(static_cast<T>(share)) / k.scale[kPred]);
        }
      }
      cut.terms_of(b, leaf, l) = y;
    }
  });
}

// How a leaf normalises both maps, on every level that the loss has: what a thread keeps in registers while its pixels stay there.
template <typename T, int L>
struct LeafNorms {
  T m_p[L], inv_p[L], m_d[L], inv_d[L];

  DADKIT_DEVICE void load(const Cut<T>& cut, int64_t b, int leaf) {
    DADKIT_UNROLL
    for (int l = 0; l < L; ++l) {
      const Terms<T> y = l < cut.seg.loss_levels ? cut.terms_of(b, leaf, l) : Terms<T>{};
      m_p[l] = y.m_p;
      inv_p[l] = y.inv_p;
      m_d[l] = y.m_d;
      inv_d[l] = y.inv_d;
    }
  }
  DADKIT_DEVICE T of_pred(int l, T p) const { return (p - m_p[l]) * inv_p[l]; }
  DADKIT_DEVICE T of_target(int l, T d) const { return (d - m_d[l]) * inv_d[l]; }
};

// The segments' sums of v and v N, where v is the upstream gradient of N, from the leaves' sums: `per_leaf` numbers of a leaf, among them
// from the one numbered `first` on the sums of v on every level, and `levels` later those of v N.
template <typename T, typename Block>
DADKIT_DEVICE void collect_upstream(const Cut<T>& cut, const Sums& sums, const Block& block, int per_leaf, int first, int levels) {
  const int64_t b = block.image;
  for_each(block, cut.seg.contexts, [&](int u) {
    Context& k = cut.at(b, u);
    k.upstream[0] = k.upstream[1] = 0;
    for (int l = 0; l < cut.seg.loss_levels; ++l) {
      for (int leaf = 0; leaf < cut.seg.leaves; ++leaf) {
        if (cut.context_of(l, leaf) != u || !is_counted(cut, b, l, leaf)) continue;
        const double share = cut.share[b * cut.seg.leaves + leaf], *found = sums.of(b) + leaf * per_leaf + first;
        k.upstream[0] += share * found[l];
        k.upstream[1] += share * found[levels + l];
      }
    }
  });
}

// ------------------------------------------------------------------------------------------------ deviations and denominators
// Statistics of the target that the caller has already.
template <typename T>
struct Known {
  const T* median = nullptr;      // [images, contexts of the options]
  const T* mad = nullptr;         // [images, contexts of the options]
  const T* global_mad = nullptr;  // [images]
  const uint8_t* flat = nullptr;  // [images]
};

// A thread's pixels in one leaf: per level sum |d - m|, sum |p - m|, and the pixels under and at the prediction's median.
template <typename T, int L>
struct DeviationRun {
  static constexpr int kValues = 4 * L;

  const Cut<T>& cut;
  int64_t b;
  T median[kSides][L], sum[kValues];

  DADKIT_DEVICE void enter(int leaf) {
    DADKIT_UNROLL
    for (int l = 0; l < L; ++l) {
      const int u = l < cut.seg.levels ? cut.context_of(l, leaf) : kNoContext;
      for (int s = 0; s < kSides; ++s) median[s][l] = u == kNoContext ? T(0) : static_cast<T>(cut.at(b, u).median[s]);
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
  Known<T> known;
  T epsilon;

  // by the image's last block, when every context holds its count, medians and deviations
  template <typename Block>
  DADKIT_DEVICE void finish(const Cut<T>& cut, const Block& block) const {
    const int64_t b = block.image;
    Image& m = cut.image[b];
    for_each(block, cut.seg.contexts, [&](int u) { replace(cut, b, u); });
    single_thread(block, [&] { whole(cut, b, m); });
    for_each(block, cut.seg.contexts, [&](int u) { scales(cut, b, u, m); });
    if (m.status == record::kFine) build_terms(cut, block, 1.0);
  }

 private:
  DADKIT_DEVICE void replace(const Cut<T>& cut, int64_t b, int u) const {
    Context& k = cut.at(b, u);
    k.mad[kTarget] = static_cast<double>(static_cast<T>(k.mad[kTarget]));  // as TargetStats holds it: cached statistics change nothing
    const int users = cut.options.contexts();
    if (known.median && u < users) {
      k.median[kTarget] = static_cast<double>(known.median[b * users + u]);
      k.mad[kTarget] = static_cast<double>(known.mad[b * users + u]);
    }
  }

  DADKIT_DEVICE void whole(const Cut<T>& cut, int64_t b, Image& m) const {
    if (cut.options.variant == kHdn || m.status != record::kFine) return;
    for (int s = 0; s < kSides; ++s) {
      m.global_mad[s] = cut.at(b, cut.seg.whole).mad[s];
      m.flat[s] = is_flat(m.global_mad[s], m.largest[s], epsilon);
    }
    if (known.median) {
      m.global_mad[kTarget] = static_cast<double>(known.global_mad[b]);
      m.flat[kTarget] = known.flat[b];
    }
  }

  DADKIT_DEVICE void scales(const Cut<T>& cut, int64_t b, int u, const Image& m) const {
    Context& k = cut.at(b, u);
    const bool hdn = cut.options.variant == kHdn, counts = u < cut.options.contexts();  // an added whole map only lends its deviation
    k.kept = counts && (hdn || cut.keep_all || is_kept(cut.seg.level_of[u], k.count, cut.options.min_pixels, k.mad[kTarget], m.global_mad[kTarget],
                                       cut.options.mad_floor, m.flat[kTarget]));
    for (int s = 0; s < kSides; ++s) {
      const Scale scale = hdn ? Scale{k.mad[s] + kHdnEpsilon, false} : scale_of(k.mad[s], m.global_mad[s], cut.options.mad_floor);
      k.scale[s] = scale.value;
      k.floored = scale.floored;  // of the prediction, which comes last
    }
    k.sign_sum = static_cast<double>(k.count - k.equal - 2 * k.under);
  }
};

// The mean deviations of all segments, whose medians are known.
//   images x slices · 33 KiB · reads both maps once · 5.1 M
template <typename T, int L>
struct Deviation {
  using Run = DeviationRun<T, L>;

  Maps<T> maps;
  Cut<T> cut;
  Sums sums;
  Denominators<T> then;

  using Shared = LeafShared<T>;

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    const bool fine = cut.image[b].status == record::kFine;
    if (!sum_leaves<L, kGeneral>(maps, cut, sums, block, shared, fine, kDeviationTicket, [&] { return Run{cut, b, {}, {}}; })) return;
    for_each(block, cut.seg.contexts, [&](int u) { deviations(b, u); });
    then.finish(cut, block);
  }

 private:
  DADKIT_DEVICE void deviations(int64_t b, int u) const {
    Context& k = cut.at(b, u);
    double sum[4] = {};
    if (cut.image[b].status == record::kFine) {
      for (int leaf = 0; leaf < cut.seg.leaves; ++leaf) {
        for (int l = 0; l < cut.seg.levels; ++l) {
          if (cut.context_of(l, leaf) != u) continue;
          for (int v = 0; v < 4; ++v) sum[v] += sums.of(b)[leaf * Run::kValues + 4 * l + v];
        }
      }
    }
    const int64_t n = k.count + (cut.options.variant == kHdn);
    for (int s = 0; s < kSides; ++s) k.mad[s] = n > 0 && cut.sides[s] ? sum[s] / static_cast<double>(n) : 0;
    k.under = static_cast<int64_t>(sum[2]);
    k.equal = static_cast<int64_t>(sum[3]);
  }
};

// ------------------------------------------------------------------------------------------------ answers
// The median and deviation of a map, which is pred.
//   images x 1 · no shared memory
template <typename T>
struct SaveMedian {
  Cut<T> cut;
  T *median, *mad;  // [images]
  double* stats;    // [images, median_record::kWidth]
  struct Shared {};
  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared&) const {
    using namespace median_record;
    single_thread(block, [&] {
      const int64_t b = block.image;
      const Image& m = cut.image[b];
      const Context& k = cut.at(b, 0);
      const bool fine = m.status == record::kFine, poisoned = m.status == record::kPoisoned;
      const T nothing = poisoned ? static_cast<T>(NAN) : T(0);
      median[b] = fine ? static_cast<T>(k.median[kPred]) : nothing;
      mad[b] = fine ? static_cast<T>(k.mad[kPred]) : nothing;
      double* r = stats + kWidth * b;
      r[kStatus] = m.status;
      r[kMedian] = fine ? k.median[kPred] : 0;
      r[kCount] = static_cast<double>(k.count);
      r[kSignSum] = k.sign_sum;
      r[kTies] = static_cast<double>(k.equal);
    });
  }
};

// Their gradient.
//   images x slices · no shared memory · reads the map once, writes the gradient
template <typename T>
struct MedianGradient {
  Maps<T> maps;
  const T *grad_median, *grad_mad;  // [images]
  const double* stats;              // [images, median_record::kWidth]
  T* gradient;                      // [images, n]
  struct Shared {};
  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared&) const {
    using namespace median_record;
    const int64_t b = block.image;
    const double* r = stats + kWidth * b;
    const bool empty = r[kStatus] == record::kEmpty, poisoned = r[kStatus] == record::kPoisoned;
    const double per_pixel = static_cast<double>(grad_mad[b]) / fmax(1.0, r[kCount]);
    const double at_median = static_cast<double>(grad_median[b]) - per_pixel * r[kSignSum];
    const T m = static_cast<T>(r[kMedian]), side = static_cast<T>(per_pixel), tie = static_cast<T>(at_median / fmax(1.0, r[kTies]));
    block.threads([&](int t) {
      for_pixels<kGeneral>(maps, block, t, true, [&](int64_t i, bool on, T, T p) {
        T g = p > m ? side : (p < m ? -side : tie);
        if (poisoned) g = static_cast<T>(NAN);
        gradient[b * maps.n + i] = on && !empty ? g : T(0);
      });
    });
  }
};

// The target's statistics as TargetStats holds them.
//   images x 1 · no shared memory
template <typename T>
struct SaveStatistics {
  Cut<T> cut;
  T* edges;              // [images, finest + 1]
  T *median, *mad;       // [images, contexts of the options]
  T* global_mad;         // [images]
  int64_t* count;        // as median
  uint8_t* flat;         // [images]
  struct Shared {};
  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared&) const {
    const int64_t b = block.image;
    const Image& m = cut.image[b];
    const int borders = cut.options.partition == kGrid ? 0 : cut.finest + 1, users = cut.options.contexts();
    for_each(block, borders, [&](int k) { edges[b * borders + k] = static_cast<T>(m.edges[k]); });
    for_each(block, users, [&](int u) {
      const Context& k = cut.at(b, u);
      count[b * users + u] = k.count;
      median[b * users + u] = static_cast<T>(k.median[kTarget]);
      mad[b * users + u] = static_cast<T>(k.mad[kTarget]);
    });
    single_thread(block, [&] {
      global_mad[b] = static_cast<T>(m.global_mad[kTarget]);
      flat[b] = m.status == record::kFine ? m.flat[kTarget] != 0 : 1;
    });
  }
};

// The values at given ranks; the contexts are the ranks.
//   images x 1 · no shared memory
template <typename T>
struct SaveOrder {
  Cut<T> cut;
  T* out;  // [images, stride]
  int64_t stride;
  struct Shared {};
  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared&) const {
    const int64_t b = block.image;
    const int status = cut.image[b].status;
    const T none = status == record::kPoisoned ? static_cast<T>(NAN) : T(0);
    for_each(block, cut.seg.contexts, [&](int u) {
      out[b * stride + u] = status == record::kFine ? static_cast<T>(cut.at(b, u).median[kTarget]) : none;
    });
  }
};

}  // namespace dadkit::device
