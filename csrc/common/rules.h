// The rules of the method that CPU and CUDA must share to the last bit: borders of segments, which segments count, denominators,
// coefficients of the gradient. One value at a time, no memory, so that both compilers can use them.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define DADKIT_BOTH __host__ __device__ inline
#else
#define DADKIT_BOTH inline
#endif

namespace dadkit {

enum Partition { kRange = 0, kQuantile = 1, kGrid = 2 };
enum Variant { kDadkit = 0, kHdn = 1 };

constexpr double kHdnEpsilon = 1e-6;    // added to the deviation
constexpr double kHdnTopMargin = 1e-30;  // added to a segment's upper border

// Border k of `parts` equal parts of [lo, lo + width], with the roundings of `lo + width * k / parts`.
template <typename T>
DADKIT_BOTH T border(T lo, T width, int k, int parts) {
  const T scaled = width * static_cast<T>(k);
  const T part = scaled / static_cast<T>(parts);
  return lo + part;
}

// A map is constant up to rounding.
template <typename T>
DADKIT_BOTH bool is_flat(double mad, double largest, T epsilon) {
  const double scale = largest > 1e-30 ? largest : 1e-30;
  return mad <= 8.0 * static_cast<double>(epsilon) * scale;
}

// Where place j of a patch's axis of `grid` places reads a map's axis of `side` pixels through a box from low to high; a pixel's centre is whole.
template <typename T>
DADKIT_BOTH T tap_position(int64_t j, T low, T high, int64_t grid, int64_t side) {
  const T across = (static_cast<T>(j) + T(0.5)) * (high - low), last = static_cast<T>(side - 1);
  const T position = low + across / static_cast<T>(grid) - T(0.5);
  return position < 0 ? T(0) : (position > last ? last : position);
}

// A map between its pixels, `down` of the way from row top to row bottom and `along` of the way to the next column. A neighbour of weight zero
// is not read: it may be NaN.
template <typename T, typename Row>
DADKIT_BOTH T between(const Row& top, const Row& bottom, T down, T along) {
  const T left = top[0] * (1 - down) + bottom[0] * down;
  return along == 0 ? left : left * (1 - along) + (top[1] * (1 - down) + bottom[1] * down) * along;
}

// Which part of a side a position lies in, where part k begins at floor(k * side / parts): the largest k with k * side < (position + 1) * parts.
DADKIT_BOTH int grid_cell(int64_t position, int64_t side, int parts) { return static_cast<int>(((position + 1) * parts - 1) / side); }

// Whether a segment takes part in the loss. Reads the target only: a flat target segment would blow the student's noise up to 1.
DADKIT_BOTH bool is_kept(int level, int64_t count, int64_t min_pixels, double mad, double global_mad, double mad_floor, bool flat) {
  if (flat) return false;
  return level == 1 || (count >= min_pixels && mad >= mad_floor * global_mad);
}

struct Scale {
  double value;
  bool floored;
};

// The denominator of N in variant dadkit.
DADKIT_BOTH Scale scale_of(double mad, double global_mad, double mad_floor) {
  const double floor = mad_floor * global_mad;
  return mad < floor ? Scale{floor, true} : Scale{mad, false};
}

// Gradient of one segment with upstream sums G = sum of u and H = sum of u N(x), where u is the upstream gradient of N:
//   dL/dx_j = u_j / S - H / (S n) sign(x_j - m) + [x_j = m] / ties (-G / S + H K / (S n)),   K = sum of sign(x - m).
// A floored segment has S = tau s_g: it loses its own deviation's term and passes -H / S on to S.
struct SegmentGradient {
  double mad;    // coefficient of sign(x - m)
  double tie;    // added where x = m
  double scale;  // dL/dS that a floored segment hands to the whole map's deviation
};

DADKIT_BOTH SegmentGradient segment_gradient(double upstream, double upstream_z, double scale, double divisor, double sign_sum, double ties,
                                             bool floored, bool detach_median) {
  SegmentGradient g{0, 0, 0};
  const double to_scale = -upstream_z / scale;  // dL/dS
  double to_median = -upstream / scale;
  if (floored) {
    g.scale = to_scale;
  } else {
    g.mad = to_scale / divisor;
    to_median -= g.mad * sign_sum;
  }
  g.tie = detach_median || ties == 0 ? 0 : to_median / ties;
  return g;
}

}  // namespace dadkit
