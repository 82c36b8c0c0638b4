// The device kernels of the hybrid loss. Each is a function object; csrc/cuda launches it on a GPU, and csrc/device/emulated.cpp runs the
// same code thread after thread on the CPU, where the tests compare it with the reference.
//
// Nothing depends on the order of threads: counts are integer atomics, and sums are fixed-point 64-bit integers, so results are
// repeatable to the bit without float atomics. Order statistics are exact: a radix search over order-preserving keys, 8 bits a pass.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "../common/rules.h"
#include "../common/segmentation.h"

#if defined(__CUDACC__)
#define DADKIT_DEVICE __device__ __forceinline__
#else
#define DADKIT_DEVICE inline
#endif

namespace dadkit {
namespace device {

constexpr int kBins = 256;

template <typename I>
DADKIT_DEVICE void add(I* at, I value) {
#if defined(__CUDA_ARCH__)
  if (sizeof(I) == 8) {
    atomicAdd(reinterpret_cast<unsigned long long*>(at), static_cast<unsigned long long>(value));
  } else {
    atomicAdd(reinterpret_cast<unsigned int*>(at), static_cast<unsigned int>(value));
  }
#else
  *at += value;
#endif
}

DADKIT_DEVICE void raise_to(uint64_t* at, uint64_t value) {
#if defined(__CUDA_ARCH__)
  atomicMax(reinterpret_cast<unsigned long long*>(at), static_cast<unsigned long long>(value));
#else
  if (value > *at) *at = value;
#endif
}

// Order-preserving 64-bit keys; a float's key fills the upper half, so one search serves both types.
DADKIT_DEVICE uint64_t key_of(float x) {
  x += 0.0f;  // -0 and 0 are one value
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return static_cast<uint64_t>(bits >> 31 ? ~bits : bits | 0x80000000u) << 32;
}
DADKIT_DEVICE uint64_t key_of(double x) {
  x += 0.0;
  uint64_t bits;
  memcpy(&bits, &x, 8);
  return bits >> 63 ? ~bits : bits | 0x8000000000000000ull;
}
DADKIT_DEVICE void value_of(uint64_t key, float* x) {
  const uint32_t high = static_cast<uint32_t>(key >> 32), bits = high >> 31 ? high & 0x7fffffffu : ~high;
  memcpy(x, &bits, 4);
}
DADKIT_DEVICE void value_of(uint64_t key, double* x) {
  const uint64_t bits = key >> 63 ? key & 0x7fffffffffffffffull : ~key;
  memcpy(x, &bits, 8);
}
template <typename T>
DADKIT_DEVICE T value_at(uint64_t key) {
  T x;
  value_of(key, &x);
  return x;
}

// ------------------------------------------------------------------------------------------------ one image's state, in device memory
struct Context {
  uint64_t prefix[2];  // key of the median found so far: target, prediction
  int64_t rank[2];     // what is left of its rank
  int64_t count;
  int64_t deviation[2];  // sum |x - m| in units of Image::unit
  int64_t under, equal;  // of the prediction's median
  int64_t upstream[2];   // sum of w sign, sum of w sign z, in units of 1 / 2^kSignBits and Image::z_unit
  double median[2], mad[2], scale[2];
  double sign_sum;
  double mad_slope, tie_slope;
  int32_t kept, floored;
};

struct Image {
  uint64_t top[2], bottom[2];  // keys of the largest value and, inverted, of the smallest: target, prediction
  int64_t valid;
  int64_t bad;      // pixels that are not finite
  int64_t number;   // pixels that take part
  int64_t loss;     // sum of the pixels' losses in units of loss_unit
  double unit[2], loss_unit, z_unit;
  double edges[9];
  double largest[2];
  double global_mad[2];
  uint64_t heaviest;  // key of the largest |weight|
  int32_t flat[2];
  int32_t status;  // 0 fine, 1 no valid pixel, 2 poisoned
};

constexpr double kSumBits = 1.0 / 4611686018427387904.0;  // 2^-62

// What all kernels of one call share.
template <typename T>
struct Call {
  const T *pred, *target;
  const uint8_t* mask;
  const T* edges;  // given borders or nullptr
  int64_t images, n, height, width;
  Options options;
  Segmentation seg;
  Image* image;
  Context* context;      // images x seg.contexts
  uint32_t* histogram;   // images x seg.contexts x 2 x kBins
  T* map;
  uint8_t* counted;
  const T* given_total;  // backward: upstream of the totals, or
  const T* weight;       // of every pixel
  T* gradient;

  DADKIT_DEVICE bool valid(int64_t b, int64_t i) const { return !mask || mask[b * n + i]; }
  DADKIT_DEVICE Context& at(int64_t b, int u) const { return context[b * seg.contexts + u]; }

