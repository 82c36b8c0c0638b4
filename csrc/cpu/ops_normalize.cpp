// normalize_forward, normalize_backward
#include "call.h"
#include "normalize.h"

namespace dadkit {
namespace {

std::tuple<Tensor, Tensor> normalize_forward(Tensor x, Maybe mask, Tensor reference, Maybe edges, Ints segments, int64_t partition, int64_t variant,
                                             double mad_floor) {
  const Maps maps(x, "x", mask);
  check_pair(reference, x, "reference");
  const Options o = options_of(segments, partition, variant, 0, mad_floor, false);
  const GivenTensors given = only_edges(edges);
  given.check(maps.images, o, x);
  Tensor y = torch::stable::new_empty(x, Ints{maps.images, o.n_segments, maps.h, maps.w}),
         stats = torch::stable::new_empty(x, Ints{maps.images, record::width(o)}, ScalarType::Double);
  each_image(x, maps.images, [&](const auto& turn) {
    using T = TypeOf<decltype(turn)>;
    SegmentedImage<T> image = turn.segmented(o, reference, maps);
    NormalizedImage<T>(&image, turn.in(x, maps.n))
        .forward(given_row<T>(given, turn.image, o).edges, turn.to(y, o.n_segments * maps.n), turn.template to<double>(stats, record::width(o)));
  });
  return {y, stats};
}

Tensor normalize_backward(Tensor grad, Tensor x, Maybe mask, Tensor reference, Tensor stats, Ints segments, int64_t partition, int64_t variant,
                          double mad_floor, bool detach_median) {
  const Maps maps(x, "x", mask);
  check_pair(reference, x, "reference");
  check_map(grad, "grad", 4);
  check_same_type(grad, x, "grad");
  const Options o = options_of(segments, partition, variant, 0, mad_floor, detach_median);
  STD_TORCH_CHECK(grad.numel() == x.numel() * o.n_segments, "grad must fit x");
  check_stats(stats, x, maps.images, record::width(o));
  Tensor result = torch::stable::new_empty(x, Ints{maps.images, maps.h, maps.w});
  each_image(x, maps.images, [&](const auto& turn) {
    using T = TypeOf<decltype(turn)>;
    SegmentedImage<T> image = turn.segmented(o, reference, maps);
    NormalizedImage<T>(&image, turn.in(x, maps.n))
        .backward(turn.in(grad, o.n_segments * maps.n), turn.record_of(stats, record::width(o)), turn.to(result, maps.n));
  });
  return result;
}

}  // namespace
}  // namespace dadkit

STABLE_TORCH_LIBRARY_IMPL(dadkit, CPU, m) {
  m.impl("normalize_forward", TORCH_BOX(&dadkit::normalize_forward));
  m.impl("normalize_backward", TORCH_BOX(&dadkit::normalize_backward));
}
