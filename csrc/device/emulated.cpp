// The device kernels run on the CPU, thread after thread: slow, for tests only. It is the same code that csrc/cuda launches, so what the
// tests show of it here holds there, but for the launches themselves.
#include <torch/csrc/stable/library.h>

#include "ops.h"

namespace dadkit {
namespace {

struct Emulator {
  explicit Emulator(const Tensor&) {}
  template <typename Kernel, typename T>
  void pixels(const Kernel& kernel, const device::Call<T>& c) const {
    constexpr int64_t kThreads = 7;  // more than one, so that nothing relies on a thread seeing all pixels
    for (int64_t b = 0; b < c.images; ++b)
      for (int64_t t = 0; t < kThreads; ++t) kernel.pixels(b, t, kThreads);
  }
  template <typename Kernel, typename T>
  void images(const Kernel& kernel, const device::Call<T>& c) const {
    for (int64_t b = 0; b < c.images; ++b) kernel.image(b);
  }
  template <typename Kernel, typename T>
  void contexts(const Kernel& kernel, const device::Call<T>& c) const {
    for (int64_t b = 0; b < c.images; ++b)
      for (int u = 0; u < c.seg.contexts; ++u) kernel.context(b, u);
  }
  void check() const {}
};

}  // namespace
}  // namespace dadkit

STABLE_TORCH_LIBRARY(dadkit_emulated, m) {
  m.def(
      "hybrid_forward(Tensor pred, Tensor target, Tensor? mask, Tensor? edges, Tensor? count, Tensor? median, Tensor? mad, Tensor? global_mad, "
      "Tensor? flat, int[] segments, int partition, int variant, int min_pixels, float mad_floor, bool want_map) "
      "-> (Tensor total, Tensor number, Tensor map, Tensor counted, Tensor stats)");
  m.def(
      "hybrid_backward(Tensor grad, Tensor pred, Tensor target, Tensor? mask, Tensor stats, int[] segments, int partition, int variant, "
      "float mad_floor, bool detach_median) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(dadkit_emulated, CPU, m) {
  m.impl("hybrid_forward", TORCH_BOX(&dadkit::device::hybrid_forward<dadkit::Emulator>));
  m.impl("hybrid_backward", TORCH_BOX(&dadkit::device::hybrid_backward<dadkit::Emulator>));
}
