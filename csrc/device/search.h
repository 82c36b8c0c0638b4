// Exact medians, and other order statistics, of every segment of one or two maps: a radix search over order-preserving keys, eight bits a
// pass. Exact for any data, always the same launches.
#pragma once

#include "pixels.h"

namespace dadkit {
namespace device {

// One radix pass: how many of a segment's values that begin with what is known have each next byte; then which byte the median has.
//   images x slices, once a byte of the key · 34 KiB · reads both maps once · 2.4 M
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
    shared.rule.load(c, b, block);
    for (int first = 0; first < c.seg.contexts; first += kChunk) {
      const int here = chunk_at(first);
      uint32_t* global = histogram_of(b, first);
      for_each(block, here * kSides * kBins, [&](int k) { shared.bins[k] = 0; });
      for_each(block, here * kSides, [&](int k) { shared.prefix[k] = static_cast<Key<T>>(c.at(b, first + k / kSides).prefix[k % kSides]); });
      block.threads([&](int t) { count(block, shared, t, first, here); });
      for_each(block, here * kSides * kBins, [&](int k) {
        if (shared.bins[k]) atomic_add(global + k, shared.bins[k]);
      });
    }
    if (!block.last(&m.ticket[kFirstPassTicket + pass])) return;
    for (int first = 0; first < c.seg.contexts; first += kChunk) {
      const int here = chunk_at(first);
      uint32_t* global = histogram_of(b, first);
      for_each(block, here * kSides * kBins, [&](int k) {
        shared.bins[k] = global[k];
        global[k] = 0;  // for the next pass
      });
      for_each(block, here * kSides * kParts, [&](int k) {
        uint32_t sum = 0;
        for (int j = 0; j < kBins / kParts; ++j) sum += shared.bins[k * (kBins / kParts) + j];
        shared.parts[k] = sum;
      });
      for_each(block, here, [&](int k) { pick(b, first + k, shared.bins + k * kSides * kBins, shared.parts + k * kSides * kParts); });
    }
  }

 private:
  DADKIT_DEVICE int chunk_at(int first) const { return c.seg.contexts - first < kChunk ? c.seg.contexts - first : kChunk; }
  DADKIT_DEVICE uint32_t* histogram_of(int64_t b, int first) const { return c.histogram + (b * c.seg.contexts + first) * kSides * kBins; }
  DADKIT_DEVICE int shift() const { return 8 * (kPasses - 1 - pass); }

  template <typename Block>
  DADKIT_DEVICE void count(const Block& block, Shared& shared, int t, int first, int here) const {
    const Key<T> known = pass == 0 ? Key<T>(0) : static_cast<Key<T>>(~Key<T>(0) << (shift() + 8));
    for_pixels<false>(c, block, t, true, [&](int64_t i, bool on, T d, T p) {
      const int leaf = on ? shared.rule.leaf(c, i, d) : -1;
      if (leaf < 0) return;
      const Key<T> key[kSides] = {key_of(d), key_of(p)};
      for (int l = 0; l < c.seg.levels; ++l) {
        const int u = c.context_of(l, leaf) - first;
        if (u < 0 || u >= here) continue;
        for (int s = 0; s < kSides; ++s) {
          if (!c.sides[s] || ((key[s] ^ shared.prefix[u * kSides + s]) & known) != 0) continue;
          warp_aggregated_increment(shared.bins, static_cast<uint32_t>((u * kSides + s) * kBins) + static_cast<uint32_t>(key[s] >> shift() & 255));
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

}  // namespace device
}  // namespace dadkit
