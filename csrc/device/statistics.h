// Ranges, exact medians and mean deviations of every segment of one or two maps.
//
// The median is a radix search over order-preserving keys, eight bits a pass: exact for any data, always the same launches.
#pragma once

#include "../common/record.h"
#include "terms.h"

namespace dadkit {
namespace device {

enum Ticket { kRangeTicket, kDeviationTicket, kLossTicket, kWeightTicket, kDifferenceTicket, kFirstPassTicket };

// Smallest, largest, number and finiteness of both maps; then the borders of the target's segments.
template <typename T>
struct Range {
  Call<T> c;
  const T* edges;  // given borders or nullptr

  struct Shared {
    uint64_t top[kSides][kThreads], bottom[kSides][kThreads];
    uint32_t valid, bad;
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    Image& m = c.image[b];
    block.threads([&](int t) {
      if (t == 0) shared.valid = shared.bad = 0;
    });
    block.threads([&](int t) {
      uint64_t top[kSides] = {}, bottom[kSides] = {};
      uint32_t valid = 0, bad = 0;
      if (c.present(b)) {
        for_pixels(c, block, t, true, c.pred != nullptr, [&](int64_t, bool on, T d, T p) {
          if (!on) return;
          ++valid;
          see(d, &top[kTarget], &bottom[kTarget], &bad);
          if (c.pred) see(p, &top[kPred], &bottom[kPred], &bad);
        });
      }
      for (int s = 0; s < kSides; ++s) {
        shared.top[s][t] = top[s];
        shared.bottom[s][t] = bottom[s];
      }
      if (valid) add(&shared.valid, valid);
      if (bad) add(&shared.bad, bad);
    });
    for (int s = 0; s < kSides; ++s) {
      largest_of(block, shared.top[s]);
      largest_of(block, shared.bottom[s]);
    }
    block.threads([&](int t) {
      if (t != 0 || shared.valid == 0) return;
      add(&m.valid, static_cast<int64_t>(shared.valid));
      if (shared.bad) add(&m.bad, static_cast<int64_t>(shared.bad));
      for (int s = 0; s < kSides; ++s) {
        raise_to(&m.top[s], shared.top[s][0]);
        raise_to(&m.bottom[s], shared.bottom[s][0]);
      }
    });
    if (!block.last(&m.ticket[kRangeTicket])) return;
    block.threads([&](int t) {
      if (t == 0) finish(b, m);
    });
  }

 private:
  static DADKIT_DEVICE void see(T x, uint64_t* top, uint64_t* bottom, uint32_t* bad) {
    if (!is_finite(x)) {
      ++*bad;
      return;
    }
    const Key<T> key = key_of(x), inverse = static_cast<Key<T>>(~key);
    *top = key > *top ? key : *top;
    *bottom = inverse > *bottom ? inverse : *bottom;
  }

  DADKIT_DEVICE void finish(int64_t b, Image& m) const {
    m.status = m.valid == 0 ? record::kEmpty : (m.bad ? record::kPoisoned : record::kFine);
    T low[kSides], high[kSides];
    for (int s = 0; s < kSides; ++s) {
      const bool any = m.top[s] != 0;
      low[s] = any ? value_of<T>(static_cast<Key<T>>(~static_cast<Key<T>>(m.bottom[s]))) : T(0);
      high[s] = any ? value_of<T>(static_cast<Key<T>>(m.top[s])) : T(0);
      m.largest[s] = fmax(fabs(static_cast<double>(low[s])), fabs(static_cast<double>(high[s])));
    }
    if (c.options.partition == kGrid) return;
    const int finest = c.options.finest();
    for (int k = 0; k <= finest; ++k) {
      m.edges[k] = static_cast<double>(edges ? edges[b * (finest + 1) + k] : border<T>(low[0], high[0] - low[0], k, finest));
    }
  }
};

// One radix pass: how many of a segment's values that begin with what is known have each next byte; then which byte the median has.
template <typename T>
struct Search {
  static constexpr int kChunk = 16;   // contexts at once
  static constexpr int kParts = 16;   // of a histogram, to find a rank in two short walks
  static constexpr int kPasses = static_cast<int>(sizeof(T));

  Call<T> c;
  int pass;
  const int64_t* ranks;  // of every context; nullptr: the lower median's
  int64_t ranks_stride;  // between images

