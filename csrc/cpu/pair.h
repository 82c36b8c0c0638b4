// What loss and gradient share: the constants of both maps as tables over (level, leaf), and sums over the strips.
#pragma once

#include <vector>

#include "target.h"

namespace dadkit {

// share[leaf] = 1 / number of a leaf's kept segments, 0 without any
template <typename T>
void shares_of(const Segmentation& seg, const double* r, T* share) {
  for (int c = 0; c < seg.leaves; ++c) {
    int kept = 0;
    for (int l = 0; l < seg.loss_levels; ++l) kept += is_counted(seg, l, c, r);
    share[c] = kept ? static_cast<T>(1.0 / kept) : T(0);
  }
}

// Levels that are not there get zeros, which contribute nothing.
template <typename T, typename Task>
void pair_constants(const Segmentation& seg, const double* r, int levels, Task* task) {
  *task = Task{};
  task->levels = levels;
  const bool flat = r[record::kFlatPred] != 0;
  for (int l = 0; l < levels; ++l) {
    for (int c = 0; c < seg.leaves; ++c) {
      const int u = seg.context[l][c];
      if (u == kNoContext) continue;
      task->m_p.at[l][c] = static_cast<T>(record::at(r, u, record::kMedian));
      if (l >= seg.loss_levels || !is_counted(seg, l, c, r)) continue;
      task->inv_p.at[l][c] = flat ? T(0) : static_cast<T>(1 / record::at(r, u, record::kScale));
      task->m_d.at[l][c] = static_cast<T>(record::at(r, u, record::kTargetMedian));
      task->inv_d.at[l][c] = static_cast<T>(record::at(r, u, record::kTargetInverse));
    }
  }
}

// Runs sweep(task, pixels, first, n) over all strips of pred, adds the sums of sign and sign * N to the record r, in the strips' order, and
// answers the sum of the losses.
template <typename T, typename Sweep>
double pair_sums(const SegmentedImage<T>& image, const Source<T>& pred, const T* share, double* r, const Sweep& sweep) {
  const Segmentation& seg = image.segmentation();
  const Layout& layout = image.pixels().layout;
  const bool parallel = image.pixels().parallel;
  LossTask<T> model;
  pair_constants<T>(seg, r, seg.loss_levels, &model);
  std::copy(share, share + seg.leaves, model.share);
  double sum = 0;
  auto take = [&](LossTask<T>* task) {  // and clear it
    for (int c = 0; c < seg.leaves; ++c) {
      const double part = static_cast<double>(share[c]);
      sum += part * task->abs_sum[c];
      task->abs_sum[c] = 0;
      for (int l = 0; l < seg.loss_levels; ++l) {
        if (is_counted(seg, l, c, r)) {
          record::at(r, seg.context[l][c], record::kUpstream) += part * task->sign_sum.at[l][c];
          record::at(r, seg.context[l][c], record::kUpstreamZ) += part * task->z_sum.at[l][c];
        }
        task->sign_sum.at[l][c] = task->z_sum.at[l][c] = 0;
      }
    }
  };
  // in sequence one task serves all strips
  std::vector<LossTask<T>> parts(parallel ? static_cast<size_t>(layout.strips()) : 0, model);
  for_each(parallel, layout.strips(), [&](int64_t s) {
    LossTask<T>* task = parallel ? &parts[static_cast<size_t>(s)] : &model;
    pred.blocks(layout, s, [&](const T* px, int64_t first, int64_t n) { sweep(task, px, first, n); });
    if (!parallel) take(task);
  });
  for (LossTask<T>& part : parts) take(&part);
  return sum;
}

}  // namespace dadkit
