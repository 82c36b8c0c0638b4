// gradient_matching_forward, gradient_matching_backward
#include "call.h"
#include "matching.h"

namespace dadkit {
namespace {

template <typename T>
MatchingImage<T> matching(const Turn<T>& turn, const Tensor& pred, const Tensor& target, const Maps& maps, int64_t scales) {
  return {turn.sweeps, turn.in(pred, maps.n), turn.in(target, maps.n), maps.mask_of(turn.image), maps.h, maps.w, scales, turn.parallel, turn.work};
}

LossOutputs gradient_matching_forward(Tensor pred, Tensor target, Maybe mask, int64_t scales, bool normalize, bool want_map) {
  const Maps maps(pred, "pred", mask);
  check_pair(target, pred, "target");
  check_scales(scales);
  const MatchingOutputs y(pred, scales, want_map);
  each_image(pred, maps.images, [&](const auto& turn) {
    matching(turn, pred, target, maps, scales)
        .forward(normalize, turn.to(y.total, scales), turn.to(y.number, scales), want_map ? turn.to(y.map, maps.n) : nullptr,
                 want_map ? turn.template to<uint8_t>(y.counted, maps.n) : nullptr,
                 turn.template to<double>(y.stats, matching_record::width(scales)));
  });
  return y.all();
}

Tensor gradient_matching_backward(Tensor grad, Tensor pred, Tensor target, Maybe mask, Tensor stats, int64_t scales, bool normalize) {
  const Maps maps(pred, "pred", mask);
  check_pair(target, pred, "target");
  check_same_type(grad, pred, "grad");
  check_scales(scales);
  const bool per_pixel = grad.dim() == 3;
  STD_TORCH_CHECK(grad.is_contiguous() && grad.numel() == maps.images * (per_pixel ? maps.n : scales), "grad must be (B, S) or (B, H, W)");
  check_stats(stats, pred, maps.images, matching_record::width(scales));
  Tensor result = torch::stable::new_empty(pred, Ints{maps.images, maps.h, maps.w});
  each_image(pred, maps.images, [&](const auto& turn) {
    matching(turn, pred, target, maps, scales)
        .backward(normalize, per_pixel ? nullptr : turn.in(grad, scales), per_pixel ? turn.in(grad, maps.n) : nullptr,
                  turn.record_of(stats, matching_record::width(scales)), turn.to(result, maps.n));
  });
  return result;
}

}  // namespace
}  // namespace dadkit

STABLE_TORCH_LIBRARY_IMPL(dadkit, CPU, m) {
  m.impl("gradient_matching_forward", TORCH_BOX(&dadkit::gradient_matching_forward));
  m.impl("gradient_matching_backward", TORCH_BOX(&dadkit::gradient_matching_backward));
}