  // the leaf of a valid pixel, or -1
  DADKIT_DEVICE int leaf(int64_t b, int64_t i) const {
    const int finest = options.finest();
    if (options.partition == kGrid) return grid_cell(i / width, height, finest) * finest + grid_cell(i % width, width, finest);
    const double* e = image[b].edges;
    const T d = target[b * n + i];
    const bool hdn = options.variant == kHdn;
    const T margin = hdn && options.partition == kRange ? static_cast<T>(kHdnTopMargin) : T(0);
    const T e0 = static_cast<T>(e[0]);
    if (hdn && options.partition == kRange && e[0] == e[finest] && e0 + margin > e0) return 0;
    const bool at_edge = hdn || options.partition == kRange;
    int k = 0;
    for (int j = 1; j < finest; ++j) {
      const T edge = static_cast<T>(e[j]);
      k += at_edge ? d >= edge : d > edge;
    }
    if (!hdn) return k;
    if (!(d >= e0) || !(d < static_cast<T>(e[k + 1]) + margin)) return -1;
    if (margin > 0 && k > 0 && d < static_cast<T>(e[k]) + margin) return finest + k - 1;
    return k;
  }
};

DADKIT_DEVICE int64_t fixed(double x, double unit) {
#if defined(__CUDA_ARCH__)
  return __double2ll_rn(x / unit);
#else
  return static_cast<int64_t>(std::nearbyint(x / unit));
#endif
}

// ------------------------------------------------------------------------------------------------ kernels over pixels
// A thread's pixels are i = first, first + stride, …

template <typename T>
struct Range {
  Call<T> c;
  DADKIT_DEVICE void pixels(int64_t b, int64_t first, int64_t stride) const {
    uint64_t top[2] = {0, 0}, bottom[2] = {0, 0};
    int64_t valid = 0, bad = 0;
    for (int64_t i = first; i < c.n; i += stride) {
      if (!c.valid(b, i)) continue;
      ++valid;
      const T x[2] = {c.target[b * c.n + i], c.pred[b * c.n + i]};
      for (int s = 0; s < 2; ++s) {
        const uint64_t key = key_of(x[s]);
        const bool finite = x[s] - x[s] == 0;
        bad += !finite;
        if (!finite) continue;
        top[s] = key > top[s] ? key : top[s];
        bottom[s] = ~key > bottom[s] ? ~key : bottom[s];
      }
    }
    if (valid == 0) return;
    Image& m = c.image[b];
    add(&m.valid, valid);
    if (bad) add(&m.bad, bad);
    for (int s = 0; s < 2; ++s) {
      raise_to(&m.top[s], top[s]);
      raise_to(&m.bottom[s], bottom[s]);
    }
  }
};

template <typename T>
struct Count {
  Call<T> c;
  DADKIT_DEVICE void pixels(int64_t b, int64_t first, int64_t stride) const {
    if (c.image[b].status != 0) return;
    for (int64_t i = first; i < c.n; i += stride) {
      if (!c.valid(b, i)) continue;
      const int leaf = c.leaf(b, i);
      if (leaf < 0) continue;
      for (int l = 0; l < c.seg.levels; ++l)
        if (c.seg.context[l][leaf] != kNoContext) add(&c.at(b, c.seg.context[l][leaf]).count, int64_t{1});
    }
  }
};

// One radix pass: how many of a segment's pixels that share the prefix have each next byte.
template <typename T>
struct Histogram {
  Call<T> c;
  int shift;
  DADKIT_DEVICE void pixels(int64_t b, int64_t first, int64_t stride) const {
    if (c.image[b].status != 0) return;
    const uint64_t known = shift == 56 ? 0 : ~uint64_t{0} << (shift + 8);
    for (int64_t i = first; i < c.n; i += stride) {
      if (!c.valid(b, i)) continue;
      const int leaf = c.leaf(b, i);
      if (leaf < 0) continue;
      const uint64_t key[2] = {key_of(c.target[b * c.n + i]), key_of(c.pred[b * c.n + i])};
      for (int l = 0; l < c.seg.levels; ++l) {
        const int u = c.seg.context[l][leaf];
        if (u == kNoContext) continue;
        const Context& x = c.at(b, u);
        for (int s = 0; s < 2; ++s) {
          if ((key[s] & known) != x.prefix[s]) continue;
          add(&c.histogram[((b * c.seg.contexts + u) * 2 + s) * kBins + (key[s] >> shift & 255)], uint32_t{1});
        }
      }
    }
  }
};

template <typename T>
struct Deviation {
  Call<T> c;
  DADKIT_DEVICE void pixels(int64_t b, int64_t first, int64_t stride) const {
    const Image& m = c.image[b];
    if (m.status != 0) return;
    for (int64_t i = first; i < c.n; i += stride) {
      if (!c.valid(b, i)) continue;
      const int leaf = c.leaf(b, i);
      if (leaf < 0) continue;
      const double x[2] = {static_cast<double>(c.target[b * c.n + i]), static_cast<double>(c.pred[b * c.n + i])};
      for (int l = 0; l < c.seg.levels; ++l) {
        const int u = c.seg.context[l][leaf];
        if (u == kNoContext) continue;
        Context& k = c.at(b, u);
        for (int s = 0; s < 2; ++s) {
          const double off = x[s] - k.median[s];
          add(&k.deviation[s], fixed(off < 0 ? -off : off, m.unit[s]));
        }
        if (x[1] < k.median[1]) add(&k.under, int64_t{1});
        if (x[1] == k.median[1]) add(&k.equal, int64_t{1});
      }
    }
  }
};

// N(p), N(d) of a pixel on a level; false where the level does not count there.
template <typename T>
DADKIT_DEVICE bool normalised(const Call<T>& c, int64_t b, int64_t i, int l, int leaf, T* z, T* e) {
  if (l >= c.seg.loss_levels || c.seg.context[l][leaf] == kNoContext) return false;
  const Context& k = c.at(b, c.seg.context[l][leaf]);
  if (!k.kept) return false;
  const T inverse = c.image[b].flat[1] ? T(0) : static_cast<T>(1 / k.scale[1]);
  *z = (c.pred[b * c.n + i] - static_cast<T>(k.median[1])) * inverse;
  *e = *z - (c.target[b * c.n + i] - static_cast<T>(k.median[0])) * static_cast<T>(1 / k.scale[0]);
  return true;
}

template <typename T>
DADKIT_DEVICE int kept_levels(const Call<T>& c, int64_t b, int leaf) {
  int kept = 0;
  for (int l = 0; l < c.seg.loss_levels; ++l)
    kept += c.seg.context[l][leaf] != kNoContext && c.at(b, c.seg.context[l][leaf]).kept;
  return kept;
}

template <typename T>
struct Loss {
  Call<T> c;
  bool backward;  // the sums of the weighted signs only
  DADKIT_DEVICE void pixels(int64_t b, int64_t first, int64_t stride) const {
    Image& m = c.image[b];
    int64_t total = 0, number = 0;
    for (int64_t i = first; i < c.n; i += stride) {
      const bool valid = c.valid(b, i);
      const int leaf = valid && m.status == 0 ? c.leaf(b, i) : -1;
      const int kept = leaf < 0 ? 0 : kept_levels(c, b, leaf);
      const bool takes_part = valid && m.status != 1 && (kept > 0 || c.options.variant == kHdn || m.status == 2);
      number += takes_part;
      double here = 0;
      for (int l = 0; kept > 0 && l < c.seg.loss_levels; ++l) {
        T z, e;
        if (!normalised(c, b, i, l, leaf, &z, &e)) continue;
        here += static_cast<double>(e < 0 ? -e : e) / kept;
        if (!backward || e == 0) continue;
        const double w = (c.weight ? static_cast<double>(c.weight[b * c.n + i]) : 1.0) / kept;
        Context& k = c.at(b, c.seg.context[l][leaf]);
        add(&k.upstream[0], fixed(e < 0 ? -w : w, m.loss_unit));
        add(&k.upstream[1], fixed((e < 0 ? -w : w) * static_cast<double>(z), m.z_unit));
      }
      if (backward) continue;
      total += fixed(here, m.loss_unit);
      if (c.map) {
        c.map[b * c.n + i] = takes_part ? (m.status == 2 ? static_cast<T>(NAN) : static_cast<T>(here)) : T(0);
        c.counted[b * c.n + i] = takes_part;
      }
    }
    if (backward) return;
    if (total) add(&m.loss, total);
    if (number) add(&m.number, number);
  }
};

template <typename T>
struct Heaviest {
  Call<T> c;
  DADKIT_DEVICE void pixels(int64_t b, int64_t first, int64_t stride) const {
    uint64_t top = 0;
    for (int64_t i = first; i < c.n; i += stride) {
      const T w = c.weight[b * c.n + i];
      const uint64_t key = key_of(w < 0 ? -w : w);
      top = key > top ? key : top;
    }
    raise_to(&c.image[b].heaviest, top);
  }
};

template <typename T>
struct Gradient {
  Call<T> c;
  DADKIT_DEVICE void pixels(int64_t b, int64_t first, int64_t stride) const {
    const Image& m = c.image[b];
    for (int64_t i = first; i < c.n; i += stride) {
      T g = 0;
      if (c.valid(b, i)) {
        if (m.status == 2) {
          g = static_cast<T>(NAN);
        } else if (m.status == 0 && !m.flat[1]) {
          g = one(b, i);
        }
      }
      c.gradient[b * c.n + i] = g;
    }
  }
  DADKIT_DEVICE T one(int64_t b, int64_t i) const {
    const int leaf = c.leaf(b, i);
    if (leaf < 0) return T(0);
    const int kept = kept_levels(c, b, leaf);
    const T w = c.weight ? c.weight[b * c.n + i] : c.given_total[b];
    T g = 0;
    for (int l = 0; l < c.seg.levels; ++l) {
      const int u = c.seg.context[l][leaf];
      if (u == kNoContext) continue;
      const Context& k = c.at(b, u);
      T z, e;
      if (normalised(c, b, i, l, leaf, &z, &e) && e != 0) {
        const T side = w * static_cast<T>(1.0 / kept / k.scale[1]);
        g += e > 0 ? side : -side;
      }
      const T off = c.pred[b * c.n + i] - static_cast<T>(k.median[1]), mad = static_cast<T>(k.mad_slope);
      g += off > 0 ? mad : (off < 0 ? -mad : static_cast<T>(k.tie_slope));
    }
    return g;
  }
};

}  // namespace device
}  // namespace dadkit
