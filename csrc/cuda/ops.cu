// The device kernels on a GPU: on the current stream of the tensors' device, with fixed launches and no wait, so a CUDA graph can hold them.
#include <cuda_runtime.h>
#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include "../device/ops.h"

namespace dadkit {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kPixelsPerThread = 8;

template <typename Kernel>
__global__ void over_pixels(const Kernel kernel) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  kernel.pixels(blockIdx.y, static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x, stride);
}

template <typename Kernel>
__global__ void over_images(const Kernel kernel, int64_t images) {
  const int64_t b = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (b < images) kernel.image(b);
}

template <typename Kernel>
__global__ void over_contexts(const Kernel kernel, int64_t images, int contexts) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < images * contexts) kernel.context(i / contexts, static_cast<int>(i % contexts));
}

// libtorch_cuda's own answer, looked up when it is needed: the library must load where there is no libtorch_cuda.
cudaStream_t current_stream(int32_t device) {
  using Function = int32_t (*)(int32_t, void**);
  static const Function function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, "aoti_torch_get_current_cuda_stream"));
  STD_TORCH_CHECK(function != nullptr, "dadkit: this torch has no CUDA streams (aoti_torch_get_current_cuda_stream is missing)");
  void* stream = nullptr;
  STD_TORCH_CHECK(function(device, &stream) == 0, "dadkit: the current CUDA stream cannot be found");
  return static_cast<cudaStream_t>(stream);
}

class Cuda {
 public:
  explicit Cuda(const Tensor& like) : guard_(like.get_device_index()), stream_(current_stream(like.get_device_index())) {}

  template <typename Kernel, typename T>
  void pixels(const Kernel& kernel, const device::Call<T>& c) const {
    const int64_t blocks = (c.n + kThreads * kPixelsPerThread - 1) / (kThreads * kPixelsPerThread);
    const dim3 grid(static_cast<unsigned>(blocks < 4096 ? (blocks < 1 ? 1 : blocks) : 4096), static_cast<unsigned>(c.images));
    over_pixels<<<grid, kThreads, 0, stream_>>>(kernel);
  }
  template <typename Kernel, typename T>
  void images(const Kernel& kernel, const device::Call<T>& c) const {
    over_images<<<static_cast<unsigned>((c.images + 31) / 32), 32, 0, stream_>>>(kernel, c.images);
  }
  template <typename Kernel, typename T>
  void contexts(const Kernel& kernel, const device::Call<T>& c) const {
    const int64_t all = c.images * c.seg.contexts;
    over_contexts<<<static_cast<unsigned>((all + 31) / 32), 32, 0, stream_>>>(kernel, c.images, c.seg.contexts);
  }
  void check() const {
    const cudaError_t error = cudaGetLastError();
    STD_TORCH_CHECK(error == cudaSuccess, "dadkit: a CUDA launch failed: ", cudaGetErrorString(error));
  }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
};

}  // namespace
}  // namespace dadkit

STABLE_TORCH_LIBRARY_IMPL(dadkit, CUDA, m) {
  m.impl("hybrid_forward", TORCH_BOX(&dadkit::device::hybrid_forward<dadkit::Cuda>));
  m.impl("hybrid_backward", TORCH_BOX(&dadkit::device::hybrid_backward<dadkit::Cuda>));
}
