// Exact medians and mean deviations of a plain call in one sweep: a sample brackets every median, the sweep counts what is below a bracket,
// sums |x - low| and lists what is inside, and the median is found among that. A bracket that misses is noticed by the counts, and its
// segment is searched in the map itself: the sample decides speed, never the result.
//
//   Sample    images x contexts · 36 KiB · draws 4,096 pixels; a bracket is 3.5 standard deviations of the median's rank · 0.18 M
//   Collect   images x slices · 40 KiB · reads both maps once; lists go through shared memory, so that a block asks once for room · 2.5 M
//   Select    images x contexts · 4 KiB · radix search among the listed, an image's last block makes denominators · 0.5 M
//
// The order of a list is that of the blocks' arrival. Whatever is taken from it does not depend on order: ranks, counts, and sums of integers.
#pragma once

#include "statistics.h"

namespace dadkit::device {

// ------------------------------------------------------------------------------------------------ a search within a block
// The values of given ranks among Q sets of values, by their keys, eight bits a pass.
template <typename T, int Q>
struct RadixShared {
  uint32_t bins[Q][kBins], parts[Q][kParts];
  Key<T> key[Q];    // first the bits above `bits` that all values of the set share, at last the answer
  int64_t rank[Q];  // wanted; used up
};

// The values' keys differ in their last `bits`, a multiple of eight, at most. each(t, visit): thread t's values, visit(q, key)
template <typename T, int Q, typename Block, typename Each>
DADKIT_DEVICE void radix_select(const Block& block, RadixShared<T, Q>* r, int bits, const Each& each) {
  for_each(block, Q, [&](int q) { r->key[q] = bits < kKeyBits<T> ? r->key[q] >> bits << bits : 0; });
  for (int shift = bits - 8; shift >= 0; shift -= 8) {
    for_each(block, Q * kBins, [&](int k) { r->bins[k / kBins][k % kBins] = 0; });
    block.threads([&](int t) {
      each(t, [&](int q, Key<T> key) {
        if (((key ^ r->key[q]) >> shift) >> 8 != 0) return;
        warp_aggregated_increment(r->bins[0], static_cast<uint32_t>(q * kBins) + static_cast<uint32_t>(key >> shift & 255));
      });
    });
    sum_parts(block, r->bins[0], Q, r->parts[0]);
    for_each(block, Q, [&](int q) {
      const int bin = find_bin(r->bins[q], r->parts[q], &r->rank[q]);
      r->key[q] |= static_cast<Key<T>>(bin) << shift;
    });
  }
}

// What lies inside the brackets, in no order; what finds no room is lost, and counted all the same.
template <typename T>
struct Lists {
  T* at;  // [images, seg.contexts, kSides, capacity]
  uint32_t capacity;

  DADKIT_DEVICE const T* of(int64_t list) const { return at + list * capacity; }
  DADKIT_DEVICE void put(int64_t list, uint32_t place, T x) const {
    if (place < capacity) at[list * capacity + place] = x;
  }
};

// ------------------------------------------------------------------------------------------------ the sample
template <typename T>
struct Sample {
  static constexpr int kDrawn = 4096;
  static constexpr int kFew = 64;  // a segment with fewer of them is small: all its values are listed

  Maps<T> maps;
  Cut<T> cut;

