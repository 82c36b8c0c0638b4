// The operators' schema, once for all devices. Maps are contiguous (B, H, W) float32 or float64, masks bool. `segments`, `partition`
// (0 range, 1 quantile, 2 grid) and `variant` (0 dadkit, 1 hdn) are those of dadkit.losses. `stats` is private to an operator and its
// backward. Nothing mutates its inputs.
#pragma once

#include <torch/csrc/stable/library.h>

namespace dadkit {

template <typename Library>
void define_operators(Library& m) {
  // per image: sum of the pixels' losses, number of pixels; with want_map also every pixel's loss and which pixels take part
  m.def(
      "hybrid_forward(Tensor pred, Tensor target, Tensor? mask, Tensor? edges, Tensor? count, Tensor? median, Tensor? mad, Tensor? global_mad, "
      "Tensor? flat, int[] segments, int partition, int variant, int min_pixels, float mad_floor, bool want_map) "
      "-> (Tensor total, Tensor number, Tensor map, Tensor counted, Tensor stats)");
  // grad: (B,) of the totals or (B, H, W) of the map
  m.def(
      "hybrid_backward(Tensor grad, Tensor pred, Tensor target, Tensor? mask, Tensor stats, int[] segments, int partition, int variant, "
      "float mad_floor, bool detach_median) -> Tensor");
  m.def(
      "segment_statistics(Tensor target, Tensor? mask, Tensor? edges, int[] segments, int partition, int variant) "
      "-> (Tensor edges_out, Tensor count, Tensor median, Tensor mad, Tensor global_mad, Tensor flat)");
  // ranks (B, R) int64, from 0; a rank outside is the nearest inside; 0 where an image has no valid pixel
  m.def("order_statistics(Tensor x, Tensor? mask, Tensor ranks) -> Tensor");
  m.def("median_mad_forward(Tensor x, Tensor? mask) -> (Tensor median, Tensor mad, Tensor stats)");
  m.def("median_mad_backward(Tensor grad_median, Tensor grad_mad, Tensor x, Tensor? mask, Tensor stats) -> Tensor");
  m.def(
      "normalize_forward(Tensor x, Tensor? mask, Tensor reference, Tensor? edges, int[] segments, int partition, int variant, float mad_floor) "
      "-> (Tensor out, Tensor stats)");
  m.def(
      "normalize_backward(Tensor grad, Tensor x, Tensor? mask, Tensor reference, Tensor stats, int[] segments, int partition, int variant, "
      "float mad_floor, bool detach_median) -> Tensor");
  // pred (B, H, W), target (B, N, h, w), boxes (B, N, 4) in pixels of pred, finite and not empty; results per patch (B, N)
  m.def(
      "local_global_forward(Tensor pred, Tensor target, Tensor boxes, Tensor? mask, Tensor? edges, Tensor? count, Tensor? median, Tensor? mad, "
      "Tensor? global_mad, Tensor? flat, int[] segments, int partition, int variant, int min_pixels, float mad_floor, bool want_map) "
      "-> (Tensor total, Tensor number, Tensor map, Tensor counted, Tensor stats)");
  m.def(
      "local_global_backward(Tensor grad, Tensor pred, Tensor target, Tensor boxes, Tensor? mask, Tensor stats, int[] segments, int partition, "
      "int variant, float mad_floor, bool detach_median) -> Tensor");
  // total and number per image and scale, (B, S); grad: of the totals, or (B, H, W) of the map
  m.def(
      "gradient_matching_forward(Tensor pred, Tensor target, Tensor? mask, int scales, bool normalize, bool want_map) "
      "-> (Tensor total, Tensor number, Tensor map, Tensor counted, Tensor stats)");
  m.def("gradient_matching_backward(Tensor grad, Tensor pred, Tensor target, Tensor? mask, Tensor stats, int scales, bool normalize) -> Tensor");
}

}  // namespace dadkit
