// The operators of the hybrid loss, over maps of one size, and of the local-global loss, over patches that read a map: the same launches but
// for the last of backward.
#pragma once

#include <tuple>

#include "call.h"
#include "loss.h"
#include "patch.h"

namespace dadkit {
namespace device {

template <typename T>
Known<T> known_of(const GivenTensors& given) {
  if (!given.median) return {};
  return {data<int64_t>(*given.count), data<T>(*given.median), data<T>(*given.mad), data<T>(*given.global_mad), data<uint8_t>(*given.flat)};
}

struct Maps {
  const Tensor &pred, &target;
  const Tensor* boxes;  // nullptr: pred and target are maps of one size

  void check() const {
    if (!boxes) {
      check_map(target, "target", 3);
      return check_pair(pred, target);
    }
    check_map(pred, "pred", 3);
    check_map(target, "target", 4);
    check_same_type(target, pred, "target");
    check_same_type(*boxes, pred, "boxes");
    STD_TORCH_CHECK(target.size(0) == pred.size(0) && boxes->numel() == pred.size(0) * target.size(1) * 4 && boxes->is_contiguous(),
                    "boxes must be (B, N, 4)");
    STD_TORCH_CHECK(pred.numel() > 0 || target.numel() == 0, "patches cannot read a map without pixels");
  }

  // of what has a loss of its own: the maps, (B), or the patches, (B, N)
  Ints losses() const { return boxes ? Ints{target.size(0), target.size(1)} : Ints{target.size(0)}; }
  int64_t count() const { return target.size(0) * (boxes ? target.size(1) : 1); }

