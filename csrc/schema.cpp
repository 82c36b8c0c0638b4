// The operators of torch.ops.dadkit.
#include "common/schema.h"

STABLE_TORCH_LIBRARY(dadkit, m) { dadkit::define_operators(m); }
