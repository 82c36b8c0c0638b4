// What a device kernel is made of, in a form that runs on a GPU and on the CPU alike.
//
// A kernel is a function object with a type `Shared` and `run(block, shared)`. It is written as a sequence of steps
// `block.threads([&](int t) { … })`, each for all threads of a block and with a barrier behind it; nothing but `shared` and global memory
// lives from one step to the next. csrc/cuda/ops.cu runs the steps in parallel, csrc/device/emulated.cpp one thread after the other: the
// same code, so that tests of the emulation cover it.
//
// A kernel's members are its arguments. Its head comment says its grid, as images x blocks of an image (in `block.image` and `block.slice`),
// its shared memory in float32, how often it passes over memory, and the millions of warp instructions that scripts/ptx counts for one map
// of 560 x 560 with levels 1, 2, 4 by range; of the general kernels, which serve all other calls, by a grid.
//
// Nothing depends on the order of threads or blocks. Counts are integer atomics; sums are kept per thread, added in a fixed order per block
// and then over the blocks by the last one to finish. So results repeat to the bit without float atomics.
#pragma once

#include <cstdint>
#include <cstring>

#include "../common/rules.h"

#if defined(__CUDACC__)
#define DADKIT_DEVICE __device__ __forceinline__
#define DADKIT_UNROLL _Pragma("unroll")
#else
#define DADKIT_DEVICE inline
#define DADKIT_UNROLL
#endif

namespace dadkit::device {

constexpr int kThreads = 128;  // of a block, at most; a power of two
constexpr int kGroup = 4;      // neighbouring pixels of one thread

// What a GPU's launcher cuts the work into. A function of nothing, so that results are one on every GPU.
struct Geometry {
  // pixels of a block: 4,096, or fewer for small batches, so that 264 blocks fill twice the multiprocessors of a large GPU
  static int64_t slice(int64_t pixels) {
    int64_t size = 4096;
    while (size > 1024 && pixels < 264 * size) size /= 2;
    return size;
  }
  static constexpr int kTileWidth = 32, kTileHeight = kThreads / kTileWidth;
};

// ------------------------------------------------------------------------------------------------ steps
// One step over `count` items, shared among the threads.
template <typename Block, typename Index, typename F>
DADKIT_DEVICE void for_each(const Block& block, Index count, const F& f) {
  block.threads([&](int t) {
    for (Index k = static_cast<Index>(t); k < count; k += block.size()) f(k);
  });
}

// One step of a single thread.
template <typename Block, typename F>
DADKIT_DEVICE void single_thread(const Block& block, const F& f) {
  block.threads([&](int t) {
    if (t == 0) f();
  });
}

// ------------------------------------------------------------------------------------------------ atomics on integers
// Returns what was there.
DADKIT_DEVICE uint32_t atomic_add(uint32_t* at, uint32_t value) {
#if defined(__CUDA_ARCH__)
  return atomicAdd(at, value);
#else
  const uint32_t old = *at;
  *at += value;
  return old;
#endif
}

DADKIT_DEVICE void atomic_add(int64_t* at, int64_t value) {
#if defined(__CUDA_ARCH__)
  atomicAdd(reinterpret_cast<unsigned long long*>(at), static_cast<unsigned long long>(value));
#else
  *at += value;
#endif
}

DADKIT_DEVICE void atomic_max(uint64_t* at, uint64_t value) {
#if defined(__CUDA_ARCH__)
  atomicMax(reinterpret_cast<unsigned long long*>(at), static_cast<unsigned long long>(value));
#else
  if (value > *at) *at = value;
#endif
}

// One more in a bin. Neighbouring pixels are mostly alike, and then a warp would queue at one address: it adds once for all its lanes.
// All calls of one place in a kernel name bins by their index from one base: lanes compare the indices.
DADKIT_DEVICE void warp_aggregated_increment(uint32_t* bins, uint32_t index) {
#if defined(__CUDA_ARCH__)
  const unsigned active = __activemask();
  int same = 0;
  __match_all_sync(active, index, &same);
  if (!same) {
    atomicAdd(bins + index, 1u);
  } else if ((threadIdx.x & 31) == static_cast<unsigned>(__ffs(static_cast<int>(active)) - 1)) {
    atomicAdd(bins + index, static_cast<uint32_t>(__popc(active)));
  }
#else
  ++bins[index];
#endif
}

// ------------------------------------------------------------------------------------------------ order-preserving keys
template <typename T>
struct KeyOf;
template <>
struct KeyOf<float> {
  using type = uint32_t;
};
template <>
struct KeyOf<double> {
  using type = uint64_t;
};
template <typename T>
using Key = typename KeyOf<T>::type;
template <typename T>
constexpr int kKeyBits = 8 * static_cast<int>(sizeof(T));

template <typename T>
DADKIT_DEVICE Key<T> key_of(T x) {
  constexpr Key<T> kSign = static_cast<Key<T>>(1) << (8 * sizeof(T) - 1);
  x += T(0);  // -0 and 0 are one value
  Key<T> bits;
  memcpy(&bits, &x, sizeof(T));
  return bits & kSign ? static_cast<Key<T>>(~bits) : bits | kSign;
}

template <typename T>
DADKIT_DEVICE T value_of(Key<T> key) {
  constexpr Key<T> kSign = static_cast<Key<T>>(1) << (8 * sizeof(T) - 1);
  const Key<T> bits = key & kSign ? key ^ kSign : static_cast<Key<T>>(~key);
  T x;
  memcpy(&x, &bits, sizeof(T));
  return x;
}

template <typename T>
DADKIT_DEVICE bool is_finite(T x) {
  return x - x == 0;
}

template <typename T>
DADKIT_DEVICE T magnitude(T x) {
  return x < 0 ? -x : x;
}

// ------------------------------------------------------------------------------------------------ sums within a block
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

}  // namespace dadkit::device
