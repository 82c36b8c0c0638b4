// The operators over translated PTX, as dadkit_ptx: the host code of csrc/device launches, and what runs are nvcc's own kernels.
#include <cxxabi.h>
#include <torch/csrc/stable/library.h>

#include <map>
#include <memory>
#include <string>
#include <typeinfo>
#include <vector>

#include "common/operators.h"
#include "device/operators.h"
#include "runtime.h"

namespace dadkit {
namespace {

struct Count {
  int64_t launches = 0, blocks = 0;
  double warp_instructions = 0, longest_warp = 0;
  std::vector<double> by_kind;
};
std::map<std::string, Count>& counts() {
  static std::map<std::string, Count> all;
  return all;
}

class Launcher : public device::Geometry {
 public:
  explicit Launcher(const Tensor&) {}

  // A GPU's memory holds anything at first: here NaN, -1 and huge counts, so that what is read before it is written shows.
  void fresh(const Tensor& memory) const { std::memset(memory.mutable_data_ptr(), 0xff, static_cast<size_t>(memory.numel())); }

  template <typename Kernel>
  void blocks(const Kernel& kernel, int64_t images, int64_t slices) const {
    static const ptx::Kernel& found = find<Kernel>();
    run(found, &kernel, static_cast<uint32_t>(images * slices), slices);
  }

 private:
  template <typename Kernel>
  static const ptx::Kernel& find() {
    int status = 0;
    const std::unique_ptr<char, void (*)(void*)> name(abi::__cxa_demangle(typeid(Kernel).name(), nullptr, nullptr, &status), std::free);
    for (int k = 0; k < ptx::kernel_count; ++k) {
      if (std::strcmp(ptx::kernels[k].name, name.get()) != 0) continue;
      if (ptx::kernels[k].parameter_bytes != static_cast<int>(sizeof(Kernel))) {
        ptx::object("nvcc and the host differ in the size of a kernel's arguments", static_cast<unsigned>(ptx::kernels[k].parameter_bytes), sizeof(Kernel));
      }
      return ptx::kernels[k];
    }
    ptx::object((std::string("there is no kernel ") + name.get()).c_str());
  }

  static void run(const ptx::Kernel& kernel, const void* arguments, uint32_t grid, int64_t slices) {
    const size_t threads = device::kThreads, blocks = static_cast<size_t>(kernel.blocks);
    std::vector<uint32_t> counters(grid * threads * blocks);
    const uint8_t* const parameters[] = {static_cast<const uint8_t*>(arguments), reinterpret_cast<const uint8_t*>(&slices)};
    ptx::launch(grid, threads, static_cast<size_t>(kernel.shared_bytes), [&](uint8_t* shared, uint32_t block, uint32_t thread) {
      kernel.run(parameters, shared, counters.data() + (block * threads + thread) * blocks);
    });
    count(kernel, counters, grid);
  }

  // A warp issues a basic block as often as the lane that runs it most often: a lower bound where lanes of one warp diverge.
  static void count(const ptx::Kernel& kernel, const std::vector<uint32_t>& counters, uint32_t grid) {
    const size_t blocks = static_cast<size_t>(kernel.blocks), kinds = static_cast<size_t>(ptx::kind_count);
    Count& c = counts()[kernel.name];
    c.by_kind.resize(kinds);
    ++c.launches;
    c.blocks += grid;
    for (size_t warp = 0; warp < grid * (device::kThreads / 32); ++warp) {
      double whole = 0;
      for (size_t b = 0; b < blocks; ++b) {
        uint32_t most = 0;
        for (size_t lane = 0; lane < 32; ++lane) most = std::max(most, counters[(warp * 32 + lane) * blocks + b]);
        if (most == 0) continue;
        for (size_t k = 0; k < kinds; ++k) {
          const double instructions = static_cast<double>(most) * kernel.mix[b * kinds + k];
          c.by_kind[k] += instructions;
          whole += instructions;
        }
      }
      c.warp_instructions += whole;
      c.longest_warp = std::max(c.longest_warp, whole);
    }
  }
};

}  // namespace
}  // namespace dadkit

// What has run since the last call, as JSON: per kernel launches, blocks, instructions of all warps, of the longest warp, and by kind.
extern "C" __attribute__((visibility("default"))) const char* dadkit_ptx_report() {
  static std::string text;
  text = "{";
  for (const auto& [name, c] : dadkit::counts()) {
    text += (text.size() > 1 ? ", " : "") + std::string("\"") + name + "\": {\"launches\": " + std::to_string(c.launches) +
            ", \"blocks\": " + std::to_string(c.blocks) + ", \"warp_instructions\": " + std::to_string(c.warp_instructions) +
            ", \"longest_warp\": " + std::to_string(c.longest_warp) + ", \"by_kind\": {";
    bool first = true;
    for (size_t k = 0; k < c.by_kind.size(); ++k) {
      if (c.by_kind[k] == 0) continue;
      text += (first ? "\"" : ", \"") + std::string(ptx::kinds[k]) + "\": " + std::to_string(c.by_kind[k]);
      first = false;
    }
    text += "}}";
  }
  text += "}";
  dadkit::counts().clear();
  return text.c_str();
}

STABLE_TORCH_LIBRARY(dadkit_ptx, m) { dadkit::define_operators(m); }
STABLE_TORCH_LIBRARY_IMPL(dadkit_ptx, CPU, m) { dadkit::implement<dadkit::device::Device<dadkit::Launcher>>(m); }