  struct Shared {
    Rule<T> rule;
    RadixShared<T, 2 * kSides> search;
    Key<T> key[kSides][kDrawn];
    uint32_t size;
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    const int u = static_cast<int>(block.slice);
    const Image& m = cut.image[b];
    if (m.status != record::kFine) return;
    shared.rule.load(cut, b, block);
    single_thread(block, [&] { shared.size = 0; });
    block.threads([&](int t) {
      const int64_t stratum = maps.n > kDrawn ? maps.n / kDrawn : 1;
      const int drawn = static_cast<int>(maps.n > kDrawn ? kDrawn : maps.n);
      for (int k = t; k < drawn; k += block.size()) {
        const int64_t skip = static_cast<int64_t>(static_cast<uint32_t>(k) * 2654435761u) % stratum, i = b * maps.n + k * stratum + skip;
        const T d = maps.target[i];
        const int leaf = shared.rule.template plain_leaf<3>(d);
        if (!maps.valid(b, k * stratum + skip) || !is_in(cut, u, leaf)) continue;
        const uint32_t at = atomic_add(&shared.size, 1u);
        shared.key[kTarget][at] = key_of(d);
        shared.key[kPred][at] = key_of(maps.pred[i]);
      }
    });
    const int size = static_cast<int>(shared.size);
    Context& context = cut.at(b, u);
    if (size < kFew) {
      for_each(block, static_cast<int>(kSides), [&](int s) {
        context.low[s] = m.low[s];
        context.high[s] = m.high[s];
      });
      return;
    }
    for_each(block, 2 * kSides, [&](int q) {
      const int half = static_cast<int>(1.75 * sqrt(static_cast<double>(size))) + 2;
      const int rank = (size - 1) / 2 + (q % 2 ? half : -half);
      shared.search.rank[q] = rank < 0 ? 0 : (rank > size - 1 ? size - 1 : rank);
    });
    radix_select<T>(block, &shared.search, kKeyBits<T>, [&](int t, const auto& visit) {
      for (int k = t; k < size; k += block.size()) {
        for (int q = 0; q < 2 * kSides; ++q) visit(q, shared.key[q / 2][k]);
      }
    });
    for_each(block, 2 * kSides, [&](int q) {
      double& end = q % 2 ? context.high[q / 2] : context.low[q / 2];
      end = static_cast<double>(value_of<T>(shared.search.key[q]));
    });
  }

  static DADKIT_DEVICE bool is_in(const Cut<T>& cut, int u, int leaf) {
    for (int l = 0; l < cut.seg.levels; ++l)
      if (cut.context_of(l, leaf) == u) return true;
    return false;
  }
};

// ------------------------------------------------------------------------------------------------ the sweep
// What a block found inside brackets: a value of a map once, with its leaf and the levels whose bracket holds it. At the end of the sweep
// that goes to the lists; what finds no room goes there at once.
template <typename T>
struct Found {
  static constexpr int kRoom = 2048, kKeys = kPlainContexts * kSides;  // a key: 2 context + side

  T value[kRoom];
  uint16_t where[kRoom];  // leaf << 4 | side << 3 | levels
  T low[kKeys], high[kKeys];
  struct alignas(16) Brackets {
    T low[3][kSides], high[3][kSides];
  } of_leaves[kPlainLeaves];  // on every level
  uint32_t size, at_low[kKeys], at_high[kKeys], inside[kKeys], first[kKeys];

  template <typename Block>
  DADKIT_DEVICE void clear(const Cut<T>& cut, const Block& block) {
    for_each(block, cut.seg.contexts * kSides, [&](int k) {
      const Context& context = cut.at(block.image, k / kSides);
      low[k] = static_cast<T>(context.low[k % kSides]);
      high[k] = static_cast<T>(context.high[k % kSides]);
      at_low[k] = at_high[k] = inside[k] = 0;
      if (k == 0) size = 0;
    });
    for_each(block, cut.seg.leaves * 3 * kSides, [&](int j) {
      const int leaf = j / (3 * kSides), l = j / kSides % 3, s = j % kSides;
      const bool used = l < cut.seg.levels;
      of_leaves[leaf].low[l][s] = used ? low[cut.context_of(l, leaf) * kSides + s] : T(0);
      of_leaves[leaf].high[l][s] = used ? high[cut.context_of(l, leaf) * kSides + s] : static_cast<T>(-INFINITY);
    });
  }

  DADKIT_DEVICE void keep(const Cut<T>& cut, const Lists<T>& lists, int64_t b, int leaf, int s, uint32_t levels, T x) {
    const uint32_t at = atomic_add(&size, 1u), place = static_cast<uint32_t>(leaf << 4 | s << 3) | levels;
    if (at < kRoom) {
      value[at] = x;
      where[at] = static_cast<uint16_t>(place);
      return;
    }
    visit(cut, x, place, [&](int k) { lists.put(b * cut.seg.contexts * kSides + k, atomic_add(&cut.at(b, k / kSides).inside[k % kSides], 1u), x); });
  }