  struct Shared {
    Rule<T> rule;
    uint32_t bins[kChunk * kSides * kBins];
    uint32_t parts[kChunk * kSides * kParts];
    Key<T> prefix[kChunk * kSides];
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image;
    Image& m = c.image[b];
    if (m.status != record::kFine) return;
    shared.rule.load(m, block);
    for (int first = 0; first < c.seg.contexts; first += kChunk) {
      const int here = c.seg.contexts - first < kChunk ? c.seg.contexts - first : kChunk;
      uint32_t* global = c.histogram + (b * c.seg.contexts + first) * kSides * kBins;
      block.threads([&](int t) {
        for (int k = t; k < here * kSides * kBins; k += block.size()) shared.bins[k] = 0;
        for (int k = t; k < here * kSides; k += block.size()) shared.prefix[k] = static_cast<Key<T>>(c.at(b, first + k / kSides).prefix[k % kSides]);
      });
      block.threads([&](int t) { count(block, shared, t, first, here); });
      block.threads([&](int t) {
        for (int k = t; k < here * kSides * kBins; k += block.size())
          if (shared.bins[k]) add(global + k, shared.bins[k]);
      });
    }
    if (!block.last(&m.ticket[kFirstPassTicket + pass])) return;
    for (int first = 0; first < c.seg.contexts; first += kChunk) {
      const int here = c.seg.contexts - first < kChunk ? c.seg.contexts - first : kChunk;
      uint32_t* global = c.histogram + (b * c.seg.contexts + first) * kSides * kBins;
      block.threads([&](int t) {
        for (int k = t; k < here * kSides * kBins; k += block.size()) {
          shared.bins[k] = global[k];
          global[k] = 0;  // for the next pass
        }
      });
      block.threads([&](int t) {
        for (int k = t; k < here * kSides * kParts; k += block.size()) {
          uint32_t sum = 0;
          for (int j = 0; j < kBins / kParts; ++j) sum += shared.bins[k * (kBins / kParts) + j];
          shared.parts[k] = sum;
        }
      });
      block.threads([&](int t) {
        for (int k = t; k < here; k += block.size()) pick(b, first + k, shared.bins + k * kSides * kBins, shared.parts + k * kSides * kParts);
      });
    }
  }

 private:
  DADKIT_DEVICE int shift() const { return 8 * (kPasses - 1 - pass); }

  template <typename Block>
  DADKIT_DEVICE void count(const Block& block, Shared& shared, int t, int first, int here) const {
    const Key<T> known = pass == 0 ? Key<T>(0) : static_cast<Key<T>>(~Key<T>(0) << (shift() + 8));
    for_pixels(c, block, t, true, c.sides[kPred], [&](int64_t i, bool on, T d, T p) {
      const int leaf = on ? shared.rule.leaf(c, i, d) : -1;
      if (leaf < 0) return;
      const Key<T> key[kSides] = {key_of(d), key_of(p)};
      for (int l = 0; l < c.seg.levels; ++l) {
        const int u = c.context_of(l, leaf) - first;
        if (u < 0 || u >= here) continue;
        for (int s = 0; s < kSides; ++s) {
          if (!c.sides[s] || ((key[s] ^ shared.prefix[u * kSides + s]) & known) != 0) continue;
          bump(shared.bins, static_cast<uint32_t>((u * kSides + s) * kBins) + static_cast<uint32_t>(key[s] >> shift() & 255));
        }
      }
    });
  }

  DADKIT_DEVICE void pick(int64_t b, int u, const uint32_t* bins, const uint32_t* parts) const {
    Context& k = c.at(b, u);
    for (int s = 0; s < kSides; ++s, bins += kBins, parts += kParts) {
      if (!c.sides[s]) continue;
      if (pass == 0) {
        int64_t count = 0;
        for (int j = 0; j < kParts; ++j) count += parts[j];
        k.count = count;
        k.rank[s] = ranks ? ranks[b * ranks_stride + u] : (count - 1) / 2;
        if (k.rank[s] >= count) k.rank[s] = count - 1;
        if (k.rank[s] < 0) k.rank[s] = 0;
      }
      if (k.count == 0) continue;
      int part = 0;
      while (part < kParts - 1 && k.rank[s] >= static_cast<int64_t>(parts[part])) k.rank[s] -= parts[part++];
      int byte = part * (kBins / kParts);
      while (byte < kBins - 1 && k.rank[s] >= static_cast<int64_t>(bins[byte])) k.rank[s] -= bins[byte++];
      k.prefix[s] |= static_cast<uint64_t>(byte) << shift();
      if (pass == kPasses - 1) k.median[s] = static_cast<double>(value_of<T>(static_cast<Key<T>>(k.prefix[s])));
    }
  }
};

// The slices' sums become the image's: sums[j] for j < count.
template <typename T, typename Block>
DADKIT_DEVICE void sum_slices(const Call<T>& c, const Block& block, int count) {
  block.threads([&](int t) {
    for (int j = t; j < count; j += block.size()) {
      double sum = 0;
      for (int64_t s = 0; s < c.slices; ++s) sum += c.partial[(block.image * c.slices + s) * c.values + j];
      c.sums[block.image * c.values + j] = sum;
    }
  });
}

// Statistics of the target that the caller has already.
template <typename T>
struct Known {
  const int64_t* count = nullptr;
  const T* median = nullptr;
  const T* mad = nullptr;
  const T* global_mad = nullptr;
  const uint8_t* flat = nullptr;
};

// sum |x - m| and the pixels under and at the prediction's median; then denominators, which segments are kept, constants per leaf.
template <typename T, int L>
struct Deviation {
  static constexpr int kValues = 4 * L;  // of a leaf
  static constexpr int kLeaves = Slots<T>::kCount / kValues;

