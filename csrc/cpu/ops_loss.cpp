// The hybrid loss of maps, and of patches that read the student's maps through boxes.
#include "call.h"
#include "hybrid.h"
#include "patch.h"

namespace dadkit {
namespace {

template <typename T>
Patch<T> patch_of(const LossMaps& maps, const Batch& batch, int64_t i) {
  const int64_t height = maps.pred.size(1), width = maps.pred.size(2);
  const T* map = data<T>(maps.pred) + i / maps.target.size(1) * height * width;
  return Patch<T>(map, height, width, batch.height, batch.width, data<T>(*maps.boxes) + i * 4);
}

template <typename T>
void absent(const LossAnswer<T>& y, int64_t n, int64_t record_width, double* r) {
  std::fill(r, r + record_width, 0.0);
  r[record::kStatus] = record::kEmpty;
  *y.total = *y.number = T(0);
  if (y.map) std::fill(y.map, y.map + n, T(0));
  if (y.counted) std::memset(y.counted, 0, static_cast<size_t>(n));
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
  for_each(image->pixels().team, bands, [&](int64_t band) {
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

// The gradient to a map, from the record that forward left.
template <typename T>
void map_gradient(SegmentedImage<T>* image, const T* pred, const Upstream<T>& upstream, const double* r, T* g) {
  if (r[record::kStatus] != record::kFine || r[record::kFlatPred] != 0 || r[record::kNumber] == 0) {
    const T fill = r[record::kStatus] == record::kPoisoned ? std::numeric_limits<T>::quiet_NaN() : T(0);
    for (int64_t k = 0; k < image->pixels().layout.n; ++k) g[k] = image->is_valid(k) ? fill : T(0);
    return;
  }
  HybridGradient<T>(image, upstream).of_map(Source<T>(pred), r, g);
}

template <typename AnyTurn>
void patches_backward(const AnyTurn& turn, const LossMaps& maps, const Batch& batch, const Tensor& grad, bool per_pixel, const Tensor& stats,
                      const Options& o, const Tensor& result) {
  using T = TypeOf<AnyTurn>;
  const int64_t per_image = maps.target.size(1), area = maps.pred.size(1) * maps.pred.size(2);
  T* gradient = turn.to(result, area);
  std::fill(gradient, gradient + area, T(0));
  AnyTurn one = turn;  // a patch's
  for (int64_t k = 0; k < per_image; ++k) {  // in this order, always
    one.image = turn.image * per_image + k;
    const double* r = one.record_of(stats, record::width(o));
    const bool fine = r[record::kStatus] == record::kFine;
    if (r[record::kStatus] == record::kEmpty || r[record::kFlatPred] != 0 || (fine && r[record::kNumber] == 0)) continue;
    Patch<T> patch = patch_of<T>(maps, batch, one.image);
    if (!fine) {
      poison_touched(patch.task, batch.mask_of(one.image), gradient);
      continue;
    }
    patch.build_adjoint();
    SegmentedImage<T> image = one.segmented(o, one.in(maps.target, batch.n), batch, Layout::of_patch(batch.height, batch.width));
    const Upstream<T> upstream{per_pixel ? T(0) : *one.in(grad), per_pixel ? one.in(grad, batch.n) : nullptr};
    patch_backward(&image, patch, upstream, r, turn.team ? static_cast<int64_t>(torch::stable::get_num_threads()) : 1, gradient);
  }
}

}  // namespace

void Cpu::loss_forward(const LossMaps& maps, const Batch& batch, const GivenTensors& given, const Options& o, const Outputs& y) {
  each_image(maps.pred, batch.images, [&](const auto& turn) {
    using T = TypeOf<decltype(turn)>;
    double* r = turn.template to<double>(y.stats, record::width(o));
    const LossAnswer<T> answer{turn.to(y.total), turn.to(y.number), y.want_map ? turn.to(y.map, batch.n) : nullptr,
                               y.want_map ? turn.template to<uint8_t>(y.counted, batch.n) : nullptr};
    const Given<T> known = given_row<T>(given, turn.image, o);
    if (!maps.boxes) {
      SegmentedImage<T> image = turn.segmented(o, maps.target, batch);
      return HybridLoss<T>(&image).forward(Source<T>(turn.in(maps.pred, batch.n)), known, answer, r);
    }
    if (!Patch<T>::present(turn.in(*maps.boxes, 4))) return absent(answer, batch.n, record::width(o), r);
    const Patch<T> patch = patch_of<T>(maps, batch, turn.image);
    SegmentedImage<T> image = turn.segmented(o, turn.in(maps.target, batch.n), batch, Layout::of_patch(batch.height, batch.width));
    HybridLoss<T>(&image).forward(Source<T>(&patch.task, turn.sweeps), known, answer, r);
  });
}

void Cpu::loss_backward(const LossMaps& maps, const Batch& batch, const Tensor& grad, bool per_pixel, const Tensor& stats, const Options& o,
                        const Tensor& result) {
  each_image(maps.pred, maps.pred.size(0), [&](const auto& turn) {
    if (maps.boxes) {
      patches_backward(turn, maps, batch, grad, per_pixel, stats, o, result);
    } else {
      using T = TypeOf<decltype(turn)>;
      SegmentedImage<T> image = turn.segmented(o, maps.target, batch);
      const Upstream<T> upstream{per_pixel ? T(0) : *turn.in(grad), per_pixel ? turn.in(grad, batch.n) : nullptr};
      map_gradient(&image, turn.in(maps.pred, batch.n), upstream, turn.record_of(stats, record::width(o)), turn.to(result, batch.n));
    }
  });
}

// An image's gradient is written while its maps are in the cache.
void Cpu::hybrid_mean(const LossMaps& maps, const Batch& batch, const GivenTensors& given, const Options& o, const MeanOutputs& y) {
  mean_of_images(maps.pred, batch.images, y.loss, [&](const auto& turn) {
    using T = TypeOf<decltype(turn)>;
    std::vector<double> r(static_cast<size_t>(record::width(o)));
    SegmentedImage<T> image = turn.segmented(o, maps.target, batch);
    const T* pred = turn.in(maps.pred, batch.n);
    T total, number;
    HybridLoss<T>(&image).forward(Source<T>(pred), given_row<T>(given, turn.image, o), {&total, &number, nullptr, nullptr}, r.data());
    number = std::max(T(1), number);
    const T share = T(1) / static_cast<T>(batch.images) / number;
    if (y.want_gradient) map_gradient(&image, pred, Upstream<T>{share, nullptr}, r.data(), turn.to(y.gradient, batch.n));
    return total / number;
  });
}

}  // namespace dadkit
