// Reading the student's map through a box, and the adjoint of that reading.
#pragma once

#include "runs.h"

namespace dadkit::DADKIT_UNIT {

template <typename V>
void sample_rows(const PatchTask<typename V::Scalar>* patch, int64_t row, int64_t rows, typename V::Scalar* scratch, typename V::Scalar* out) {
  using T = typename V::Scalar;
  using F = typename V::F;
  const int64_t columns = patch->col_hi - patch->col_lo + 1;
  for (int64_t r = row; r < row + rows; ++r, out += patch->w) {
    const int64_t next = patch->row[r] + (patch->row_frac[r] > 0);
    const T* top = patch->map + patch->row[r] * patch->width + patch->col_lo;
    const T* bottom = patch->map + next * patch->width + patch->col_lo;
    const T f = patch->row_frac[r];
    const F down = V::set1(f), up = V::set1(1 - f), one = V::set1(1);
    int64_t x = 0;
    for (; x + V::W <= columns; x += V::W) {
      V::store(scratch + x, V::load(top + x) * up + V::load(bottom + x) * down);
    }
    for (; x < columns; ++x) scratch[x] = top[x] * (1 - f) + bottom[x] * f;
    scratch[columns] = scratch[columns - 1];
    int64_t j = 0;
    for (; j + V::W <= patch->w; j += V::W) {
      F left, right;
      V::gather_pair(scratch, patch->col + j, left, right);
      const F along = V::load(patch->col_frac + j);
      right = V::select(V::eq(along, V::zero()), left, right);  // a neighbour of weight zero is not read: it may be NaN
      V::store(out + j, left * (one - along) + right * along);
    }
    for (; j < patch->w; ++j) {
      const T along = patch->col_frac[j], left = scratch[patch->col[j]];
      out[j] = along == 0 ? left : left * (1 - along) + scratch[patch->col[j] + 1] * along;
    }
  }
}

template <typename V>
void adjoint_row_sweep(const PatchTask<typename V::Scalar>* patch, const typename V::Scalar* line, typename V::Scalar* out) {
  using T = typename V::Scalar;
  using F = typename V::F;
  const int64_t columns = patch->col_hi - patch->col_lo + 1;
  int64_t x = 0;
  for (; x + V::W <= columns; x += V::W) {
    F sum = V::load(out + x);
    for (int k = 0; k + 1 < patch->depth; k += 2) {
      F first, second;
      V::gather_pair(line + k, patch->first + x, first, second);
      sum = sum + first * V::load(patch->weight + k * patch->pitch + x);
      sum = sum + second * V::load(patch->weight + (k + 1) * patch->pitch + x);
    }
    V::store(out + x, sum);
  }
  for (; x < columns; ++x) {
    T sum = out[x];
    for (int k = 0; k < patch->depth; ++k) sum += line[patch->first[x] + k] * patch->weight[k * patch->pitch + x];
    out[x] = sum;
  }
}

template <typename V>
void add_scaled_sweep(const typename V::Scalar* x, typename V::Scalar scale, int64_t n, typename V::Scalar* out) {
  const typename V::F s = V::set1(scale);
  int64_t i = 0;
  for (; i + V::W <= n; i += V::W) V::store(out + i, V::load(out + i) + V::load(x + i) * s);
  for (; i < n; ++i) out[i] += x[i] * scale;
}

}  // namespace dadkit::DADKIT_UNIT
