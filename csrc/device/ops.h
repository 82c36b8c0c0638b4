// The operators over the device kernels, for any launcher: tensors in, tensors out. No step waits for the device.
#pragma once

#include <tuple>

#include "call.h"
#include "matching.h"
#include "normalize.h"

namespace dadkit {
namespace device {

using LossOutputs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename T>
Known<T> known_of(const GivenTensors& given) {
  if (!given.median) return {};
  return {data<int64_t>(*given.count), data<T>(*given.median), data<T>(*given.mad), data<T>(*given.global_mad), data<uint8_t>(*given.flat)};
}

// The forward launches of a loss, for maps and for patches.
template <typename Launcher, typename T>
void loss_forward(const Launcher& launch, Call<T>& c, const Tensor& like, const GivenTensors& given, const Outputs& y, bool want_map) {
  const Memory memory = allocate(&c, like, true);
  const T* edges = given.edges && c.options.partition != kGrid ? data<T>(*given.edges) : nullptr;
  launch_statistics(launch, c, edges, known_of<T>(given));
  by_levels<T>(c.seg.levels, [&](auto levels) {
    launch.blocks(Loss<T, decltype(levels)::value>{c, want_map ? out<T>(y.map) : nullptr, out<T>(y.total), out<T>(y.number),
                                                   want_map ? out<uint8_t>(y.counted) : nullptr, out<double>(y.stats)},
                  c.images, c.slices);
  });
}

// ------------------------------------------------------------------------------------------------ hybrid loss
template <typename Launcher>
LossOutputs hybrid_forward(Tensor pred, Tensor target, Maybe mask, Maybe edges, Maybe count, Maybe median, Maybe mad, Maybe global_mad, Maybe flat,
                           Ints segments, int64_t partition, int64_t variant, int64_t min_pixels, double mad_floor, bool want_map) {
  check_map(pred, "pred", 3);
  check_map(target, "target", 3);
  check_like(target, pred, "target");
  check_same_type(target, pred, "target");
  const Options o = options_of(segments, partition, variant, min_pixels, mad_floor, false);
  const Shape shape{pred.size(0), pred.size(1), pred.size(2)};
  const GivenTensors given{edges, count, median, mad, global_mad, flat};
  given.check(shape.images, o, pred);
  const uint8_t* valid = mask_data(mask, pred);
  const Launcher launch(pred);
  const Outputs y(target, {shape.images}, o, want_map);
  if (shape.images == 0) return y.all();
  by_type(pred, [&](auto zero) {
    using T = decltype(zero);
    Call<T> c = call_of<T>(data<T>(pred), data<T>(target), valid, shape, o, Launcher::kSlice);
    c.sides[kTarget] = !median;
    loss_forward(launch, c, pred, given, y, want_map);
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
  const Shape shape{pred.size(0), pred.size(1), pred.size(2)};
  const bool per_pixel = grad.dim() == 3;
  STD_TORCH_CHECK(grad.is_contiguous() && grad.numel() == (per_pixel ? pred.numel() : shape.images), "grad must be (B,) or (B, H, W)");
  STD_TORCH_CHECK(stats.numel() == shape.images * record::width(o) && stats.is_contiguous(), "stats do not belong to these options");
  const uint8_t* valid = mask_data(mask, pred);
  const Launcher launch(pred);
  Tensor result = torch::stable::new_empty(pred, Ints(pred.sizes().begin(), pred.sizes().end()));
  if (result.numel() == 0) return result;
  by_type(pred, [&](auto zero) {
    using T = decltype(zero);
    Call<T> c = call_of<T>(data<T>(pred), data<T>(target), valid, shape, o, Launcher::kSlice);
    const Memory memory = allocate(&c, pred, false);
    const T* weight = per_pixel ? data<T>(grad) : nullptr;
    launch_prepare(launch, c, data<double>(stats), data<T>(grad), weight);
    launch.blocks(Gradient<T>{c, weight, out<T>(result)}, c.images, c.slices);
  });
  launch.check();
  return result;
}

// ------------------------------------------------------------------------------------------------ local-global
template <typename T>
Call<T> patch_call(const Tensor& pred, const Tensor& target, const Tensor& boxes, const uint8_t* valid, const Options& o, int64_t slice) {
  const Shape shape{target.size(0) * target.size(1), target.size(2), target.size(3)};
  Call<T> c = call_of<T>(data<T>(pred), data<T>(target), valid, shape, o, slice);
  c.boxes = data<T>(boxes);
  c.patches = target.size(1);
  c.map_height = pred.size(1);
  c.map_width = pred.size(2);
  return c;
}

inline void check_patches(const Tensor& pred, const Tensor& target, const Tensor& boxes) {
  check_map(pred, "pred", 3);
  check_map(target, "target", 4);
  check_same_type(target, pred, "target");
  check_same_type(boxes, pred, "boxes");
  STD_TORCH_CHECK(target.size(0) == pred.size(0) && boxes.numel() == pred.size(0) * target.size(1) * 4 && boxes.is_contiguous(),
                  "boxes must be (B, N, 4)");
}

template <typename Launcher>
LossOutputs local_global_forward(Tensor pred, Tensor target, Tensor boxes, Maybe mask, Maybe edges, Maybe count, Maybe median, Maybe mad,
                                 Maybe global_mad, Maybe flat, Ints segments, int64_t partition, int64_t variant, int64_t min_pixels,
                                 double mad_floor, bool want_map) {
  check_patches(pred, target, boxes);
  const Options o = options_of(segments, partition, variant, min_pixels, mad_floor, false);
  const int64_t patches = target.size(0) * target.size(1);
  const GivenTensors given{edges, count, median, mad, global_mad, flat};
  given.check(patches, o, pred);
  const uint8_t* valid = mask_data(mask, target);
  const Launcher launch(pred);
  const Outputs y(target, {target.size(0), target.size(1)}, o, want_map);
  if (patches == 0) return y.all();
  by_type(pred, [&](auto zero) {
    using T = decltype(zero);
    Call<T> c = patch_call<T>(pred, target, boxes, valid, o, Launcher::kSlice);
    c.sides[kTarget] = !median;
    loss_forward(launch, c, pred, given, y, want_map);
  });
  launch.check();
  return y.all();
}

template <typename Launcher>
Tensor local_global_backward(Tensor grad, Tensor pred, Tensor target, Tensor boxes, Maybe mask, Tensor stats, Ints segments, int64_t partition,
                             int64_t variant, double mad_floor, bool detach_median) {
  check_patches(pred, target, boxes);
  check_same_type(grad, pred, "grad");
  const Options o = options_of(segments, partition, variant, 0, mad_floor, detach_median);
  const int64_t patches = target.size(0) * target.size(1);
  const bool per_pixel = grad.dim() == 4;
  STD_TORCH_CHECK(grad.is_contiguous() && grad.numel() == (per_pixel ? target.numel() : patches), "grad must be (B, N) or (B, N, h, w)");
  STD_TORCH_CHECK(stats.numel() == patches * record::width(o) && stats.is_contiguous(), "stats do not belong to these options");
  const uint8_t* valid = mask_data(mask, target);
  const Launcher launch(pred);
  Tensor result = torch::stable::new_empty(pred, Ints(pred.sizes().begin(), pred.sizes().end()));
  if (result.numel() == 0) return result;
  if (patches == 0) return torch::stable::zero_(result);
  by_type(pred, [&](auto zero) {
    using T = decltype(zero);
    Call<T> c = patch_call<T>(pred, target, boxes, valid, o, Launcher::kSlice);
    const Memory memory = allocate(&c, pred, false);
    const T* weight = per_pixel ? data<T>(grad) : nullptr;
    launch_prepare(launch, c, data<double>(stats), data<T>(grad), weight);
    constexpr int kWide = Launcher::kTileWidth, kHigh = Launcher::kTileHeight;
    const int64_t tiles = ((c.map_width + kWide - 1) / kWide) * ((c.map_height + kHigh - 1) / kHigh);
    launch.blocks(PatchGradient<T>{c, weight, out<T>(result), kWide, kHigh}, pred.size(0), tiles);
  });
  launch.check();
  return result;
}

// ------------------------------------------------------------------------------------------------ normalised maps
template <typename Launcher>
std::tuple<Tensor, Tensor> normalize_forward(Tensor x, Maybe mask, Tensor reference, Maybe edges, Ints segments, int64_t partition, int64_t variant,
                                             double mad_floor) {
  check_map(x, "x", 3);
  check_like(reference, x, "reference");
  check_same_type(reference, x, "reference");
  const Options o = options_of(segments, partition, variant, 0, mad_floor, false);
  const Shape shape{x.size(0), x.size(1), x.size(2)};
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
    Call<T> c = call_of<T>(data<T>(x), data<T>(reference), valid, shape, o, Launcher::kSlice);
    c.sides[kTarget] = false;
    c.keep_all = true;
    const Memory memory = allocate(&c, x, true);
    launch_statistics(launch, c, edges && o.partition != kGrid ? data<T>(*edges) : nullptr, Known<T>{});
    launch.blocks(Normalize<T>{c, out<T>(y), out<double>(stats)}, c.images, c.slices);
  });
  launch.check();
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
  const Shape shape{x.size(0), x.size(1), x.size(2)};
  STD_TORCH_CHECK(grad.numel() == x.numel() * o.n_segments && stats.numel() == shape.images * record::width(o), "grad and stats must fit x");
  const uint8_t* valid = mask_data(mask, x);
  const Launcher launch(x);
  Tensor result = torch::stable::new_empty(x, Ints(x.sizes().begin(), x.sizes().end()));
  if (result.numel() == 0) return result;
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    Call<T> c = call_of<T>(data<T>(x), data<T>(reference), valid, shape, o, Launcher::kSlice);
    c.keep_all = true;
    c.seg.loss_levels = o.n_segments;                    // a border at zero belongs to the upper segment alone
    if (o.variant == kHdn) c.seg.levels = o.n_segments;
    const Memory memory = allocate(&c, x, false);
    launch.blocks(Prepare<T>{c, data<double>(stats), nullptr}, c.images, 1);
    by_levels<T>(c.seg.levels, [&](auto levels) {
      launch.blocks(NormalizeSums<T, decltype(levels)::value>{c, data<T>(grad)}, c.images, c.slices);
    });
    launch.blocks(NormalizeGradient<T>{c, data<T>(grad), out<T>(result)}, c.images, c.slices);
  });
  launch.check();
  return result;
}

