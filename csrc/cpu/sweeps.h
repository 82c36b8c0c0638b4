// All sweeps over pixels, written once over the vector type of vec.h and compiled once per instruction set, as a table.
#pragma once

#include "sweeps_loss.h"
#include "sweeps_matching.h"
#include "sweeps_order.h"
#include "sweeps_patch.h"
#include "sweeps_range.h"

namespace dadkit::DADKIT_UNIT {

template <typename V>
const Sweeps<typename V::Scalar>* table() {
  static const Sweeps<typename V::Scalar> sweeps = {
      range_sweep<V>,
      leaves_sweep<V>,
      select_sweep<V>,
      count_sweep<V>,
      loss_sweep<V>,
      weighted_sums_sweep<V>,
      gradient_sweep<V>,
      normalize_sweep<V>,
      normalize_sums_sweep<V>,
      normalize_gradient_sweep<V>,
      filter_sweep<V>,
      deviation_sweep<V>,
      sample_rows<V>,
      adjoint_row_sweep<V>,
      add_scaled_sweep<V>,
      residual_sweep<V>,
      halve_sweep<V>,
      differences_sweep<V>,
      slope_sweep<V>,
      residual_gradient_sweep<V>,
  };
  return &sweeps;
}

}  // namespace dadkit::DADKIT_UNIT
