// The operators over the device kernels, for any launcher: tensors in, tensors out. No step waits for the device.
#pragma once

#include "ops_loss.h"
#include "ops_matching.h"
#include "ops_normalize.h"
#include "ops_statistics.h"

namespace dadkit {
namespace device {

// Registers them all under a launcher.
template <typename Launcher, typename Library>
void implement(Library& m) {
  m.impl("hybrid_forward", TORCH_BOX(&hybrid_forward<Launcher>));
  m.impl("hybrid_backward", TORCH_BOX(&hybrid_backward<Launcher>));
  m.impl("local_global_forward", TORCH_BOX(&local_global_forward<Launcher>));
  m.impl("local_global_backward", TORCH_BOX(&local_global_backward<Launcher>));
  m.impl("normalize_forward", TORCH_BOX(&normalize_forward<Launcher>));
  m.impl("normalize_backward", TORCH_BOX(&normalize_backward<Launcher>));
  m.impl("median_mad_forward", TORCH_BOX(&median_mad_forward<Launcher>));
  m.impl("median_mad_backward", TORCH_BOX(&median_mad_backward<Launcher>));
  m.impl("segment_statistics", TORCH_BOX(&segment_statistics<Launcher>));
  m.impl("order_statistics", TORCH_BOX(&order_statistics<Launcher>));
  m.impl("gradient_matching_forward", TORCH_BOX(&gradient_matching_forward<Launcher>));
  m.impl("gradient_matching_backward", TORCH_BOX(&gradient_matching_backward<Launcher>));
}

}  // namespace device
}  // namespace dadkit