// ------------------------------------------------------------------------------------------------ statistics by themselves
inline Options whole_map() { return options_of({1}, kRange, kDadkit, 0, 0, false); }

template <typename Launcher>
std::tuple<Tensor, Tensor, Tensor> median_mad_forward(Tensor x, Maybe mask) {
  check_map(x, "x", 3);
  const Shape shape{x.size(0), x.size(1), x.size(2)};
  const uint8_t* valid = mask_data(mask, x);
  const Launcher launch(x);
  Tensor median = torch::stable::new_empty(x, Ints{shape.images}), mad = torch::stable::new_empty(x, Ints{shape.images}),
         stats = torch::stable::new_empty(x, Ints{shape.images, 5}, ScalarType::Double);
  if (shape.images == 0) return {median, mad, stats};
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    Call<T> c = call_of<T>(data<T>(x), data<T>(x), valid, shape, whole_map(), Launcher::kSlice);
    c.sides[kTarget] = false;
    const Memory memory = allocate(&c, x, true);
    launch_statistics(launch, c, static_cast<const T*>(nullptr), Known<T>{});
    launch.blocks(SaveMedian<T>{c, out<T>(median), out<T>(mad), out<double>(stats)}, c.images, 1);
  });
  launch.check();
  return {median, mad, stats};
}

