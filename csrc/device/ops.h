// The operators over the device kernels, for any launcher: tensors in, tensors out. No step waits for the device.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include "../common/arguments.h"
#include "tables.h"

namespace dadkit {
namespace device {

using LossOutputs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename T>
Call<T> call_of(const Tensor& pred, const Tensor& target, const Maybe& mask, const Options& o, const Tensor& state) {
  Call<T> c{};
  c.pred = data<T>(pred);
  c.target = data<T>(target);
  c.mask = mask_data(mask, pred);
  c.images = pred.size(0);
  c.height = pred.size(1);
  c.width = pred.size(2);
  c.n = c.height * c.width;
  c.options = o;
  c.seg.build(o, o.variant == kHdn && o.partition == kRange);  // the doubled leaves may stay empty
  uint8_t* at = out<uint8_t>(state);
  c.image = reinterpret_cast<Image*>(at);
  at += sizeof(Image) * static_cast<size_t>(c.images);
  c.context = reinterpret_cast<Context*>(at);
  at += sizeof(Context) * static_cast<size_t>(c.images * c.seg.contexts);
  c.histogram = reinterpret_cast<uint32_t*>(at);
  return c;
}

// Zeroed memory for the state of all images; histograms only where order statistics are searched.
inline Tensor state_of(const Tensor& like, const Options& o, bool histograms) {
  const int64_t contexts = record::contexts(o);
  const int64_t context = static_cast<int64_t>(sizeof(Context)) + (histograms ? 2 * kBins * 4 : 0);
  Tensor state = torch::stable::new_empty(like, Ints{like.size(0) * (static_cast<int64_t>(sizeof(Image)) + contexts * context)}, ScalarType::Byte);
  return torch::stable::zero_(state);
}

template <typename Launcher>
LossOutputs hybrid_forward(Tensor pred, Tensor target, Maybe mask, Maybe edges, Maybe count, Maybe median, Maybe mad, Maybe global_mad, Maybe flat,
                           Ints segments, int64_t partition, int64_t variant, int64_t min_pixels, double mad_floor, bool want_map) {
  check_map(pred, "pred", 3);
  check_like(target, pred, "target");
  check_same_type(target, pred, "target");
  const Options o = options_of(segments, partition, variant, min_pixels, mad_floor, false);
  const int64_t images = pred.size(0);
  const GivenTensors given{edges, count, median, mad, global_mad, flat};
  given.check(images, o, pred);
  const Launcher launch(pred);
  const Outputs y(target, {images}, o, want_map);
  if (images == 0) return y.all();
  const Tensor state = state_of(pred, o, true);
  by_type(pred, [&](auto zero) {
    using T = decltype(zero);
    Call<T> c = call_of<T>(pred, target, mask, o, state);
    c.edges = edges && o.partition != kGrid ? data<T>(*edges) : nullptr;
    c.map = want_map ? out<T>(y.map) : nullptr;
    c.counted = want_map ? out<uint8_t>(y.counted) : nullptr;
    Known<T> known;
    if (median) known = {data<int64_t>(*count), data<T>(*median), data<T>(*mad), data<T>(*global_mad), data<uint8_t>(*flat)};
    forward(launch, c, known, std::numeric_limits<T>::epsilon(), out<T>(y.total), out<T>(y.number), out<double>(y.stats));
  });
  launch.check();
  return y.all();
}

template <typename Launcher>
Tensor hybrid_backward(Tensor grad, Tensor pred, Tensor target, Maybe mask, Tensor stats, Ints segments, int64_t partition, int64_t variant,
                       double mad_floor, bool detach_median) {
  check_map(pred, "pred", 3);
  check_like(target, pred, "target");
  check_same_type(target, pred, "target");
  check_same_type(grad, pred, "grad");
  const Options o = options_of(segments, partition, variant, 0, mad_floor, detach_median);
  const int64_t images = pred.size(0);
  const bool per_pixel = grad.dim() == 3;
  STD_TORCH_CHECK(grad.is_contiguous() && grad.numel() == (per_pixel ? pred.numel() : images), "grad must be (B,) or (B, H, W)");
  STD_TORCH_CHECK(stats.numel() == images * record::width(o) && stats.is_contiguous(), "stats do not belong to these options");
  const Launcher launch(pred);
  Tensor result = torch::stable::new_empty(pred, Ints(pred.sizes().begin(), pred.sizes().end()));
  if (images == 0) return result;
  const Tensor state = state_of(pred, o, false);
  by_type(pred, [&](auto zero) {
    using T = decltype(zero);
    Call<T> c = call_of<T>(pred, target, mask, o, state);
    c.weight = per_pixel ? data<T>(grad) : nullptr;
    c.given_total = per_pixel ? nullptr : data<T>(grad);
    c.gradient = out<T>(result);
    backward(launch, c, data<double>(stats));
  });
  launch.check();
  return result;
}

}  // namespace device
}  // namespace dadkit
