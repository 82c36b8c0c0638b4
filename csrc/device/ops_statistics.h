// The operators that answer statistics: medians and deviations, a target's statistics, order statistics.
#pragma once

#include <tuple>

#include "answers.h"
#include "call.h"

namespace dadkit {
namespace device {

template <typename Launcher>
std::tuple<Tensor, Tensor, Tensor> median_mad_forward(Tensor x, Maybe mask) {
  check_map(x, "x", 3);
  const Shape shape = shape_of(x);
  const uint8_t* valid = mask_data(mask, x);
  const Launcher launch(x);
  Tensor median = torch::stable::new_empty(x, Ints{shape.images}), mad = torch::stable::new_empty(x, Ints{shape.images}),
         stats = torch::stable::new_empty(x, Ints{shape.images, median_record::kWidth}, ScalarType::Double);
  if (shape.images == 0) return {median, mad, stats};
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    Call<T> c = call_of<T>(data<T>(x), data<T>(x), valid, shape, whole_map(), Launcher::slice);
    c.sides[kTarget] = false;
    const Memory memory = allocate(launch, &c, x, true);
    launch_statistics(launch, &c, static_cast<const T*>(nullptr), Known<T>{});
    launch.blocks(SaveMedian<T>{c, out<T>(median), out<T>(mad), out<double>(stats)}, c.images, 1);
  });
  return {median, mad, stats};
}

template <typename Launcher>
Tensor median_mad_backward(Tensor grad_median, Tensor grad_mad, Tensor x, Maybe mask, Tensor stats) {
  check_map(x, "x", 3);
  check_same_type(grad_median, x, "grad_median");
  check_same_type(grad_mad, x, "grad_mad");
  const Shape shape = shape_of(x);
  STD_TORCH_CHECK(grad_median.numel() == shape.images && grad_mad.numel() == shape.images, "gradients must be (B,)");
  check_stats(stats, x, shape.images, median_record::kWidth);
  const uint8_t* valid = mask_data(mask, x);
  const Launcher launch(x);
  Tensor result = torch::stable::empty_like(x);
  if (result.numel() == 0) return result;
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    const Call<T> c = call_of<T>(data<T>(x), nullptr, valid, shape, whole_map(), Launcher::slice);
    launch.blocks(MedianGradient<T>{c, data<T>(grad_median), data<T>(grad_mad), data<double>(stats), out<T>(result)}, c.images, c.slices);
  });
  return result;
}

template <typename Launcher>
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> segment_statistics(Tensor target, Maybe mask, Maybe edges, Ints segments,
                                                                              int64_t partition, int64_t variant) {
  check_map(target, "target", 3);
  const Options o = options_of(segments, partition, variant, 0, 0, false);
  const Shape shape = shape_of(target);
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
    // a plain call looks at a pair of maps: here at the target twice, so that its statistics are to the bit those of a loss
    Call<T> c = call_of<T>(data<T>(target), data<T>(target), valid, shape, o, Launcher::slice);
    if (sizeof(T) != 4 || !is_plain(c)) {
      c.pred = nullptr;
      c.sides[kPred] = false;
    }
    const Memory memory = allocate(launch, &c, target, true);
    launch_statistics(launch, &c, borders_of<T>(edges, o), Known<T>{});
    launch.blocks(SaveStatistics<T>{c, out<T>(y_edges), out<T>(median), out<T>(mad), out<T>(global_mad), out<int64_t>(count), out<uint8_t>(flat)},
                  c.images, 1);
  });
  return {y_edges, count, median, mad, global_mad, flat};
}

template <typename Launcher>
Tensor order_statistics(Tensor x, Maybe mask, Tensor ranks) {
  check_map(x, "x", 3);
  const Shape shape = shape_of(x);
  check_ranks(ranks, x, shape.images);
  const int64_t wanted = ranks.size(1);
  const uint8_t* valid = mask_data(mask, x);
  const Launcher launch(x);
  Tensor result = torch::stable::new_empty(x, Ints{shape.images, wanted});
  if (result.numel() == 0) return result;
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    for (int64_t from = 0; from < wanted; from += kMaxLevels) {  // up to eight ranks at once, as if they were levels
      Call<T> c = call_of<T>(nullptr, data<T>(x), valid, shape, whole_map(), Launcher::slice);
      const int size = static_cast<int>(wanted - from < kMaxLevels ? wanted - from : kMaxLevels);
      c.seg = Segmentation();
      c.seg.levels = c.seg.loss_levels = c.seg.contexts = size;
      c.seg.leaves = 1;
      for (int l = 0; l < size; ++l) c.seg.context[l][0] = static_cast<int8_t>(l);
      const Memory memory = allocate(launch, &c, x, true);
      launch_range(launch, c, static_cast<const T*>(nullptr));
      launch_search(launch, c, data<int64_t>(ranks) + from, wanted);
      launch.blocks(SaveOrder<T>{c, out<T>(result) + from, wanted}, c.images, 1);
    }
  });
  return result;
}
}  // namespace device
}  // namespace dadkit