template <typename Launcher>
Tensor median_mad_backward(Tensor grad_median, Tensor grad_mad, Tensor x, Maybe mask, Tensor stats) {
  check_map(x, "x", 3);
  check_same_type(grad_median, x, "grad_median");
  check_same_type(grad_mad, x, "grad_mad");
  const Shape shape{x.size(0), x.size(1), x.size(2)};
  STD_TORCH_CHECK(grad_median.numel() == shape.images && grad_mad.numel() == shape.images && stats.numel() == shape.images * 5,
                  "gradients must be (B,)");
  const uint8_t* valid = mask_data(mask, x);
  const Launcher launch(x);
  Tensor result = torch::stable::new_empty(x, Ints(x.sizes().begin(), x.sizes().end()));
  if (result.numel() == 0) return result;
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    const Call<T> c = call_of<T>(data<T>(x), data<T>(x), valid, shape, whole_map(), Launcher::kSlice);
    launch.blocks(MedianGradient<T>{c, data<T>(grad_median), data<T>(grad_mad), data<double>(stats), out<T>(result)}, c.images, c.slices);
  });
  launch.check();
  return result;
}

template <typename Launcher>
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> segment_statistics(Tensor target, Maybe mask, Maybe edges, Ints segments,
                                                                              int64_t partition, int64_t variant) {
  check_map(target, "target", 3);
  const Options o = options_of(segments, partition, variant, 0, 0, false);
  const Shape shape{target.size(0), target.size(1), target.size(2)};
  const Maybe none;
  const GivenTensors given{edges, none, none, none, none, none};
  given.check(shape.images, o, target);
  const uint8_t* valid = mask_data(mask, target);
  const Launcher launch(target);
  const int64_t borders = o.partition == kGrid ? 0 : o.finest() + 1, contexts = o.contexts();
  auto column = [&](int64_t size) { return torch::stable::new_empty(target, Ints{shape.images, size}); };
  Tensor y_edges = column(borders), median = column(contexts), mad = column(contexts), global_mad = torch::stable::new_empty(target, Ints{shape.images}),
         count = torch::stable::new_empty(target, Ints{shape.images, contexts}, ScalarType::Long),
         flat = torch::stable::new_empty(target, Ints{shape.images}, ScalarType::Bool);
  if (shape.images == 0) return {y_edges, count, median, mad, global_mad, flat};
  by_type(target, [&](auto zero) {
    using T = decltype(zero);
    Call<T> c = call_of<T>(nullptr, data<T>(target), valid, shape, o, Launcher::kSlice);
    const Memory memory = allocate(&c, target, true);
    launch_statistics(launch, c, edges && o.partition != kGrid ? data<T>(*edges) : nullptr, Known<T>{});
    launch.blocks(SaveStatistics<T>{c, out<T>(y_edges), out<T>(median), out<T>(mad), out<T>(global_mad), out<int64_t>(count), out<uint8_t>(flat)},
                  c.images, 1);
  });
  launch.check();
  return {y_edges, count, median, mad, global_mad, flat};
}