  template <typename Block>
  DADKIT_DEVICE void flush(const Cut<T>& cut, const Lists<T>& lists, const Block& block) {
    const int64_t b = block.image;
    const int kept = static_cast<int>(size < kRoom ? size : kRoom);
    for_each(block, kept, [&](int i) { visit(cut, value[i], where[i], [&](int k) { atomic_add(&inside[k], 1u); }); });
    for_each(block, cut.seg.contexts * kSides, [&](int k) {
      Context& context = cut.at(b, k / kSides);
      if (at_low[k]) atomic_add(&context.at_low[k % kSides], at_low[k]);
      if (at_high[k]) atomic_add(&context.at_high[k % kSides], at_high[k]);
      first[k] = inside[k] ? atomic_add(&context.inside[k % kSides], inside[k]) : 0;
      at_low[k] = at_high[k] = 0;
    });
    for_each(block, kept, [&](int i) {
      visit(cut, value[i], where[i], [&](int k) { lists.put(b * cut.seg.contexts * kSides + k, atomic_add(&first[k], 1u), value[i]); });
    });
  }

 private:
  // Counts a value at the ends of its brackets; f(key) of those that hold it strictly between.
  template <typename F>
  DADKIT_DEVICE void visit(const Cut<T>& cut, T x, uint32_t place, const F& f) {
    for (int l = 0; l < cut.seg.levels; ++l) {
      if (!(place >> l & 1)) continue;
      const int k = cut.context_of(l, static_cast<int>(place >> 4)) * kSides + static_cast<int>(place >> 3 & 1);
      if (x == low[k]) {
        atomic_add(&at_low[k], 1u);
      } else if (x == high[k]) {
        atomic_add(&at_high[k], 1u);
      } else {
        f(k);
      }
    }
  }
};

// A thread's pixels in one leaf: their number, and per level and side the sum of |x - low| and the number below low.
template <typename T, int L>
struct CollectRun {
  static constexpr int kValues = 1 + 2 * kSides * L;
  static DADKIT_DEVICE constexpr int at(int l, int s) { return 1 + 2 * (kSides * l + s); }

  const Cut<T>& cut;
  const Lists<T>& lists;
  int64_t b;
  Found<T>& found;
  int leaf;
  T low[L][kSides], high[L][kSides], sum[kValues];

  DADKIT_DEVICE void enter(int entered) {
    leaf = entered;
    DADKIT_UNROLL
    for (int l = 0; l < L; ++l) {
      DADKIT_UNROLL
      for (int s = 0; s < kSides; ++s) {
        low[l][s] = found.of_leaves[leaf].low[l][s];
        high[l][s] = found.of_leaves[leaf].high[l][s];
      }
    }
  }
  DADKIT_DEVICE void add(int64_t, T d, T p) {
    const T x[kSides] = {d, p};
    sum[0] += 1;
    DADKIT_UNROLL
    for (int s = 0; s < kSides; ++s) {
      uint32_t levels = 0;
      DADKIT_UNROLL
      for (int l = 0; l < L; ++l) {
        const bool below = x[s] < low[l][s];
        sum[at(l, s)] += magnitude(x[s] - low[l][s]);
        sum[at(l, s) + 1] += below ? T(1) : T(0);
        levels |= (!below & (x[s] <= high[l][s])) ? 1u << l : 0u;
      }
      if (levels) found.keep(cut, lists, b, leaf, s, levels, x[s]);
    }
  }
  DADKIT_DEVICE void outside(int64_t, bool) {}
};

template <typename T, int L, Walk kWalk>
struct Collect {
  using Run = CollectRun<T, L>;

  Maps<T> maps;
  Cut<T> cut;
  Sums sums;
  Lists<T> lists;

  struct Shared : LeafSharedOf<T, Run, L, kWalk> {
    Found<T> found;
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    if (cut.image[b].status != record::kFine) return;
    shared.found.clear(cut, block);
    sum_leaves<L, kWalk>(maps, cut, sums, block, shared, true, kCollectTicket, [&] { return Run{cut, lists, b, shared.found, 0, {}, {}, {}}; });
    shared.found.flush(cut, lists, block);
  }
};

// ------------------------------------------------------------------------------------------------ the search
// Median and mean deviation of one context, of both maps; then what follows from them.
template <typename T, int L>
struct Select {
  using Run = CollectRun<T, L>;
  enum Source { kNothing, kList, kMap };  // where the values are that must still be looked at

  Maps<T> maps;
  Cut<T> cut;
  Sums sums;
  Lists<T> lists;
  Denominators<T> then;

