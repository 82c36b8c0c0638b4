// What was compiled, for `dadkit doctor`. A module of its own: the operators' library holds no Python symbols and this one no torch.
#include <pybind11/pybind11.h>

#include "cpu/isa.h"

#define DADKIT_TEXT_(x) #x
#define DADKIT_TEXT(x) DADKIT_TEXT_(x)

PYBIND11_MODULE(_build_info, m) {
  m.doc() = "What the compiled operators of dadkit were built for.";
  m.attr("kernels") = DADKIT_TEXT(DADKIT_KERNELS_VERSION);
  m.attr("torch_target") = DADKIT_TEXT(DADKIT_TORCH_TARGET);
  m.attr("cuda_architectures") = DADKIT_TEXT(DADKIT_CUDA_ARCHITECTURES);
  m.attr("cuda_version") = DADKIT_TEXT(DADKIT_CUDA_VERSION);
  m.attr("compiler") = __VERSION__;
  m.def("instruction_sets", &dadkit::compiled_isas, "Instruction sets compiled in, separated by spaces.");
  m.def("active_instruction_set", &dadkit::active_isa, "The one that this processor gets.");
}
