// What translated PTX calls: memory with its checks, and a GPU's threads, which fibers.cpp or threads.cpp plays.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <type_traits>

namespace ptx {

struct Kernel {
  const char* name;
  void (*run)(const uint8_t* const* parameters, uint8_t* shared, uint32_t* counters);
  int parameter_bytes, shared_bytes, blocks;
  const uint16_t* mix;  // blocks x kind_count: instructions of every basic block
};
extern const Kernel kernels[];
extern const int kernel_count, kind_count;
extern const char* const kinds[];

[[noreturn]] inline void object(const char* what, unsigned long long a = 0, unsigned long long b = 0) {
  std::fprintf(stderr, "ptx: %s (%llu, %llu)\n", what, a, b);
  std::abort();
}

// ------------------------------------------------------------------------------------------------ a thread and its neighbours
enum Exchange { kMatchAll, kShuffleUp, kShuffleDown, kShuffleXor, kShuffleIndex, kBallot, kAny, kAll, kSyncWarp };

uint32_t thread_index();
uint32_t block_index();
uint32_t block_size();
void barrier();
void fence();
uint32_t active_mask();
// All lanes of `mask` meet; low half: the answer, high half: the predicate.
uint64_t warp_exchange(Exchange what, uint32_t mask, uint32_t value, uint32_t by, uint32_t clamp);

// Runs `thread(shared, block, thread)` for a whole grid. Shared memory begins as 0xff everywhere.
using Body = std::function<void(uint8_t* shared, uint32_t block, uint32_t thread)>;
void launch(uint32_t grid, uint32_t block, size_t shared_bytes, const Body& body);

struct Offer {
  uint32_t value, by, clamp;
};
// What lane `lane` gets from what the lanes of `mask` offer.
inline uint64_t exchanged(Exchange what, uint32_t mask, const Offer* of, int lane) {
  auto answer = [](uint32_t low, bool high) { return static_cast<uint64_t>(high) << 32 | low; };
  uint32_t ballot = 0;
  bool same = true;
  for (int l = 0; l < 32; ++l) {
    if (!(mask >> l & 1)) continue;
    ballot |= static_cast<uint32_t>(of[l].value != 0) << l;
    same &= of[l].value == of[lane].value;
  }
  switch (what) {
    case kSyncWarp: return 0;
    case kMatchAll: return answer(same ? mask : 0, same);
    case kBallot: return ballot;
    case kAny: return ballot != 0;
    case kAll: return ballot == mask;
    default: break;
  }
  const int by = static_cast<int>(of[lane].by & 31), clamp = static_cast<int>(of[lane].clamp & 31), segment = static_cast<int>(of[lane].clamp >> 8 & 31);
  const int most = (lane & segment) | (clamp & ~segment), least = lane & segment;
  int from = what == kShuffleUp ? lane - by : (what == kShuffleDown ? lane + by : (what == kShuffleXor ? lane ^ by : least | (by & ~segment)));
  const bool inside = what == kShuffleUp ? from >= most : from <= most;
  if (!inside) from = lane;
  if (!(mask >> from & 1)) object("a shuffle reads a lane outside its mask", static_cast<unsigned>(from), mask);
  return answer(of[from].value, inside);
}

// ------------------------------------------------------------------------------------------------ memory
inline void check_aligned(const uint8_t* at, size_t size) {
  if (reinterpret_cast<uintptr_t>(at) % size) object("a misaligned access of so many bytes", size);
}
template <typename T>
T load(const uint8_t* at) {
  check_aligned(at, sizeof(T));
  T x;
  std::memcpy(&x, at, sizeof(T));
  return x;
}
template <typename T>
void store(uint8_t* at, T x) {
  check_aligned(at, sizeof(T));
  std::memcpy(at, &x, sizeof(T));
}
inline uint8_t* shared_at(uint8_t* shared, uint32_t offset, uint32_t size) {
  if (offset >= size) object("shared memory at an offset beyond its size", offset, size);
  return shared + offset;
}
template <typename T, typename F>
T atomically(T* at, const F& f) {
  check_aligned(reinterpret_cast<const uint8_t*>(at), sizeof(T));
  T old = __atomic_load_n(at, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(at, &old, f(old), true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return old;
}
template <typename T>
T atomic_max(T* at, T value) {
  return atomically(at, [&](T old) { return old > value ? old : value; });
}
template <typename T>
T atomic_min(T* at, T value) {
  return atomically(at, [&](T old) { return old < value ? old : value; });
}
int fence_order();  // of an atomic behind a fence: the fence makes it acquire and release
template <typename T>
T atomic_add(T* at, T value) {
  check_aligned(reinterpret_cast<const uint8_t*>(at), sizeof(T));
  return fence_order() == __ATOMIC_ACQ_REL ? __atomic_fetch_add(at, value, __ATOMIC_ACQ_REL) : __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}

// ------------------------------------------------------------------------------------------------ instructions that C++ lacks
template <typename To, typename From>
To cast_bits(From x) {
  static_assert(sizeof(To) == sizeof(From), "");
  To y;
  std::memcpy(&y, &x, sizeof y);
  return y;
}
inline float as_float(uint32_t x) { return cast_bits<float>(x); }
inline double as_float(uint64_t x) { return cast_bits<double>(x); }
inline uint32_t bits_of(float x) { return cast_bits<uint32_t>(x); }
inline uint64_t bits_of(double x) { return cast_bits<uint64_t>(x); }

inline float f16_to_f32(uint16_t x) { return static_cast<float>(cast_bits<_Float16>(x)); }
inline uint16_t f32_to_f16(float x) { return cast_bits<uint16_t>(static_cast<_Float16>(x)); }
inline float bf16_to_f32(uint16_t x) { return as_float(static_cast<uint32_t>(x) << 16); }
inline uint16_t f32_to_bf16(float x) {  // to the nearest, ties to even
  const uint32_t bits = bits_of(x);
  return static_cast<uint16_t>(x != x ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
template <typename T>
T divided(T a, T b) {  // nvcc may divide ahead of a test for zero: a GPU then answers anything, and so does this
  return b == 0 ? static_cast<T>(-1) : static_cast<T>(a / b);
}
template <typename To, typename From>
To truncated(From x) {  // saturating; NaN is 0
  if (x != x) return 0;
  const double least = static_cast<double>(std::numeric_limits<To>::min()), most = static_cast<double>(std::numeric_limits<To>::max());
  if (static_cast<double>(x) <= least) return std::numeric_limits<To>::min();
  if (static_cast<double>(x) >= most) return std::numeric_limits<To>::max();
  return static_cast<To>(x);
}
inline uint32_t reversed(uint32_t x) {
  uint32_t y = 0;
  for (int k = 0; k < 32; ++k) y |= (x >> k & 1) << (31 - k);
  return y;
}
inline uint32_t permuted(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = static_cast<uint64_t>(b) << 32 | a;
  uint32_t y = 0;
  for (int k = 0; k < 4; ++k) {
    const uint32_t s = selector >> (4 * k);
    uint32_t byte = static_cast<uint32_t>(bytes >> (8 * (s & 7))) & 255;
    if (s & 8) byte = byte & 128 ? 255 : 0;
    y |= byte << (8 * k);
  }
  return y;
}
inline uint32_t inserted(uint32_t a, uint32_t b, uint32_t position, uint32_t length) {
  uint32_t mask = 0;
  for (uint32_t k = 0; k < (length & 255) && (position & 255) + k < 32; ++k) mask |= 1u << ((position & 255) + k);
  return (b & ~mask) | ((a << (position & 31)) & mask);
}
template <typename T>
T extracted(T a, uint32_t position, uint32_t length) {
  static_assert(std::is_unsigned<T>::value, "bfe of signed numbers is not written");
  if ((position & 255) >= 8 * sizeof(T) || (length & 255) == 0) return 0;
  const T shifted = static_cast<T>(a >> (position & 255));
  return (length & 255) >= 8 * sizeof(T) ? shifted : static_cast<T>(shifted & ((T(1) << (length & 255)) - 1));
}

}  // namespace ptx