  struct Shared {
    Rule<T> rule;
    RadixShared<T, kSides> search;
    double part[kSides][kThreads];
    double offset[kSides];  // sum of |x - low|
    int64_t below[kSides], fixed[kSides], under, equal;
    uint32_t inside[kSides];
    int source[kSides], bits[kSides];  // bits: the last of a key, in which what is searched can differ
    T median[kSides];
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    const int u = static_cast<int>(block.slice);
    Image& m = cut.image[b];
    if (m.status == record::kFine) {
      shared.rule.load(cut, b, block);
      for_each(block, static_cast<int>(kSides), [&](int s) { place(shared, b, u, s); });
      if (shared.source[kTarget] != kNothing || shared.source[kPred] != kNothing) {
        const int bits = shared.bits[kTarget] > shared.bits[kPred] ? shared.bits[kTarget] : shared.bits[kPred];
        radix_select<T>(block, &shared.search, bits, [&](int t, const auto& visit) {
          each(block, shared, b, u, t, [&](int s, T x) { visit(s, key_of(x)); });
        });
        for_each(block, static_cast<int>(kSides), [&](int s) {
          if (shared.search.rank[s] >= 0) shared.median[s] = value_of<T>(shared.search.key[s]);
        });
      }
      block.threads([&](int t) { deviate(block, shared, b, u, t); });
      single_thread(block, [&] { answer(block, shared, b, u); });
    }
    if (block.last(&m.ticket[kDeviationTicket])) then.finish(cut, block);
  }

 private:
  // Where the wanted rank lies, by the counts alone.
  DADKIT_DEVICE void place(Shared& shared, int64_t b, int u, int s) const {
    double total = 0, below = 0, offset = 0;
    for (int leaf = 0; leaf < cut.seg.leaves; ++leaf) {
      for (int l = 0; l < cut.seg.levels; ++l) {
        if (cut.context_of(l, leaf) != u) continue;
        const double* found = sums.of(b) + leaf * Run::kValues;
        total += found[0];
        offset += found[Run::at(l, s)];
        below += found[Run::at(l, s) + 1];
      }
    }
    Context& k = cut.at(b, u);
    if (s == 0) k.count = static_cast<int64_t>(total);
    shared.below[s] = static_cast<int64_t>(below);
    shared.offset[s] = offset;
    shared.inside[s] = k.inside[s];
    shared.fixed[s] = 0;
    if (s == 0) shared.under = shared.equal = 0;
    const bool listed = k.inside[s] <= lists.capacity;
    const int64_t wanted = (static_cast<int64_t>(total) - 1) / 2;
    int64_t rank = wanted - shared.below[s];
    shared.source[s] = kNothing;
    shared.search.rank[s] = -1;
    shared.search.key[s] = 0;
    shared.bits[s] = 0;
    shared.median[s] = T(0);
    if (total == 0) return;
    shared.source[s] = listed ? kList : kMap;
    if (rank >= 0 && rank < static_cast<int64_t>(k.at_low[s])) {
      shared.median[s] = static_cast<T>(k.low[s]);
    } else if (rank >= 0 && listed && rank - k.at_low[s] < static_cast<int64_t>(k.inside[s])) {
      shared.search.rank[s] = rank - k.at_low[s];
      const Key<T> low = key_of(static_cast<T>(k.low[s])), high = key_of(static_cast<T>(k.high[s]));
      shared.search.key[s] = low;
      while (shared.bits[s] < kKeyBits<T> && (low ^ high) >> shared.bits[s]) shared.bits[s] += 8;
    } else if (rank >= 0 && listed && rank - k.at_low[s] - k.inside[s] < static_cast<int64_t>(k.at_high[s])) {
      shared.median[s] = static_cast<T>(k.high[s]);
    } else {
      shared.source[s] = kMap;
      shared.search.rank[s] = wanted;
      shared.bits[s] = kKeyBits<T>;
    }
  }

  // f(s, x) for thread t's part of what must still be looked at.
  template <typename Block, typename F>
  DADKIT_DEVICE void each(const Block& block, const Shared& shared, int64_t b, int u, int t, const F& f) const {
    for (int s = 0; s < kSides; ++s) {
      if (shared.source[s] != kList) continue;
      const T* list = lists.of((b * cut.seg.contexts + u) * kSides + s);
      for (uint32_t i = static_cast<uint32_t>(t); i < shared.inside[s]; i += static_cast<uint32_t>(block.size())) f(s, list[i]);
    }
    if (shared.source[kTarget] != kMap && shared.source[kPred] != kMap) return;
    for (int64_t i = b * maps.n + t; i < (b + 1) * maps.n; i += block.size()) {
      const T d = maps.target[i];
      if (maps.mask && !maps.mask[i]) continue;
      if (!Sample<T>::is_in(cut, u, shared.rule.template plain_leaf<L>(d))) continue;
      if (shared.source[kTarget] == kMap) f(kTarget, d);
      if (shared.source[kPred] == kMap) f(kPred, maps.pred[i]);
    }
  }

