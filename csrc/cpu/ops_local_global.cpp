// local_global_forward, local_global_backward
#include "call.h"
#include "hybrid.h"
#include "hybrid_gradient.h"
#include "patch.h"

namespace dadkit {
namespace {

// The student's maps (B, H, W) beside the teacher's patches (B, N, h, w), a box for each.
struct Patches {
  Maps maps;
  int64_t images, height, width, area, per_image;

  Patches(const Tensor& pred, const Tensor& target, const Tensor& boxes, const Maybe& mask)
      : maps(target, "target", mask, 4) {
    check_map(pred, "pred", 3);
    check_same_type(target, pred, "target");
    check_same_type(boxes, pred, "boxes");
    images = pred.size(0);
    height = pred.size(1);
    width = pred.size(2);
    area = height * width;
    per_image = target.size(1);
    STD_TORCH_CHECK(target.size(0) == images && boxes.numel() == maps.images * 4 && boxes.is_contiguous(), "boxes must be (B, N, 4)");
  }
  Layout layout() const { return Layout::of_patch(maps.h, maps.w); }
  template <typename T>
  Patch<T> patch(const Tensor& pred, const Tensor& boxes, int64_t i) const {
    return Patch<T>(data<T>(pred) + i / per_image * area, height, width, maps.h, maps.w, data<T>(boxes) + i * 4);
  }
};

template <typename T>
void absent(const LossAnswer<T>& y, int64_t n, int64_t record_width, double* r) {
  std::fill(r, r + record_width, 0.0);
  r[record::kStatus] = record::kEmpty;
  *y.total = *y.number = T(0);
  if (y.map) std::fill(y.map, y.map + n, T(0));
  if (y.counted) std::memset(y.counted, 0, static_cast<size_t>(n));
}

LossOutputs local_global_forward(Tensor pred, Tensor target, Tensor boxes, Maybe mask, Maybe edges, Maybe count, Maybe median, Maybe mad,
                                 Maybe global_mad, Maybe flat, Ints segments, int64_t partition, int64_t variant, int64_t min_pixels,
                                 double mad_floor, bool want_map) {
  const Patches all(pred, target, boxes, mask);
  const Maps& maps = all.maps;
  const Options o = options_of(segments, partition, variant, min_pixels, mad_floor, false);
  const GivenTensors given{edges, count, median, mad, global_mad, flat};
  given.check(maps.images, o, pred);
  const Outputs y(target, {all.images, all.per_image}, o, want_map);
  each_image(pred, maps.images, [&](const auto& turn) {
    using T = TypeOf<decltype(turn)>;
    double* r = turn.template to<double>(y.stats, record::width(o));
    const LossAnswer<T> answer{turn.to(y.total), turn.to(y.number), want_map ? turn.to(y.map, maps.n) : nullptr,
                               want_map ? turn.template to<uint8_t>(y.counted, maps.n) : nullptr};
    if (!Patch<T>::present(turn.in(boxes, 4))) return absent(answer, maps.n, record::width(o), r);
    const Patch<T> patch = all.patch<T>(pred, boxes, turn.image);
    SegmentedImage<T> image = turn.segmented(o, turn.in(target, maps.n), maps, all.layout());
    HybridLoss<T>(&image).forward(Source<T>(&patch.task, turn.sweeps), given_row<T>(given, turn.image, o), answer, r);
  });
  return y.all();
}

// A poisoned patch: every pixel of the map that a valid sample reads with a weight above zero.
template <typename T>
void poison_touched(const PatchTask<T>& task, const uint8_t* mask, T* gradient) {
  const T nan = std::numeric_limits<T>::quiet_NaN();
  for (int64_t i = 0; i < task.h * task.w; ++i) {
    if (mask && !mask[i]) continue;
    const int64_t y = i / task.w, x = i % task.w;
    for (int64_t row = task.row[y]; row <= task.row[y] + (task.row_frac[y] > 0); ++row)
      for (int64_t col = task.col[x]; col <= task.col[x] + (task.col_frac[x] > 0); ++col) gradient[row * task.width + task.col_lo + col] = nan;
  }
}

// Adds a patch's gradient to the map's, in bands of rows.
template <typename T>
void patch_backward(SegmentedImage<T>* image, const Patch<T>& patch, const Upstream<T>& upstream, const double* r, int64_t bands, T* gradient) {
  const PatchTask<T>& task = patch.task;
  const Sweeps<T>& sweeps = image->sweeps();
  image->cut_again(r);
  const HybridGradient<T> slopes(image, upstream);
  const GradientTask<T> constants = slopes.coefficients(Source<T>(&task, &sweeps), r);
  for_each(bands > 1, bands, [&](int64_t band) {
    const int64_t lo = band * task.height / bands, hi = (band + 1) * task.height / bands;
    Adjoint<T> adjoint(sweeps, task, patch.line_size(), lo, hi, gradient);
    std::vector<T> line(static_cast<size_t>(task.col_hi - task.col_lo + 2)), pixels(static_cast<size_t>(task.w)), slope(pixels);
    for (int64_t row = 0; row < task.h; ++row) {
      if (task.row[row] + 1 < lo || task.row[row] >= hi) continue;
      sweeps.sample(&task, row, 1, line.data(), pixels.data());
      slopes.of_block(pixels.data(), row * task.w, task.w, constants, slope.data());
      adjoint.add(row, slope.data());
    }
  });
}

Tensor local_global_backward(Tensor grad, Tensor pred, Tensor target, Tensor boxes, Maybe mask, Tensor stats, Ints segments, int64_t partition,
                             int64_t variant, double mad_floor, bool detach_median) {
  const Patches all(pred, target, boxes, mask);
  const Maps& maps = all.maps;
  check_same_type(grad, pred, "grad");
  const Options o = options_of(segments, partition, variant, 0, mad_floor, detach_median);
  const bool per_pixel = grad.dim() == 4;
  STD_TORCH_CHECK(grad.is_contiguous() && grad.numel() == maps.images * (per_pixel ? maps.n : 1), "grad must be (B, N) or (B, N, h, w)");
  check_stats(stats, pred, maps.images, record::width(o));
  Tensor result = torch::stable::new_empty(pred, Ints{all.images, all.height, all.width});
  const int64_t threads = static_cast<int64_t>(torch::stable::get_num_threads());
  each_image(pred, all.images, [&](const auto& turn) {
    using T = TypeOf<decltype(turn)>;
    T* gradient = turn.to(result, all.area);
    std::fill(gradient, gradient + all.area, T(0));
    Turn<T> one = turn;  // a patch's
    for (int64_t k = 0; k < all.per_image; ++k) {  // in this order, always
      one.image = turn.image * all.per_image + k;
      const double* r = one.record_of(stats, record::width(o));
      const bool fine = r[record::kStatus] == record::kFine;
      if (r[record::kStatus] == record::kEmpty || r[record::kFlatPred] != 0 || (fine && r[record::kNumber] == 0)) continue;
      Patch<T> patch = all.patch<T>(pred, boxes, one.image);
      if (!fine) {
        poison_touched(patch.task, maps.mask_of(one.image), gradient);
        continue;
      }
      patch.build_adjoint();
      SegmentedImage<T> image = one.segmented(o, one.in(target, maps.n), maps, all.layout());
      const Upstream<T> upstream{per_pixel ? T(0) : *one.in(grad), per_pixel ? one.in(grad, maps.n) : nullptr};
      patch_backward(&image, patch, upstream, r, turn.parallel ? threads : 1, gradient);
    }
  });
  return result;
}

}  // namespace
}  // namespace dadkit

STABLE_TORCH_LIBRARY_IMPL(dadkit, CPU, m) {
  m.impl("local_global_forward", TORCH_BOX(&dadkit::local_global_forward));
  m.impl("local_global_backward", TORCH_BOX(&dadkit::local_global_backward));
}
