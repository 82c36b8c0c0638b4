// The device kernels on a GPU: on the current stream of the tensors' device, with fixed launches and no wait, so a CUDA graph can hold them.
#include <cuda_runtime.h>
#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include "../device/operators.h"

namespace dadkit {
namespace {

struct CudaBlock {
  int64_t image, slice, slices;

  DADKIT_DEVICE int size() const { return device::kThreads; }
  template <typename F>
  DADKIT_DEVICE void threads(const F& f) const {
    f(static_cast<int>(threadIdx.x));
    __syncthreads();
  }
  // Whether this is the image's last block to arrive: it then sees what all others wrote. The ticket counts from zero. What a block's other
  // threads write, and here read, thread 0's fences order too: the barriers, one behind the last step and one below, pass it on.
  DADKIT_DEVICE bool last(uint32_t* ticket) const {
    __shared__ bool is_last;
    if (threadIdx.x == 0) {
      __threadfence();
      is_last = atomicAdd(ticket, 1u) == static_cast<uint32_t>(slices - 1);
      __threadfence();
    }
    __syncthreads();
    return is_last;
  }
};

template <typename Kernel>
__global__ void __launch_bounds__(device::kThreads) run_kernel(const __grid_constant__ Kernel kernel, int64_t slices) {
  __shared__ typename Kernel::Shared shared;
  kernel.run(CudaBlock{static_cast<int64_t>(blockIdx.x) / slices, static_cast<int64_t>(blockIdx.x) % slices, slices}, shared);
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

class Cuda : public device::Geometry {
 public:
  explicit Cuda(const Tensor& like) : guard_(like.get_device_index()), stream_(current_stream(like.get_device_index())) {}

  void fresh(const Tensor&) const {}

  template <typename Kernel>
  void blocks(const Kernel& kernel, int64_t images, int64_t slices) const {
    STD_TORCH_CHECK(images * slices <= 0x7fffffff, "dadkit: these maps need more blocks than a grid has");
    static_assert(sizeof(typename Kernel::Shared) < 48 * 1024, "a kernel has 48 KiB of static shared memory");
    static_assert(sizeof(Kernel) < 4000, "a kernel has 4 KiB of arguments");
    run_kernel<<<static_cast<unsigned>(images * slices), device::kThreads, 0, stream_>>>(kernel, slices);
    const cudaError_t error = cudaGetLastError();
    STD_TORCH_CHECK(error == cudaSuccess, "dadkit: a CUDA launch failed: ", cudaGetErrorString(error));
  }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
};

}  // namespace
}  // namespace dadkit

STABLE_TORCH_LIBRARY_IMPL(dadkit, CUDA, m) { dadkit::implement<dadkit::device::Device<dadkit::Cuda>>(m); }