template <typename Launcher>
Tensor order_statistics(Tensor x, Maybe mask, Tensor ranks) {
  check_map(x, "x", 3);
  const Shape shape{x.size(0), x.size(1), x.size(2)};
  STD_TORCH_CHECK(ranks.dim() == 2 && ranks.size(0) == shape.images && ranks.is_contiguous() && ranks.scalar_type() == ScalarType::Long,
                  "ranks must be contiguous int64 (B, R)");
  const int64_t wanted = ranks.size(1);
  const uint8_t* valid = mask_data(mask, x);
  const Launcher launch(x);
  Tensor result = torch::stable::new_empty(x, Ints{shape.images, wanted});
  if (result.numel() == 0) return result;
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    for (int64_t from = 0; from < wanted; from += kMaxLevels) {  // up to eight ranks at once, as if they were levels
      Call<T> c = call_of<T>(nullptr, data<T>(x), valid, shape, whole_map(), Launcher::kSlice);
      const int size = static_cast<int>(wanted - from < kMaxLevels ? wanted - from : kMaxLevels);
      c.seg = Segmentation();
      c.seg.levels = c.seg.loss_levels = c.seg.contexts = size;
      c.seg.leaves = 1;
      for (int l = 0; l < size; ++l) c.seg.context[l][0] = static_cast<int8_t>(l);
      const Memory memory = allocate(&c, x, true);
      launch.blocks(Range<T>{c, nullptr}, c.images, c.slices);
      launch_search(launch, c, data<int64_t>(ranks) + from, wanted);
      launch.blocks(SaveOrder<T>{c, out<T>(result) + from, wanted}, c.images, 1);
    }
  });
  launch.check();
  return result;
}

