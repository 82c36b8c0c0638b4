// Sums in a fixed order: per thread in slots of its own, then over a block's threads, then over an image's blocks by the last to finish.
#pragma once

#include "state.h"

namespace dadkit {
namespace device {

// Private slots of every thread, [slot][thread]: no two threads share one, and a warp's lanes lie in different banks.
template <typename T>
struct Slots {
  static constexpr int kCount = 256 / static_cast<int>(sizeof(T));  // 32 KiB
  T at[kCount][kThreads];
};

template <typename T, typename Block>
DADKIT_DEVICE void clear_slots(const Block& block, Slots<T>* slots, int count) {
  block.threads([&](int t) {
    for (int v = 0; v < count; ++v) slots->at[v][t] = T(0);
  });
}

// out[v] = sum over the threads of slot v
template <typename T, typename Block>
DADKIT_DEVICE void sum_slots(const Block& block, const Slots<T>& slots, int count, double* out) {
  block.threads([&](int t) {
    for (int v = t; v < count; v += block.size()) {
      double sum = 0;
      for (int k = 0; k < block.size(); ++k) sum += static_cast<double>(slots.at[v][(k + t) & (block.size() - 1)]);
      out[v] = sum;
    }
  });
}

// The blocks' sums become the image's: c.sums[j] for j < count.
template <typename T, typename Block>
DADKIT_DEVICE void sum_slices(const Call<T>& c, const Block& block, int count) {
  for_each(block, count, [&](int j) {
    double sum = 0;
    for (int64_t s = 0; s < c.slices; ++s) sum += c.partial[(block.image * c.slices + s) * c.values + j];
    c.sums[block.image * c.values + j] = sum;
  });
}

// kValues sums over an image for each of `groups` groups (leaves, scales), of nothing if not `some`. sweep(t, first, here) adds what thread
// t's pixels give the groups first … first + here - 1 to the slots: as many groups at once as there are slots for. Returns whether this is
// the image's last block to finish: there c.sums holds them all.
template <int kValues, typename T, typename Block, typename Sweep>
DADKIT_DEVICE bool sum_image(const Call<T>& c, const Block& block, Slots<T>* slots, bool some, int groups, Ticket ticket, const Sweep& sweep) {
  constexpr int kGroups = Slots<T>::kCount / kValues;
  for (int first = 0; some && first < groups; first += kGroups) {
    const int here = groups - first < kGroups ? groups - first : kGroups;
    clear_slots(block, slots, here * kValues);
    block.threads([&](int t) { sweep(t, first, here); });
    sum_slots(block, *slots, here * kValues, c.partial + (block.image * c.slices + block.slice) * c.values + first * kValues);
  }
  if (!block.last(&c.image[block.image].ticket[ticket])) return false;
  if (some) sum_slices(c, block, groups * kValues);
  return true;
}

// values[0] becomes the largest over the threads
template <typename U, typename Block>
DADKIT_DEVICE void largest_of(const Block& block, U* values) {
  for (int half = block.size() / 2; half > 0; half /= 2) {
    block.threads([&](int t) {
      if (t < half && values[t + half] > values[t]) values[t] = values[t + half];
    });
  }
}

}  // namespace device
}  // namespace dadkit
