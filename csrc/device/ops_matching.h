// The operators of the gradient matching loss.
#pragma once

#include <tuple>

#include "call.h"
#include "matching_gradient.h"

namespace dadkit {
namespace device {

template <typename Launcher>
LossOutputs gradient_matching_forward(Tensor pred, Tensor target, Maybe mask, int64_t scales, bool normalize, bool want_map) {
  check_pair(pred, target);
  check_scales(scales);
  const Shape shape = shape_of(pred);
  const uint8_t* valid = mask_data(mask, pred);
  const Launcher launch(pred);
  const MatchingOutputs y(pred, scales, want_map);
  if (shape.images == 0) return y.all();
  const int64_t width = matching_record::width(scales);
  const int levels = static_cast<int>(scales);
  by_type(pred, [&](auto zero) {
    using T = decltype(zero);
    Call<T> c = call_of<T>(data<T>(pred), data<T>(target), valid, shape, whole_map(), Launcher::slice);
    const Memory memory = allocate(launch, &c, pred, true, 3 * levels);
    if (normalize) {
      launch_statistics(launch, &c, static_cast<const T*>(nullptr), Known<T>{});
    } else {
      launch_range(launch, c, static_cast<const T*>(nullptr));
    }
    double* stats = out<double>(y.stats);
    launch.blocks(MatchingHead<T>{c, normalize, stats, width}, c.images, 1);
    launch.blocks(MatchingSums<T>{c, stats, width, levels, normalize, nullptr, stats, out<T>(y.total), out<T>(y.number)}, c.images, c.slices);
    if (want_map) launch.blocks(MatchingMap<T>{c, stats, width, levels, out<T>(y.map), out<uint8_t>(y.counted)}, c.images, c.slices);
  });
  return y.all();
}

template <typename Launcher>
Tensor gradient_matching_backward(Tensor grad, Tensor pred, Tensor target, Maybe mask, Tensor stats, int64_t scales, bool normalize) {
  check_pair(pred, target);
  check_same_type(grad, pred, "grad");
  check_scales(scales);
  const Shape shape = shape_of(pred);
  const bool per_pixel = grad.dim() == 3;
  const int64_t width = matching_record::width(scales);
  STD_TORCH_CHECK(grad.is_contiguous() && grad.numel() == (per_pixel ? pred.numel() : shape.images * scales), "grad must be (B, S) or (B, H, W)");
  check_stats(stats, pred, shape.images, width);
  const uint8_t* valid = mask_data(mask, pred);
  const Launcher launch(pred);
  Tensor result = torch::stable::empty_like(pred);
  if (result.numel() == 0) return result;
  const int levels = static_cast<int>(scales);
  by_type(pred, [&](auto zero) {
    using T = decltype(zero);
    Call<T> c = call_of<T>(data<T>(pred), data<T>(target), valid, shape, whole_map(), Launcher::slice);
    const Memory memory = allocate(launch, &c, pred, false, 3 * levels);
    const T *weight = per_pixel ? data<T>(grad) : nullptr, *upstream = per_pixel ? nullptr : data<T>(grad);
    const double* r = data<double>(stats);
    if (weight) {
      launch.blocks(MatchingSums<T>{c, r, width, levels, normalize, weight, nullptr, nullptr, nullptr}, c.images, c.slices);
    } else {
      launch.blocks(MatchingPrepare<T>{c, r, width, levels, normalize, upstream}, c.images, 1);
    }
    launch.blocks(MatchingGradient<T>{c, r, width, levels, upstream, weight, out<T>(result)}, c.images, c.slices);
  });
  return result;
}
}  // namespace device
}  // namespace dadkit