  // Sums over a list are of integers, in units of 2^-bits of the bracket's width: its order is not fixed. Those over a map are of doubles.
  DADKIT_DEVICE double units(const Shared& shared, const Context& k, int s) const {
    int bits = 61;
    for (uint32_t left = shared.inside[s]; left; left /= 2) --bits;
    return static_cast<double>(static_cast<int64_t>(1) << bits) / (k.high[s] - k.low[s]);
  }
  // The whole segment is listed: its deviations are summed as they are, else as what they differ from |x - low|.
  DADKIT_DEVICE bool whole_list(const Shared& shared, const Context& k, int s) const {
    return shared.below[s] == 0 && static_cast<int64_t>(k.at_low[s]) + k.at_high[s] + k.inside[s] == k.count;
  }

  template <typename Block>
  DADKIT_DEVICE void deviate(const Block& block, Shared& shared, int64_t b, int u, int t) const {
    const Context& k = cut.at(b, u);
    double sum[kSides] = {}, unit[kSides] = {}, low[kSides] = {};
    int64_t fixed[kSides] = {}, under = 0, equal = 0;
    for (int s = 0; s < kSides; ++s) {
      if (shared.source[s] != kList || shared.inside[s] == 0) continue;
      unit[s] = units(shared, k, s);
      low[s] = whole_list(shared, k, s) ? static_cast<double>(INFINITY) : k.low[s];
    }
    each(block, shared, b, u, t, [&](int s, T x) {
      const double off = fabs(static_cast<double>(x) - static_cast<double>(shared.median[s]));
      if (shared.source[s] == kMap) {
        sum[s] += off;
      } else {
        fixed[s] += static_cast<int64_t>((low[s] < static_cast<double>(INFINITY) ? off - (static_cast<double>(x) - low[s]) : off) * unit[s]);
      }
      under += s == kPred && x < shared.median[s];
      equal += s == kPred && x == shared.median[s];
    });
    for (int s = 0; s < kSides; ++s) {
      shared.part[s][t] = sum[s];
      if (fixed[s]) atomic_add(&shared.fixed[s], fixed[s]);
    }
    if (under) atomic_add(&shared.under, under);
    if (equal) atomic_add(&shared.equal, equal);
  }

  template <typename Block>
  DADKIT_DEVICE void answer(const Block& block, Shared& shared, int64_t b, int u) const {
    Context& k = cut.at(b, u);
    for (int s = 0; s < kSides; ++s) {
      const double median = static_cast<double>(shared.median[s]), low = k.low[s], high = k.high[s];
      const double at_low = k.at_low[s], at_high = k.at_high[s], above = static_cast<double>(k.count - shared.below[s]) - at_low - shared.inside[s];
      double sum = 0;
      if (shared.source[s] == kMap) {
        for (int t = 0; t < block.size(); ++t) sum += shared.part[s][t];
      } else if (k.count > 0) {
        const double listed = shared.inside[s] ? static_cast<double>(shared.fixed[s]) / units(shared, k, s) : 0;
        sum = whole_list(shared, k, s) ? listed + at_low * (median - low) + at_high * (high - median)
                                       : listed + shared.offset[s] + (static_cast<double>(shared.below[s]) + at_low - above) * (median - low);
      }
      k.median[s] = median;
      k.mad[s] = k.count > 0 && cut.sides[s] ? sum / static_cast<double>(k.count) : 0;
      if (s != kPred) continue;
      k.under = shared.under;
      k.equal = shared.equal;
      if (shared.source[s] == kMap) continue;
      k.under += shared.below[s] + (low < median ? static_cast<int64_t>(at_low) : 0);
      k.equal += (low == median ? static_cast<int64_t>(at_low) : 0) + (high == median && high != low ? static_cast<int64_t>(at_high) : 0);
    }
  }
};

}  // namespace dadkit::device
