// hybrid_forward, hybrid_backward, segment_statistics
#include "call.h"
#include "hybrid.h"
#include "hybrid_gradient.h"

namespace dadkit {
namespace {

LossOutputs hybrid_forward(Tensor pred, Tensor target, Maybe mask, Maybe edges, Maybe count, Maybe median, Maybe mad, Maybe global_mad, Maybe flat,
                           Ints segments, int64_t partition, int64_t variant, int64_t min_pixels, double mad_floor, bool want_map) {
  const Maps maps(pred, "pred", mask);
  check_map(target, "target", 3);
  check_pair(target, pred, "target");
  const Options o = options_of(segments, partition, variant, min_pixels, mad_floor, false);
  const GivenTensors given{edges, count, median, mad, global_mad, flat};
  given.check(maps.images, o, pred);
  const Outputs y(target, {maps.images}, o, want_map);
  each_image(pred, maps.images, [&](const auto& turn) {
    using T = TypeOf<decltype(turn)>;
    SegmentedImage<T> image = turn.segmented(o, target, maps);
    const LossAnswer<T> answer{turn.to(y.total), turn.to(y.number), want_map ? turn.to(y.map, maps.n) : nullptr,
                               want_map ? turn.template to<uint8_t>(y.counted, maps.n) : nullptr};
    HybridLoss<T>(&image).forward(Source<T>(turn.in(pred, maps.n)), given_row<T>(given, turn.image, o), answer,
                                  turn.template to<double>(y.stats, record::width(o)));
  });
  return y.all();
}

Tensor hybrid_backward(Tensor grad, Tensor pred, Tensor target, Maybe mask, Tensor stats, Ints segments, int64_t partition, int64_t variant,
                       double mad_floor, bool detach_median) {
  const Maps maps(pred, "pred", mask);
  check_pair(target, pred, "target");
  check_same_type(grad, pred, "grad");
  const Options o = options_of(segments, partition, variant, 0, mad_floor, detach_median);
  const bool per_pixel = grad.dim() == 3;
  STD_TORCH_CHECK(grad.is_contiguous() && grad.numel() == maps.images * (per_pixel ? maps.n : 1), "grad must be (B,) or (B, H, W)");
  check_stats(stats, pred, maps.images, record::width(o));
  Tensor result = torch::stable::new_empty(pred, Ints{maps.images, maps.h, maps.w});
  each_image(pred, maps.images, [&](const auto& turn) {
    using T = TypeOf<decltype(turn)>;
    const double* r = turn.record_of(stats, record::width(o));
    T* g = turn.to(result, maps.n);
    SegmentedImage<T> image = turn.segmented(o, target, maps);
    if (r[record::kStatus] != record::kFine || r[record::kFlatPred] != 0 || r[record::kNumber] == 0) {
      const T fill = r[record::kStatus] == record::kPoisoned ? std::numeric_limits<T>::quiet_NaN() : T(0);
      for (int64_t k = 0; k < maps.n; ++k) g[k] = image.is_valid(k) ? fill : T(0);
      return;
    }
    const Upstream<T> upstream{per_pixel ? T(0) : *turn.in(grad), per_pixel ? turn.in(grad, maps.n) : nullptr};
    HybridGradient<T>(&image, upstream).of_map(Source<T>(turn.in(pred, maps.n)), r, g);
  });
  return result;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> segment_statistics(Tensor target, Maybe mask, Maybe edges, Ints segments,
                                                                              int64_t partition, int64_t variant) {
  const Maps maps(target, "target", mask);
  const Options o = options_of(segments, partition, variant, 0, 0, false);
  const GivenTensors given = only_edges(edges);
  given.check(maps.images, o, target);
  const int64_t images = maps.images, borders = o.partition == kGrid ? 0 : o.finest() + 1, contexts = o.contexts();
  Tensor y_edges = torch::stable::new_empty(target, Ints{images, borders}), median = torch::stable::new_empty(target, Ints{images, contexts}),
         mad = torch::stable::new_empty(target, Ints{images, contexts}), global_mad = torch::stable::new_empty(target, Ints{images}),
         count = torch::stable::new_empty(target, Ints{images, contexts}, ScalarType::Long),
         flat = torch::stable::new_empty(target, Ints{images}, ScalarType::Bool);
  each_image(target, images, [&](const auto& turn) {
    using T = TypeOf<decltype(turn)>;
    SegmentedImage<T> image = turn.segmented(o, target, maps);
    const RangeTask<T> range = image.range_of(Source<T>(image.map()));
    image.cut(given_row<T>(given, turn.image, o).edges, range);
    TargetSide<T> side;
    side.compute(image, &range);
    std::copy(image.edges(), image.edges() + borders, turn.to(y_edges, borders));
    for (int u = 0; u < contexts; ++u) {
      turn.template to<int64_t>(count, contexts)[u] = side.count[u];
      turn.to(median, contexts)[u] = static_cast<T>(side.median[u]);
      turn.to(mad, contexts)[u] = static_cast<T>(side.mad[u]);
    }
    *turn.to(global_mad) = static_cast<T>(side.global_mad);
    *turn.template to<uint8_t>(flat) = side.flat;
  });
  return {y_edges, count, median, mad, global_mad, flat};
}

}  // namespace
}  // namespace dadkit

STABLE_TORCH_LIBRARY_IMPL(dadkit, CPU, m) {
  m.impl("hybrid_forward", TORCH_BOX(&dadkit::hybrid_forward));
  m.impl("hybrid_backward", TORCH_BOX(&dadkit::hybrid_backward));
  m.impl("segment_statistics", TORCH_BOX(&dadkit::segment_statistics));
}
