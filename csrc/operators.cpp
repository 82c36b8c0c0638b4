// The operators of torch.ops.dadkit, and the CPU's.
#include "common/operators.h"
#include "cpu/call.h"

STABLE_TORCH_LIBRARY(dadkit, m) {
  dadkit::define_operators(m);
  dadkit::define_means(m);
}
STABLE_TORCH_LIBRARY_IMPL(dadkit, CPU, m) {
  dadkit::implement<dadkit::Cpu>(m);
  dadkit::implement_means<dadkit::Cpu>(m);
}
