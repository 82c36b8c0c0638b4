// The CPU's backend of the operators, and how one runs over a batch: its type, its threads.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "../common/arguments.h"
#include "isa.h"
#include "target.h"

namespace dadkit {

struct Cpu {
  static constexpr bool kReadsHalf = false;

  static void loss_forward(const LossMaps& maps, const Batch& batch, const GivenTensors& given, const Options& o, const Outputs& y);
  static void loss_backward(const LossMaps& maps, const Batch& batch, const Tensor& grad, bool per_pixel, const Tensor& stats, const Options& o,
                            const Tensor& result);
  static void matching_forward(const LossMaps& maps, const Batch& batch, int64_t scales, bool normalize, const Outputs& y);
  static void matching_backward(const LossMaps& maps, const Batch& batch, const Tensor& grad, bool per_pixel, const Tensor& stats, int64_t scales,
                                bool normalize, const Tensor& result);
  static void hybrid_mean(const LossMaps& maps, const Batch& batch, const GivenTensors& given, const Options& o, const MeanOutputs& y);
  static void matching_mean(const LossMaps& maps, const Batch& batch, int64_t scales, bool normalize, const MeanOutputs& y);
  static void normalize_forward(const Tensor& x, const Tensor& reference, const Batch& batch, const GivenTensors& given, const Options& o, const Tensor& y,
                                const Tensor& stats);
  static void normalize_backward(const Tensor& grad, const Tensor& x, const Tensor& reference, const Batch& batch, const Tensor& stats,
                                 const Options& o, const Tensor& result);
  static void median_forward(const Tensor& x, const Batch& batch, const Tensor& median, const Tensor& mad, const Tensor& stats);
  static void median_backward(const Tensor& grad_median, const Tensor& grad_mad, const Tensor& x, const Batch& batch, const Tensor& stats,
                              const Tensor& result);
  static void statistics(const Tensor& target, const Batch& batch, const GivenTensors& given, const Options& o, const StatisticsOutputs& y);
  static void order(const Tensor& x, const Batch& batch, const Tensor& ranks, const Tensor& result);
};

// The sweeps for this processor.
template <typename T>
const Sweeps<T>* sweeps() {
#if defined(DADKIT_X86_UNITS)
  switch (chosen_isa()) {
    case Isa::kAvx512: return sweeps_avx512(T());
    case Isa::kAvx2: return sweeps_avx2(T());
    default: break;
  }
#endif
  return sweeps_plain(T());
}

// One image's turn: what its thread works with.
template <typename T>
struct Turn {
  using Type = T;
  const Sweeps<T>* sweeps;
  int64_t image;
  Team* team;  // threads that have no image of their own, or nullptr

  // This image's part of a tensor with `size` values per image.
  const T* in(const Tensor& x, int64_t size = 1) const { return data<T>(x) + image * size; }
  T* to(const Tensor& x, int64_t size = 1) const { return out<T>(x) + image * size; }
  template <typename U>
  U* to(const Tensor& x, int64_t size = 1) const {
    return out<U>(x) + image * size;
  }
  const double* record_of(const Tensor& stats, int64_t width) const { return data<double>(stats) + image * width; }

  SegmentedImage<T> segmented(const Options& o, const T* map, const Batch& batch, const Layout& layout) const {
    return SegmentedImage<T>(sweeps, o, map, batch.mask_of(image), batch.height, batch.width, layout, team);
  }
  SegmentedImage<T> segmented(const Options& o, const Tensor& map, const Batch& batch) const {
    return segmented(o, in(map, batch.n), batch, Layout::of_map(batch.n));
  }
};
template <typename AnyTurn>
using TypeOf = typename std::decay_t<AnyTurn>::Type;

// Below this many pixels waking other threads costs more than they save.
constexpr int64_t kWorthStrips = 1 << 18;

// Calls f(turn) for all images of the maps' type.
template <typename F>
void each_image(const Tensor& like, int64_t images, const F& f) {
  if (images == 0) return;
  by_type(like, [&](auto zero) {
    using T = decltype(zero);
    const Sweeps<T>* with = sweeps<T>();
    share_out(images, like.numel() / images >= kWorthStrips, [&](int64_t image, Team* team) { f(Turn<T>{with, image, team}); });
  });
}

// Answers the mean of f(turn) over all images, added in their order; 0 for none.
template <typename F>
void mean_of_images(const Tensor& like, int64_t images, const Tensor& mean, const F& f) {
  by_type(like, [&](auto zero) {
    using T = decltype(zero);
    std::vector<T> of(static_cast<size_t>(images));
    each_image(like, images, [&](const auto& turn) { of[static_cast<size_t>(turn.image)] = static_cast<T>(f(turn)); });
    T sum = 0;
    for (const T x : of) sum += x;
    *out<T>(mean) = images > 1 ? sum / static_cast<T>(images) : sum;
  });
}

template <typename T>
Given<T> given_row(const GivenTensors& t, int64_t i, const Options& o) {
  Given<T> g;
  if (t.edges && o.partition != kGrid) g.edges = data<T>(*t.edges) + i * (o.finest() + 1);
  if (!t.median) return g;
  g.median = data<T>(*t.median) + i * o.contexts();
  g.mad = data<T>(*t.mad) + i * o.contexts();
  g.global_mad = data<T>(*t.global_mad)[i];
  g.flat = data<uint8_t>(*t.flat)[i] != 0;
  return g;
}

}  // namespace dadkit
