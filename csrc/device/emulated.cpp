// The device kernels run on the CPU, thread after thread: slow, for tests only. It is the source that csrc/cuda launches, without warps,
// atomics and anything at the same time: scripts/ptx runs those.
#include <torch/csrc/stable/library.h>

#include <cstdlib>
#include <cstring>
#include <memory>

#include "../common/operators.h"
#include "operators.h"

namespace dadkit {
namespace {

// A step's threads in any order must do: backwards, or forwards where DADKIT_EMULATED_ORDER says so, finds what relies on one.
struct SerialBlock {
  int64_t image, slice, slices;
  bool forwards;

  int size() const { return 4; }  // more than one, so that nothing relies on a thread seeing all pixels
  template <typename F>
  void threads(const F& f) const {
    for (int k = 0; k < size(); ++k) f(forwards ? k : size() - 1 - k);
  }
  bool last(uint32_t* ticket) const { return (*ticket)++ == static_cast<uint32_t>(slices - 1); }
};

class Emulator {
 public:
  static int64_t slice(int64_t) { return 80; }
  static constexpr int kTileWidth = 4, kTileHeight = 1;

  explicit Emulator(const Tensor&) {
    const char* order = std::getenv("DADKIT_EMULATED_ORDER");
    forwards_ = order && std::strcmp(order, "forwards") == 0;
  }

  // A GPU's memory holds anything at first: here NaN, -1 and huge counts, so that what is read before it is written shows.
  void fresh(const Tensor& memory) const { spoil(memory.mutable_data_ptr(), static_cast<size_t>(memory.numel())); }

  template <typename Kernel>
  void blocks(const Kernel& kernel, int64_t images, int64_t slices) const {
    using Shared = typename Kernel::Shared;
    const std::unique_ptr<Shared> shared(new Shared);
    for (int64_t b = 0; b < images; ++b) {
      for (int64_t k = 0; k < slices; ++k) {
        spoil(shared.get(), sizeof(Shared));
        kernel.run(SerialBlock{b, forwards_ ? k : slices - 1 - k, slices, forwards_}, *shared);
      }
    }
  }

 private:
  static void spoil(void* memory, size_t size) { std::memset(memory, 0xff, size); }

  bool forwards_;
};

}  // namespace
}  // namespace dadkit

STABLE_TORCH_LIBRARY(dadkit_emulated, m) { dadkit::define_operators(m); }
STABLE_TORCH_LIBRARY_IMPL(dadkit_emulated, CPU, m) { dadkit::implement<dadkit::device::Device<dadkit::Emulator>>(m); }
