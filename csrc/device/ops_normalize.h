// The operators of normalised maps.
#pragma once

#include <tuple>

#include "call.h"
#include "normalize.h"

namespace dadkit {
namespace device {

template <typename Launcher>
std::tuple<Tensor, Tensor> normalize_forward(Tensor x, Maybe mask, Tensor reference, Maybe edges, Ints segments, int64_t partition, int64_t variant,
                                             double mad_floor) {
  check_map(x, "x", 3);
  check_like(reference, x, "reference");
  check_same_type(reference, x, "reference");
  const Options o = options_of(segments, partition, variant, 0, mad_floor, false);
  const Shape shape = shape_of(x);
  const Maybe none;
  const GivenTensors given{edges, none, none, none, none, none};
  given.check(shape.images, o, x);
  const uint8_t* valid = mask_data(mask, x);
  const Launcher launch(x);
  Tensor y = torch::stable::new_empty(x, Ints{shape.images, o.n_segments, shape.height, shape.width}),
         stats = torch::stable::new_empty(x, Ints{shape.images, record::width(o)}, ScalarType::Double);
  if (shape.images == 0) return {y, stats};
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    Call<T> c = call_of<T>(data<T>(x), data<T>(reference), valid, shape, o, Launcher::slice);
    c.sides[kTarget] = false;
    c.keep_all = true;
    const Memory memory = allocate(launch, &c, x, true);
    launch_statistics(launch, &c, borders_of<T>(edges, o), Known<T>{});
    launch.blocks(Normalize<T>{c, out<T>(y), out<double>(stats)}, c.images, c.slices);
  });
  return {y, stats};
}

template <typename Launcher>
Tensor normalize_backward(Tensor grad, Tensor x, Maybe mask, Tensor reference, Tensor stats, Ints segments, int64_t partition, int64_t variant,
                          double mad_floor, bool detach_median) {
  check_map(x, "x", 3);
  check_like(reference, x, "reference");
  check_map(grad, "grad", 4);
  check_same_type(grad, x, "grad");
  const Options o = options_of(segments, partition, variant, 0, mad_floor, detach_median);
  const Shape shape = shape_of(x);
  STD_TORCH_CHECK(grad.numel() == x.numel() * o.n_segments, "grad must fit x");
  check_stats(stats, x, shape.images, record::width(o));
  const uint8_t* valid = mask_data(mask, x);
  const Launcher launch(x);
  Tensor result = torch::stable::empty_like(x);
  if (result.numel() == 0) return result;
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    Call<T> c = call_of<T>(data<T>(x), data<T>(reference), valid, shape, o, Launcher::slice);
    c.keep_all = true;
    c.seg.loss_levels = o.n_segments;                    // a border at zero belongs to the upper segment alone
    if (o.variant == kHdn) c.seg.levels = o.n_segments;
    const Memory memory = allocate(launch, &c, x, false);
    const MapUpstream<T> upstream{data<T>(grad)};
    launch_prepare(launch, c, data<double>(stats), static_cast<const T*>(nullptr), upstream);
    launch.blocks(Gradient<T, MapUpstream<T>>{c, upstream, out<T>(result)}, c.images, c.slices);
  });
  return result;
}
}  // namespace device
}  // namespace dadkit
