// The device kernels run on the CPU, thread after thread: slow, for tests only. It is the same code that csrc/cuda launches, so what the
// tests show of it here holds there, but for the launches themselves.
#include <torch/csrc/stable/library.h>

#include <memory>

#include "../common/schema.h"
#include "ops.h"

namespace dadkit {
namespace {

struct SerialBlock {
  int64_t image, slice, slices;

  int size() const { return 4; }  // more than one, so that nothing relies on a thread seeing all pixels
  template <typename F>
  void threads(const F& f) const {
    for (int t = size() - 1; t >= 0; --t) f(t);  // any order will do: backwards finds what relies on one
  }
  bool last(uint32_t* ticket) const { return (*ticket)++ == static_cast<uint32_t>(slices - 1); }
};

struct Emulator {
  static constexpr int64_t kSlice = 80;
  static constexpr int kTileWidth = 4, kTileHeight = 1;

  explicit Emulator(const Tensor&) {}
  template <typename Kernel>
  void blocks(const Kernel& kernel, int64_t images, int64_t slices) const {
    const std::unique_ptr<typename Kernel::Shared> shared(new typename Kernel::Shared);
    for (int64_t b = 0; b < images; ++b)
      for (int64_t s = slices - 1; s >= 0; --s) kernel.run(SerialBlock{b, s, slices}, *shared);
  }
  void check() const {}
};

}  // namespace
}  // namespace dadkit

STABLE_TORCH_LIBRARY(dadkit_emulated, m) { dadkit::define_operators(m); }
STABLE_TORCH_LIBRARY_IMPL(dadkit_emulated, CPU, m) { dadkit::device::implement<dadkit::Emulator>(m); }
