// The operators, once for all devices: their schema, what each checks of its arguments, and what it answers with. A backend computes:
// csrc/cpu, or the device kernels under a launcher.
#pragma once

#include <torch/csrc/stable/library.h>

#include "arguments.h"

namespace dadkit {

// Maps are contiguous (B, H, W) float32 or float64, masks bool; a backend with kReadsHalf takes the maps of a loss in float16 and bfloat16
// too, and answers in float32. `options` are partition (0 range, 1 quantile, 2 grid), variant (0 dadkit, 1 hdn), min_pixels, detach_median and
// then segments, those of dadkit.losses; `known` what is known of the target: nothing, edges, or all of TargetStats. `stats` is private to an
// operator and its backward. Nothing mutates its inputs.
//
// With boxes (B, N, 4), in pixels of pred, finite and not empty, a loss compares patches: pred (B, H, W), target (B, N, h, w), results (B, N).
template <typename Library>
void define_operators(Library& m) {
  // per image: sum of the pixels' losses, number of pixels; with want_map also every pixel's loss and which pixels take part
  m.def(
      "hybrid_forward(Tensor pred, Tensor target, Tensor? boxes, Tensor? mask, Tensor[] known, int[] options, float mad_floor, bool want_map) "
      "-> (Tensor total, Tensor number, Tensor map, Tensor counted, Tensor stats)");
  // grad: (B,) of the totals or (B, H, W) of the map
  m.def(
      "hybrid_backward(Tensor grad, Tensor pred, Tensor target, Tensor? boxes, Tensor? mask, Tensor stats, int[] options, float mad_floor) "
      "-> Tensor");
  m.def(
      "segment_statistics(Tensor target, Tensor? mask, Tensor? edges, int[] options) "
      "-> (Tensor edges_out, Tensor count, Tensor median, Tensor mad, Tensor global_mad, Tensor flat)");
  // ranks (B, R) int64, from 0; a rank outside is the nearest inside; 0 where an image has no valid pixel
  m.def("order_statistics(Tensor x, Tensor? mask, Tensor ranks) -> Tensor");
  m.def("median_mad_forward(Tensor x, Tensor? mask) -> (Tensor median, Tensor mad, Tensor stats)");
  m.def("median_mad_backward(Tensor grad_median, Tensor grad_mad, Tensor x, Tensor? mask, Tensor stats) -> Tensor");
  m.def(
      "normalize_forward(Tensor x, Tensor? mask, Tensor reference, Tensor? edges, int[] options, float mad_floor) "
      "-> (Tensor out, Tensor stats)");
  m.def("normalize_backward(Tensor grad, Tensor x, Tensor? mask, Tensor reference, Tensor stats, int[] options, float mad_floor) -> Tensor");
  // total and number per image and scale, (B, S); grad: of the totals, or (B, H, W) of the map
  m.def(
      "gradient_matching_forward(Tensor pred, Tensor target, Tensor? mask, int scales, bool normalize, bool want_map) "
      "-> (Tensor total, Tensor number, Tensor map, Tensor counted, Tensor stats)");
  m.def("gradient_matching_backward(Tensor grad, Tensor pred, Tensor target, Tensor? mask, Tensor stats, int scales, bool normalize) -> Tensor");
}

// The mean over images of a loss, and with want_gradient its gradient to pred from the same pass (else empty): for a backend that has them.
template <typename Library>
void define_means(Library& m) {
  m.def(
      "hybrid_mean(Tensor pred, Tensor target, Tensor? mask, Tensor[] known, int[] options, float mad_floor, bool want_gradient) "
      "-> (Tensor loss, Tensor gradient)");
  m.def(
      "gradient_matching_mean(Tensor pred, Tensor target, Tensor? mask, int scales, bool normalize, bool want_gradient) "
      "-> (Tensor loss, Tensor gradient)");
}

// ------------------------------------------------------------------------------------------------ the losses
template <typename Backend>
LossOutputs hybrid_forward(Tensor pred, Tensor target, Maybe boxes, Maybe mask, Tensors known, Ints options, double mad_floor, bool want_map) {
  const LossMaps maps{pred, target, boxes, mask};
  const GivenTensors given(known);
  const Options o = options_of(options, mad_floor);
  maps.check(Backend::kReadsHalf);
  const Batch batch = maps.batch();
  given.check(batch.images, o, pred);
  const Outputs y(target, maps.losses(), maps.losses(), record::width(o), want_map);
  if (batch.images > 0) Backend::loss_forward(maps, batch, given, o, y);
  return y.all();
}

template <typename Backend>
Tensor hybrid_backward(Tensor grad, Tensor pred, Tensor target, Maybe boxes, Maybe mask, Tensor stats, Ints options, double mad_floor) {
  const LossMaps maps{pred, target, boxes, mask};
  const Options o = options_of(options, mad_floor);
  maps.check(Backend::kReadsHalf);
  const Batch batch = maps.batch();
  const bool per_pixel = grad.dim() == target.dim();
  check_type(grad, pred, "grad");
  STD_TORCH_CHECK(grad.is_contiguous() && grad.numel() == batch.images * (per_pixel ? batch.n : 1),
                  boxes ? "grad must be (B, N) or (B, N, h, w)" : "grad must be (B,) or (B, H, W)");
  check_stats(stats, pred, batch.images, record::width(o));
  Tensor result = empty_as(pred);
  if (result.numel() == 0) return result;
  if (batch.images == 0) return torch::stable::zero_(result);
  Backend::loss_backward(maps, batch, grad, per_pixel, stats, o, result);
  return result;
}

template <typename Backend>
LossOutputs gradient_matching_forward(Tensor pred, Tensor target, Maybe mask, int64_t scales, bool normalize, bool want_map) {
  const LossMaps maps{pred, target, std::nullopt, mask};
  maps.check(Backend::kReadsHalf);
  check_scales(scales);
  const Batch batch = maps.batch();
  const Outputs y(pred, {batch.images, scales}, {batch.images}, matching_record::width(scales), want_map);
  if (batch.images > 0) Backend::matching_forward(maps, batch, scales, normalize, y);
  return y.all();
}

template <typename Backend>
Tensor gradient_matching_backward(Tensor grad, Tensor pred, Tensor target, Maybe mask, Tensor stats, int64_t scales, bool normalize) {
  const LossMaps maps{pred, target, std::nullopt, mask};
  maps.check(Backend::kReadsHalf);
  check_type(grad, pred, "grad");
  check_scales(scales);
  const Batch batch = maps.batch();
  const bool per_pixel = grad.dim() == 3;
  STD_TORCH_CHECK(grad.is_contiguous() && grad.numel() == batch.images * (per_pixel ? batch.n : scales), "grad must be (B, S) or (B, H, W)");
  check_stats(stats, pred, batch.images, matching_record::width(scales));
  Tensor result = empty_as(pred);
  if (result.numel() > 0) Backend::matching_backward(maps, batch, grad, per_pixel, stats, scales, normalize, result);
  return result;
}

// ------------------------------------------------------------------------------------------------ the losses' means
template <typename Backend>
std::tuple<Tensor, Tensor> hybrid_mean(Tensor pred, Tensor target, Maybe mask, Tensors known, Ints options, double mad_floor, bool want_gradient) {
  const LossMaps maps{pred, target, std::nullopt, mask};
  const GivenTensors given(known);
  const Options o = options_of(options, mad_floor);
  maps.check(Backend::kReadsHalf);
  const Batch batch = maps.batch();
  given.check(batch.images, o, pred);
  const MeanOutputs y(pred, want_gradient);
  Backend::hybrid_mean(maps, batch, given, o, y);
  return y.all();
}

template <typename Backend>
std::tuple<Tensor, Tensor> gradient_matching_mean(Tensor pred, Tensor target, Maybe mask, int64_t scales, bool normalize, bool want_gradient) {
  const LossMaps maps{pred, target, std::nullopt, mask};
  maps.check(Backend::kReadsHalf);
  check_scales(scales);
  const MeanOutputs y(pred, want_gradient);
  Backend::matching_mean(maps, maps.batch(), scales, normalize, y);
  return y.all();
}

// ------------------------------------------------------------------------------------------------ normalised maps
template <typename Backend>
std::tuple<Tensor, Tensor> normalize_forward(Tensor x, Maybe mask, Tensor reference, Maybe edges, Ints options, double mad_floor) {
  check_map(x, "x", 3);
  check_like(reference, x, "reference");
  check_type(reference, x, "reference");
  const Options o = options_of(options, mad_floor);
  const Batch batch(x, mask);
  const GivenTensors given(edges);
  given.check(batch.images, o, x);
  const Tensor y = torch::stable::new_empty(x, Ints{batch.images, o.n_segments, batch.height, batch.width}),
               stats = torch::stable::new_empty(x, Ints{batch.images, record::width(o)}, ScalarType::Double);
  if (batch.images > 0) Backend::normalize_forward(x, reference, batch, given, o, y, stats);
  return {y, stats};
}

template <typename Backend>
Tensor normalize_backward(Tensor grad, Tensor x, Maybe mask, Tensor reference, Tensor stats, Ints options, double mad_floor) {
  check_map(x, "x", 3);
  check_like(reference, x, "reference");
  check_type(reference, x, "reference");
  check_map(grad, "grad", 4);
  check_type(grad, x, "grad");
  const Options o = options_of(options, mad_floor);
  const Batch batch(x, mask);
  STD_TORCH_CHECK(grad.numel() == x.numel() * o.n_segments, "grad must fit x");
  check_stats(stats, x, batch.images, record::width(o));
  Tensor result = empty_as(x);
  if (result.numel() > 0) Backend::normalize_backward(grad, x, reference, batch, stats, o, result);
  return result;
}

// ------------------------------------------------------------------------------------------------ statistics
template <typename Backend>
std::tuple<Tensor, Tensor, Tensor> median_mad_forward(Tensor x, Maybe mask) {
  check_map(x, "x", 3);
  const Batch batch(x, mask);
  const Tensor median = torch::stable::new_empty(x, Ints{batch.images}), mad = torch::stable::new_empty(x, Ints{batch.images}),
               stats = torch::stable::new_empty(x, Ints{batch.images, median_record::kWidth}, ScalarType::Double);
  if (batch.images > 0) Backend::median_forward(x, batch, median, mad, stats);
  return {median, mad, stats};
}

template <typename Backend>
Tensor median_mad_backward(Tensor grad_median, Tensor grad_mad, Tensor x, Maybe mask, Tensor stats) {
  check_map(x, "x", 3);
  check_type(grad_median, x, "grad_median");
  check_type(grad_mad, x, "grad_mad");
  const Batch batch(x, mask);
  STD_TORCH_CHECK(grad_median.numel() == batch.images && grad_mad.numel() == batch.images, "gradients must be (B,)");
  check_stats(stats, x, batch.images, median_record::kWidth);
  Tensor result = empty_as(x);
  if (result.numel() > 0) Backend::median_backward(grad_median, grad_mad, x, batch, stats, result);
  return result;
}

template <typename Backend>
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> segment_statistics(Tensor target, Maybe mask, Maybe edges, Ints options) {
  check_map(target, "target", 3);
  const Options o = options_of(options);
  const Batch batch(target, mask);
  const GivenTensors given(edges);
  given.check(batch.images, o, target);
  const StatisticsOutputs y(target, batch.images, o);
  if (batch.images > 0) Backend::statistics(target, batch, given, o, y);
  return y.all();
}

template <typename Backend>
Tensor order_statistics(Tensor x, Maybe mask, Tensor ranks) {
  check_map(x, "x", 3);
  const Batch batch(x, mask);
  check_ranks(ranks, x, batch.images);
  Tensor result = torch::stable::new_empty(x, Ints{batch.images, ranks.size(1)});
  if (result.numel() > 0) Backend::order(x, batch, ranks, result);
  return result;
}

// Registers them all.
template <typename Backend, typename Library>
void implement(Library& m) {
  m.impl("hybrid_forward", TORCH_BOX(&hybrid_forward<Backend>));
  m.impl("hybrid_backward", TORCH_BOX(&hybrid_backward<Backend>));
  m.impl("normalize_forward", TORCH_BOX(&normalize_forward<Backend>));
  m.impl("normalize_backward", TORCH_BOX(&normalize_backward<Backend>));
  m.impl("median_mad_forward", TORCH_BOX(&median_mad_forward<Backend>));
  m.impl("median_mad_backward", TORCH_BOX(&median_mad_backward<Backend>));
  m.impl("segment_statistics", TORCH_BOX(&segment_statistics<Backend>));
  m.impl("order_statistics", TORCH_BOX(&order_statistics<Backend>));
  m.impl("gradient_matching_forward", TORCH_BOX(&gradient_matching_forward<Backend>));
  m.impl("gradient_matching_backward", TORCH_BOX(&gradient_matching_backward<Backend>));
}

template <typename Backend, typename Library>
void implement_means(Library& m) {
  m.impl("hybrid_mean", TORCH_BOX(&hybrid_mean<Backend>));
  m.impl("gradient_matching_mean", TORCH_BOX(&gradient_matching_mean<Backend>));
}

}  // namespace dadkit