// ------------------------------------------------------------------------------------------------ gradient matching
template <typename Launcher>
LossOutputs gradient_matching_forward(Tensor pred, Tensor target, Maybe mask, int64_t scales, bool normalize, bool want_map) {
  check_map(pred, "pred", 3);
  check_like(target, pred, "target");
  check_same_type(target, pred, "target");
  check_scales(scales);
  const Shape shape{pred.size(0), pred.size(1), pred.size(2)};
  const uint8_t* valid = mask_data(mask, pred);
  const Launcher launch(pred);
  const MatchingOutputs y(pred, scales, want_map);
  if (shape.images == 0) return y.all();
  const int64_t width = matching_record::width(scales);
  const int levels = static_cast<int>(scales);
  by_type(pred, [&](auto zero) {
    using T = decltype(zero);
    Call<T> c = call_of<T>(data<T>(pred), data<T>(target), valid, shape, whole_map(), Launcher::kSlice);
    const Memory memory = allocate(&c, pred, true, 3 * levels);
    if (normalize) {
      launch_statistics(launch, c, static_cast<const T*>(nullptr), Known<T>{});
    } else {
      launch.blocks(Range<T>{c, nullptr}, c.images, c.slices);
    }
    double* stats = out<double>(y.stats);
    launch.blocks(MatchingHead<T>{c, normalize, stats, width}, c.images, 1);
    launch.blocks(MatchingSums<T>{c, stats, width, levels, normalize, nullptr, out<T>(y.total), out<T>(y.number)}, c.images, c.slices);
    if (want_map) launch.blocks(MatchingMap<T>{c, stats, width, levels, out<T>(y.map), out<uint8_t>(y.counted)}, c.images, c.slices);
  });
  launch.check();
  return y.all();
}

template <typename Launcher>
Tensor gradient_matching_backward(Tensor grad, Tensor pred, Tensor target, Maybe mask, Tensor stats, int64_t scales, bool normalize) {
  check_map(pred, "pred", 3);
  check_like(target, pred, "target");
  check_same_type(target, pred, "target");
  check_same_type(grad, pred, "grad");
  check_scales(scales);
  const Shape shape{pred.size(0), pred.size(1), pred.size(2)};
  const bool per_pixel = grad.dim() == 3;
  const int64_t width = matching_record::width(scales);
  STD_TORCH_CHECK(grad.is_contiguous() && grad.numel() == (per_pixel ? pred.numel() : shape.images * scales), "grad must be (B, S) or (B, H, W)");
  STD_TORCH_CHECK(stats.numel() == shape.images * width && stats.is_contiguous(), "stats do not belong to these options");
  const uint8_t* valid = mask_data(mask, pred);
  const Launcher launch(pred);
  Tensor result = torch::stable::new_empty(pred, Ints(pred.sizes().begin(), pred.sizes().end()));
  if (result.numel() == 0) return result;
  const int levels = static_cast<int>(scales);
  by_type(pred, [&](auto zero) {
    using T = decltype(zero);
    Call<T> c = call_of<T>(data<T>(pred), data<T>(target), valid, shape, whole_map(), Launcher::kSlice);
    const Memory memory = allocate(&c, pred, false, 3 * levels);
    const T *weight = per_pixel ? data<T>(grad) : nullptr, *upstream = per_pixel ? nullptr : data<T>(grad);
    double* r = out<double>(stats);
    if (weight) {
      launch.blocks(MatchingSums<T>{c, r, width, levels, normalize, weight, nullptr, nullptr}, c.images, c.slices);
    } else {
      launch.blocks(MatchingPrepare<T>{c, r, width, levels, normalize, upstream}, c.images, 1);
    }
    launch.blocks(MatchingGradient<T>{c, r, width, levels, upstream, weight, out<T>(result)}, c.images, c.slices);
  });
  launch.check();
  return result;
}

// Registers them all under a launcher.
template <typename Launcher, typename Library>
void implement(Library& m) {
  m.impl("hybrid_forward", TORCH_BOX(&hybrid_forward<Launcher>));
  m.impl("hybrid_backward", TORCH_BOX(&hybrid_backward<Launcher>));
  m.impl("local_global_forward", TORCH_BOX(&local_global_forward<Launcher>));
  m.impl("local_global_backward", TORCH_BOX(&local_global_backward<Launcher>));
  m.impl("normalize_forward", TORCH_BOX(&normalize_forward<Launcher>));
  m.impl("normalize_backward", TORCH_BOX(&normalize_backward<Launcher>));
  m.impl("median_mad_forward", TORCH_BOX(&median_mad_forward<Launcher>));
  m.impl("median_mad_backward", TORCH_BOX(&median_mad_backward<Launcher>));
  m.impl("segment_statistics", TORCH_BOX(&segment_statistics<Launcher>));
  m.impl("order_statistics", TORCH_BOX(&order_statistics<Launcher>));
  m.impl("gradient_matching_forward", TORCH_BOX(&gradient_matching_forward<Launcher>));
  m.impl("gradient_matching_backward", TORCH_BOX(&gradient_matching_backward<Launcher>));
}

}  // namespace device
}  // namespace dadkit