  Call<T> c;
  Known<T> known;
  T epsilon;

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
    }
    if (!block.last(&m.ticket[kDeviationTicket])) return;
    if (m.status == record::kFine) sum_slices(c, block, c.seg.leaves * kValues);
    block.threads([&](int t) {
      for (int u = t; u < c.seg.contexts; u += block.size()) deviations(b, u);
    });
    block.threads([&](int t) {
      if (t == 0) whole(b, m);
    });
    block.threads([&](int t) {
      for (int u = t; u < c.seg.contexts; u += block.size()) scales(b, u, m);
    });
    if (m.status == record::kFine) build_terms(c, block, 1.0);
  }

 private:
  template <typename Block>
  DADKIT_DEVICE void sweep(const Block& block, Shared& shared, int t, int first, int here) const {
    const int64_t b = block.image;
    int current = -1;
    T median[kSides][L] = {}, sum[L][4] = {};
    auto leave = [&] {
      if (current < 0) return;
      const int slot = kLeaves == 1 ? 0 : current * kValues;
      DADKIT_UNROLL
      for (int l = 0; l < L; ++l) {
        DADKIT_UNROLL
        for (int v = 0; v < 4; ++v) shared.slots.at[slot + 4 * l + v][t] += sum[l][v];
      }
    };
    for_pixels(c, block, t, true, c.sides[kPred], [&](int64_t i, bool on, T d, T p) {
      const int leaf = on ? shared.rule.leaf(c, i, d) - first : -1;
      if (leaf < 0 || leaf >= here) return;
      if (leaf != current) {
        leave();
        current = leaf;
        DADKIT_UNROLL
        for (int l = 0; l < L; ++l) {
          const int u = l < c.seg.levels ? c.context_of(l, first + leaf) : kNoContext;
          for (int s = 0; s < kSides; ++s) median[s][l] = u == kNoContext ? T(0) : static_cast<T>(c.at(b, u).median[s]);
          sum[l][0] = sum[l][1] = sum[l][2] = sum[l][3] = T(0);
        }
      }
      DADKIT_UNROLL
      for (int l = 0; l < L; ++l) {
        sum[l][0] += magnitude(d - median[kTarget][l]);
        sum[l][1] += magnitude(p - median[kPred][l]);
        sum[l][2] += p < median[kPred][l] ? T(1) : T(0);
        sum[l][3] += p == median[kPred][l] ? T(1) : T(0);
      }
    });
    leave();
  }

  DADKIT_DEVICE void deviations(int64_t b, int u) const {
    Context& k = c.at(b, u);
    double sum[4] = {};
    if (c.image[b].status == record::kFine) {
      for (int leaf = 0; leaf < c.seg.leaves; ++leaf) {
        for (int l = 0; l < c.seg.levels; ++l) {
          if (c.context_of(l, leaf) != u) continue;
          for (int v = 0; v < 4; ++v) sum[v] += c.sums[b * c.values + leaf * kValues + 4 * l + v];
        }
      }
    }
    const int64_t n = k.count + (c.options.variant == kHdn);
    for (int s = 0; s < kSides; ++s) k.mad[s] = n > 0 && c.sides[s] ? sum[s] / static_cast<double>(n) : 0;
    k.mad[kTarget] = static_cast<double>(static_cast<T>(k.mad[kTarget]));  // as TargetStats holds it: cached statistics change nothing
    k.under = static_cast<int64_t>(sum[2]);
    k.equal = static_cast<int64_t>(sum[3]);
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

}  // namespace device
}  // namespace dadkit
