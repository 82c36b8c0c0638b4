// Sums in a fixed order: per thread in slots of its own, then over a block's threads, then over an image's blocks by the last to finish.
#pragma once

#include "state.h"

namespace dadkit {
namespace device {

// Private slots of every thread, [slot][thread]: no two threads share one, and a warp's lanes lie in different banks.
template <typename T, int kSlots = 256 / static_cast<int>(sizeof(T))>  // 32 KiB
struct Slots {
  static constexpr int kCount = kSlots;
  T at[kCount][kThreads];
  double part[kThreads];
};

template <typename T, int kSlots, typename Block>
DADKIT_DEVICE void clear_slots(const Block& block, Slots<T, kSlots>* slots, int count) {
  block.threads([&](int t) {
    for (int v = 0; v < count; ++v) slots->at[v][t] = T(0);
  });
}

// put(v, sum of get(v, k, parts) over k < items) for v < count. A value is shared among `parts` threads, so that few values keep all busy.
template <typename Block, typename Get, typename Put>
DADKIT_DEVICE void sum_items(const Block& block, double* part, int count, int items, const Get& get, const Put& put) {
  int parts = 1;
  while (2 * parts * count <= block.size()) parts *= 2;
  block.threads([&](int t) {
    for (int v = t / parts; v < count; v += block.size() / parts) {
      double sum = 0;
      for (int k = t & (parts - 1); k < items; k += parts) sum += get(v, k, parts);
      if (parts == 1) {
        put(v, sum);
      } else {
        part[t] = sum;
      }
    }
  });
  if (parts == 1) return;
  for_each(block, count, [&](int v) {
    double sum = 0;
    for (int k = 0; k < parts; ++k) sum += part[v * parts + k];
    put(v, sum);
  });
}

// out[v] = sum over the threads of slot v
template <typename T, int kSlots, typename Block>
DADKIT_DEVICE void sum_slots(const Block& block, Slots<T, kSlots>* slots, int count, double* out) {
  const int last = block.size() - 1;  // each value begins at another bank
  auto of_slot = [&](int v, int k, int parts) { return static_cast<double>(slots->at[v][(k + v * parts) & last]); };
  sum_items(block, slots->part, count, block.size(), of_slot, [&](int v, double sum) { out[v] = sum; });
}

// The blocks' sums become the image's: c.sums[j] for j < count.
template <typename T, typename Block>
DADKIT_DEVICE void sum_slices(const Call<T>& c, const Block& block, double* part, int count) {
  const double* of = c.partial + block.image * c.slices * c.values;
  sum_items(block, part, count, static_cast<int>(c.slices), [&](int v, int k, int) { return of[static_cast<int64_t>(k) * c.values + v]; },
            [&](int v, double sum) { c.sums[block.image * c.values + v] = sum; });
}

// kValues sums over an image for each of `groups` groups (leaves, scales), of nothing if not `some`. sweep(t, first, here) adds what thread
// t's pixels give the groups first … first + here - 1 to the slots: as many groups at once as there are slots for. Returns whether this is
// the image's last block to finish: there c.sums holds them all.
template <int kValues, typename T, int kSlots, typename Block, typename Sweep>
DADKIT_DEVICE bool sum_image(const Call<T>& c, const Block& block, Slots<T, kSlots>* slots, bool some, int groups, Ticket ticket, const Sweep& sweep) {
  constexpr int kGroups = kSlots / kValues;
  for (int first = 0; some && first < groups; first += kGroups) {
    const int here = groups - first < kGroups ? groups - first : kGroups;
    clear_slots(block, slots, here * kValues);
    block.threads([&](int t) { sweep(t, first, here); });
    sum_slots(block, slots, here * kValues, c.partial + (block.image * c.slices + block.slice) * c.values + first * kValues);
  }
  if (!block.last(&c.image[block.image].ticket[ticket])) return false;
  if (some) sum_slices(c, block, slots->part, groups * kValues);
  return true;
}

}  // namespace device
}  // namespace dadkit