  template <typename T>
  Call<T> call(const Maybe& mask, const Options& o, int64_t (*slice)(int64_t)) const {
    const int64_t height = target.size(target.dim() - 2), width = target.size(target.dim() - 1);
    Call<T> c = call_of<T>(data<T>(pred), data<T>(target), mask_data(mask, target), Shape{count(), height, width}, o, slice);
    if (!boxes) return c;
    c.boxes = data<T>(*boxes);
    c.through_boxes = true;
    c.patches = target.size(1);
    c.map_height = pred.size(1);
    c.map_width = pred.size(2);
    return c;
  }
};

template <typename Launcher>
LossOutputs loss_forward(const Maps& maps, const Maybe& mask, const GivenTensors& given, const Options& o, bool want_map) {
  maps.check();
  given.check(maps.count(), o, maps.pred);
  const Launcher launch(maps.pred);
  const Outputs y(maps.target, maps.losses(), o, want_map);
  if (maps.count() == 0) return y.all();
  by_type(maps.pred, [&](auto zero) {
    using T = decltype(zero);
    Call<T> c = maps.call<T>(mask, o, Launcher::slice);
    c.sides[kTarget] = !given.median;
    const Memory memory = allocate(launch, &c, maps.pred, true);
    launch_statistics(launch, &c, borders_of<T>(given.edges, o), known_of<T>(given));
    by_walk(c, [&](auto levels, auto plain) {
      launch.blocks(Loss<T, decltype(levels)::value, decltype(plain)::value>{c, want_map ? out<T>(y.map) : nullptr, out<T>(y.total), out<T>(y.number),
                                                     want_map ? out<uint8_t>(y.counted) : nullptr, out<double>(y.stats)},
                    c.images, c.slices);
    });
  });
  return y.all();
}

template <typename Launcher, typename T>
void launch_gradient(const Launcher& launch, const Call<T>& c, const Maps& maps, const LossUpstream<T>& upstream, T* gradient) {
  if constexpr (sizeof(T) == 4) {
    const bool aligned = reinterpret_cast<uintptr_t>(gradient) % 16 == 0;
    if (is_plain(c) && !upstream.weight && aligned) {
      if (c.seg.levels == 1 && c.seg.leaves == 1) return launch.blocks(PlainGradient<T, 1>{c, gradient}, c.images, c.slices);
      return launch.blocks(PlainGradient<T, 3>{c, gradient}, c.images, c.slices);
    }
  }
  if (!maps.boxes) return launch.blocks(Gradient<T, LossUpstream<T>>{c, upstream, gradient}, c.images, c.slices);
  constexpr int kWide = Launcher::kTileWidth, kHigh = Launcher::kTileHeight;
  const int64_t tiles = ((c.map_width + kWide - 1) / kWide) * ((c.map_height + kHigh - 1) / kHigh);
  launch.blocks(PatchGradient<T>{c, upstream, gradient, kWide, kHigh}, maps.pred.size(0), tiles);
}

// grad: of the totals, or of every pixel's loss
template <typename Launcher>
Tensor loss_backward(const Maps& maps, const Tensor& grad, const Maybe& mask, const Tensor& stats, const Options& o) {
  maps.check();
  check_same_type(grad, maps.pred, "grad");
  const bool per_pixel = grad.dim() == maps.target.dim();
  STD_TORCH_CHECK(grad.is_contiguous() && grad.numel() == (per_pixel ? maps.target.numel() : maps.count()),
                  maps.boxes ? "grad must be (B, N) or (B, N, h, w)" : "grad must be (B,) or (B, H, W)");
  check_stats(stats, maps.pred, maps.count(), record::width(o));
  const Launcher launch(maps.pred);
  Tensor result = torch::stable::empty_like(maps.pred);
  if (result.numel() == 0) return result;
  if (maps.count() == 0) return torch::stable::zero_(result);
  by_type(maps.pred, [&](auto zero) {
    using T = decltype(zero);
    Call<T> c = maps.call<T>(mask, o, Launcher::slice);
    const Memory memory = allocate(launch, &c, maps.pred, false);
    const LossUpstream<T> upstream{per_pixel ? data<T>(grad) : nullptr};
    launch_prepare(launch, c, data<double>(stats), per_pixel ? nullptr : data<T>(grad), upstream);
    launch_gradient(launch, c, maps, upstream, out<T>(result));
  });
  return result;
}

// ------------------------------------------------------------------------------------------------ the operators
template <typename Launcher>
LossOutputs hybrid_forward(Tensor pred, Tensor target, Maybe mask, Maybe edges, Maybe count, Maybe median, Maybe mad, Maybe global_mad, Maybe flat,
                           Ints segments, int64_t partition, int64_t variant, int64_t min_pixels, double mad_floor, bool want_map) {
  const Options o = options_of(segments, partition, variant, min_pixels, mad_floor, false);
  return loss_forward<Launcher>({pred, target, nullptr}, mask, {edges, count, median, mad, global_mad, flat}, o, want_map);
}

template <typename Launcher>
Tensor hybrid_backward(Tensor grad, Tensor pred, Tensor target, Maybe mask, Tensor stats, Ints segments, int64_t partition, int64_t variant,
                       double mad_floor, bool detach_median) {
  const Options o = options_of(segments, partition, variant, 0, mad_floor, detach_median);
  return loss_backward<Launcher>({pred, target, nullptr}, grad, mask, stats, o);
}

template <typename Launcher>
LossOutputs local_global_forward(Tensor pred, Tensor target, Tensor boxes, Maybe mask, Maybe edges, Maybe count, Maybe median, Maybe mad,
                                 Maybe global_mad, Maybe flat, Ints segments, int64_t partition, int64_t variant, int64_t min_pixels,
                                 double mad_floor, bool want_map) {
  const Options o = options_of(segments, partition, variant, min_pixels, mad_floor, false);
  return loss_forward<Launcher>({pred, target, &boxes}, mask, {edges, count, median, mad, global_mad, flat}, o, want_map);
}

template <typename Launcher>
Tensor local_global_backward(Tensor grad, Tensor pred, Tensor target, Tensor boxes, Maybe mask, Tensor stats, Ints segments, int64_t partition,
                             int64_t variant, double mad_floor, bool detach_median) {
  const Options o = options_of(segments, partition, variant, 0, mad_floor, detach_median);
  return loss_backward<Launcher>({pred, target, &boxes}, grad, mask, stats, o);
}

}  // namespace device
}  // namespace dadkit
