// What happens once per image between the sweeps: borders, ranks, medians, scales, coefficients. One thread an image: a few hundred steps.
#pragma once

#include "../common/record.h"
#include "kernels.h"

namespace dadkit {
namespace device {

template <typename T>
struct Setup {
  Call<T> c;
  DADKIT_DEVICE void image(int64_t b) const {
    Image& m = c.image[b];
    m.status = m.valid == 0 ? 1 : (m.bad ? 2 : 0);
    for (int s = 0; s < 2; ++s) {
      const double lo = m.valid ? static_cast<double>(value_at<T>(~m.bottom[s])) : 0, hi = m.valid ? static_cast<double>(value_at<T>(m.top[s])) : 0;
      m.largest[s] = fmax(fabs(lo), fabs(hi));
      m.unit[s] = hi > lo ? (hi - lo) * static_cast<double>(c.n) * kSumBits : 1;
    }
    if (c.options.partition == kGrid) return;
    const int finest = c.options.finest();
    const T lo = m.valid ? value_at<T>(~m.bottom[0]) : T(0), hi = m.valid ? value_at<T>(m.top[0]) : T(0);
    for (int k = 0; k <= finest; ++k)
      m.edges[k] = static_cast<double>(c.edges ? c.edges[b * (finest + 1) + k] : border<T>(lo, hi - lo, k, finest));
  }
};

template <typename T>
struct Ranks {
  Call<T> c;
  DADKIT_DEVICE void image(int64_t b) const {
    for (int u = 0; u < c.seg.contexts; ++u) {
      Context& k = c.at(b, u);
      for (int s = 0; s < 2; ++s) k.rank[s] = (k.count - 1) / 2;
    }
  }
};

// Which byte holds the wanted rank; clears the histogram for the next pass.
template <typename T>
struct Pick {
  Call<T> c;
  int shift;
  DADKIT_DEVICE void context(int64_t b, int u) const {
    Context& k = c.at(b, u);
    for (int s = 0; s < 2; ++s) {
      uint32_t* bins = c.histogram + ((b * c.seg.contexts + u) * 2 + s) * kBins;
      int byte = 0;
      while (byte < kBins - 1 && k.rank[s] >= static_cast<int64_t>(bins[byte])) k.rank[s] -= bins[byte++];
      if (k.count > 0) k.prefix[s] |= static_cast<uint64_t>(byte) << shift;
      for (int j = 0; j < kBins; ++j) bins[j] = 0;
    }
  }
};

template <typename T>
struct Medians {
  Call<T> c;
  DADKIT_DEVICE void image(int64_t b) const {
    for (int u = 0; u < c.seg.contexts; ++u) {
      Context& k = c.at(b, u);
      for (int s = 0; s < 2; ++s) k.median[s] = k.count > 0 && c.image[b].status == 0 ? static_cast<double>(value_at<T>(k.prefix[s])) : 0;
    }
  }
};

// Statistics of the target that the caller has already.
template <typename T>
struct Known {
  const int64_t* count = nullptr;
  const T* median = nullptr;
  const T* mad = nullptr;
  const T* global_mad = nullptr;
  const uint8_t* flat = nullptr;
};

template <typename T>
struct Scales {
  Call<T> c;
  Known<T> known;
  T epsilon;
  DADKIT_DEVICE void image(int64_t b) const {
    Image& m = c.image[b];
    const bool hdn = c.options.variant == kHdn;
    const int users = c.options.contexts();
    for (int u = 0; u < c.seg.contexts; ++u) {
      Context& k = c.at(b, u);
      const double n = static_cast<double>(k.count + hdn);
      for (int s = 0; s < 2; ++s) k.mad[s] = n > 0 ? static_cast<double>(k.deviation[s]) * m.unit[s] / n : 0;
      k.mad[0] = static_cast<double>(static_cast<T>(k.mad[0]));
      if (known.median && u < users) {
        k.median[0] = static_cast<double>(known.median[b * users + u]);
        k.mad[0] = static_cast<double>(known.mad[b * users + u]);
      }
    }
    for (int s = 0; s < 2 && !hdn; ++s) {
      m.global_mad[s] = c.at(b, c.seg.whole).mad[s];
      m.flat[s] = is_flat(m.global_mad[s], m.largest[s], epsilon);
    }
    if (known.median && !hdn) {
      m.global_mad[0] = static_cast<double>(known.global_mad[b]);
      m.flat[0] = known.flat[b];
    }
    double bound = 0;
    for (int u = 0; u < c.seg.contexts; ++u) {
      Context& k = c.at(b, u);
      k.kept = u < users && (hdn || is_kept(c.seg.level_of[u], k.count, c.options.min_pixels, k.mad[0], m.global_mad[0], c.options.mad_floor, m.flat[0]));
      for (int s = 0; s < 2; ++s) {
        const Scale scale = hdn ? Scale{k.mad[s] + kHdnEpsilon, false} : scale_of(k.mad[s], m.global_mad[s], c.options.mad_floor);
        k.scale[s] = scale.value;
        k.floored = scale.floored;  // of the prediction, which comes last
      }
      k.sign_sum = static_cast<double>(k.count - k.equal - 2 * k.under);
      if (k.kept && k.count > 0) bound = fmax(bound, m.unit[0] / k.scale[0] + (m.flat[1] ? 0 : m.unit[1] / k.scale[1]));
    }
    m.loss_unit = bound > 0 && bound < 1e300 ? bound : 1;
  }
};

template <typename T>
struct Save {
  Call<T> c;
  T *total, *number;
  double* stats;
  DADKIT_DEVICE void image(int64_t b) const {
    const Image& m = c.image[b];
    total[b] = m.status == 2 ? static_cast<T>(NAN) : static_cast<T>(static_cast<double>(m.loss) * m.loss_unit);
    number[b] = static_cast<T>(m.number);
    double* r = stats + b * record::width(c.options);
    r[record::kStatus] = m.status;
    r[record::kNumber] = static_cast<double>(m.number);
    r[record::kFlatPred] = m.flat[1];
    for (int k = 0; k < 9; ++k) r[record::kEdges + k] = m.edges[k];
    for (int u = 0; u < c.seg.contexts; ++u) {
      const Context& k = c.at(b, u);
      record::at(r, u, record::kCount) = static_cast<double>(k.count);
      record::at(r, u, record::kTargetMedian) = k.median[0];
      record::at(r, u, record::kTargetInverse) = 1 / k.scale[0];
      record::at(r, u, record::kMedian) = k.median[1];
      record::at(r, u, record::kScale) = k.scale[1];
      record::at(r, u, record::kFloored) = k.floored;
      record::at(r, u, record::kKept) = k.kept;
      record::at(r, u, record::kSignSum) = k.sign_sum;
      record::at(r, u, record::kTies) = static_cast<double>(k.equal);
      record::at(r, u, record::kUpstream) = m.unit[1];  // here: the unit of the prediction's deviations
      record::at(r, u, record::kUpstreamZ) = 0;
    }
  }
};

template <typename T>
struct Restore {
  Call<T> c;
  const double* stats;
  DADKIT_DEVICE void image(int64_t b) const {
    Image& m = c.image[b];
    const double* r = stats + b * record::width(c.options);
    m.status = static_cast<int32_t>(r[record::kStatus]);
    m.flat[1] = r[record::kFlatPred] != 0;
    for (int k = 0; k < 9; ++k) m.edges[k] = r[record::kEdges + k];
    double steepest = 0, unit = 0;
    for (int u = 0; u < c.seg.contexts; ++u) {
      Context& k = c.at(b, u);
      k.count = static_cast<int64_t>(record::at(r, u, record::kCount));
      k.median[0] = record::at(r, u, record::kTargetMedian);
      k.scale[0] = 1 / record::at(r, u, record::kTargetInverse);
      k.median[1] = record::at(r, u, record::kMedian);
      k.scale[1] = record::at(r, u, record::kScale);
      k.floored = record::at(r, u, record::kFloored) != 0;
      k.kept = record::at(r, u, record::kKept) != 0;
      k.sign_sum = record::at(r, u, record::kSignSum);
      k.equal = static_cast<int64_t>(record::at(r, u, record::kTies));
      unit = record::at(r, u, record::kUpstream);
      if (k.kept && k.count > 0) steepest = fmax(steepest, unit / k.scale[1]);
    }
    const double heaviest = c.weight ? static_cast<double>(value_at<T>(m.heaviest)) : 1;
    m.loss_unit = heaviest > 0 ? heaviest * static_cast<double>(c.n) * kSumBits : 1;
    m.z_unit = heaviest * steepest > 0 ? heaviest * steepest : 1;
  }
};

template <typename T>
struct Slopes {
  Call<T> c;
  DADKIT_DEVICE void image(int64_t b) const {
    const Image& m = c.image[b];
    const double weight = c.weight ? 1 : static_cast<double>(c.given_total[b]);
    double to_global = 0;
    for (int u = 0; u < c.seg.contexts; ++u) {
      Context& k = c.at(b, u);
      k.mad_slope = k.tie_slope = 0;
      if (!k.kept || k.count == 0) continue;
      const SegmentGradient g = segment_gradient(
          weight * static_cast<double>(k.upstream[0]) * m.loss_unit, weight * static_cast<double>(k.upstream[1]) * m.z_unit, k.scale[1],
          static_cast<double>(k.count + (c.options.variant == kHdn)), k.sign_sum, static_cast<double>(k.equal), k.floored, false,
          c.options.detach_median);
      k.mad_slope = g.mad;
      k.tie_slope = g.tie;
      to_global += g.scale;
    }
    if (c.seg.whole == kNoContext || to_global == 0) return;
    Context& whole = c.at(b, c.seg.whole);
    const double mad = c.options.mad_floor * to_global / static_cast<double>(whole.count);
    whole.mad_slope += mad;
    if (!c.options.detach_median && whole.equal > 0) whole.tie_slope -= mad * whole.sign_sum / static_cast<double>(whole.equal);
  }
};

// ------------------------------------------------------------------------------------------------ the launches, in order
template <typename Launcher, typename T>
void forward(const Launcher& launch, const Call<T>& c, const Known<T>& known, T epsilon, T* total, T* number, double* stats) {
  launch.pixels(Range<T>{c}, c);
  launch.images(Setup<T>{c}, c);
  launch.pixels(Count<T>{c}, c);
  launch.images(Ranks<T>{c}, c);
  for (int shift = 56; shift >= (sizeof(T) == 4 ? 32 : 0); shift -= 8) {
    launch.pixels(Histogram<T>{c, shift}, c);
    launch.contexts(Pick<T>{c, shift}, c);
  }
  launch.images(Medians<T>{c}, c);
  launch.pixels(Deviation<T>{c}, c);
  launch.images(Scales<T>{c, known, epsilon}, c);
  launch.pixels(Loss<T>{c, false}, c);
  launch.images(Save<T>{c, total, number, stats}, c);
}

template <typename Launcher, typename T>
void backward(const Launcher& launch, const Call<T>& c, const double* stats) {
  if (c.weight) launch.pixels(Heaviest<T>{c}, c);
  launch.images(Restore<T>{c, stats}, c);
  launch.pixels(Loss<T>{c, true}, c);
  launch.images(Slopes<T>{c}, c);
  launch.pixels(Gradient<T>{c}, c);
}

}  // namespace device
}  // namespace dadkit
