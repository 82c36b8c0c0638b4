// The CPU side of every operator: tensors in, one image after the other, tensors out.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>

#include "../common/arguments.h"
#include "dispatch.h"
#include "hybrid.h"
#include "matching.h"
#include "normalize.h"
#include "patch.h"

namespace dadkit {
namespace {

// Calls f(image, parallel, workspace) for all images: images in parallel where there are enough, else strips inside each.
template <typename T, typename F>
void for_images(int64_t images, const F& f) {
  if (images >= static_cast<int64_t>(torch::stable::get_num_threads())) {
    torch::stable::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
      Workspace<T> work;
      for (int64_t i = begin; i < end; ++i) f(i, false, &work);
    });
    return;
  }
  Workspace<T> work;
  for (int64_t i = 0; i < images; ++i) f(i, true, &work);
}

template <typename T>
Given<T> row(const GivenTensors& t, int64_t i, const Options& o) {
  Given<T> g;
  if (t.edges && o.partition != kGrid) g.edges = data<T>(*t.edges) + i * (o.finest() + 1);
  if (!t.median) return g;
  g.count = data<int64_t>(*t.count) + i * o.contexts();
  g.median = data<T>(*t.median) + i * o.contexts();
  g.mad = data<T>(*t.mad) + i * o.contexts();
  g.global_mad = data<T>(*t.global_mad)[i];
  g.flat = data<uint8_t>(*t.flat)[i] != 0;
  return g;
}

using LossOutputs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// ------------------------------------------------------------------------------------------------ hybrid loss
LossOutputs hybrid_forward(Tensor pred, Tensor target, Maybe mask, Maybe edges, Maybe count, Maybe median, Maybe mad, Maybe global_mad, Maybe flat,
                           Ints segments, int64_t partition, int64_t variant, int64_t min_pixels, double mad_floor, bool want_map) {
  check_map(pred, "pred", 3);
  check_map(target, "target", 3);
  check_like(target, pred, "target");
  check_same_type(target, pred, "target");
  const Options o = options_of(segments, partition, variant, min_pixels, mad_floor, false);
  const int64_t images = pred.size(0), h = pred.size(1), w = pred.size(2), n = h * w;
  const GivenTensors given{edges, count, median, mad, global_mad, flat};
  given.check(images, o, pred);
  const uint8_t* valid = mask_data(mask, pred);
  const Outputs y(target, {images}, o, want_map);
  by_type(pred, [&](auto zero) {
    using T = decltype(zero);
    const Sweeps<T>* with = sweeps<T>();
    for_images<T>(images, [&](int64_t i, bool parallel, Workspace<T>* work) {
      HybridImage<T> image(with, o, data<T>(target) + i * n, valid ? valid + i * n : nullptr, h, w, Layout::of_map(n), parallel, work);
      image.forward(Source<T>(data<T>(pred) + i * n), row<T>(given, i, o), out<T>(y.total) + i, out<T>(y.number) + i,
                    want_map ? out<T>(y.map) + i * n : nullptr, want_map ? out<uint8_t>(y.counted) + i * n : nullptr,
                    out<double>(y.stats) + i * record::width(o));
    });
  });
  return y.all();
}

Tensor hybrid_backward(Tensor grad, Tensor pred, Tensor target, Maybe mask, Tensor stats, Ints segments, int64_t partition, int64_t variant,
                       double mad_floor, bool detach_median) {
  check_map(pred, "pred", 3);
  check_like(target, pred, "target");
  check_same_type(target, pred, "target");
  check_same_type(grad, pred, "grad");
  const Options o = options_of(segments, partition, variant, 0, mad_floor, detach_median);
  const int64_t images = pred.size(0), h = pred.size(1), w = pred.size(2), n = h * w;
  const bool per_pixel = grad.dim() == 3;
  STD_TORCH_CHECK(grad.is_contiguous() && grad.numel() == (per_pixel ? images * n : images), "grad must be (B,) or (B, H, W)");
  STD_TORCH_CHECK(stats.numel() == images * record::width(o) && stats.is_contiguous(), "stats do not belong to these options");
  const uint8_t* valid = mask_data(mask, pred);
  Tensor result = torch::stable::new_empty(pred, Ints{images, h, w});
  by_type(pred, [&](auto zero) {
    using T = decltype(zero);
    const Sweeps<T>* with = sweeps<T>();
    for_images<T>(images, [&](int64_t i, bool parallel, Workspace<T>* work) {
      const uint8_t* m = valid ? valid + i * n : nullptr;
      const double* r = data<double>(stats) + i * record::width(o);
      T* g = out<T>(result) + i * n;
      if (r[record::kStatus] != record::kFine || r[record::kFlatPred] != 0 || r[record::kNumber] == 0) {
        const T fill = r[record::kStatus] == record::kPoisoned ? std::numeric_limits<T>::quiet_NaN() : T(0);
        for (int64_t k = 0; k < n; ++k) g[k] = !m || m[k] ? fill : T(0);
        return;
      }
      HybridImage<T> image(with, o, data<T>(target) + i * n, m, h, w, Layout::of_map(n), parallel, work);
      image.backward(Source<T>(data<T>(pred) + i * n), per_pixel ? T(0) : data<T>(grad)[i], per_pixel ? data<T>(grad) + i * n : nullptr, r, g);
    });
  });
  return result;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> segment_statistics(Tensor target, Maybe mask, Maybe edges, Ints segments,
                                                                              int64_t partition, int64_t variant) {
  check_map(target, "target", 3);
  const Options o = options_of(segments, partition, variant, 0, 0, false);
  const int64_t images = target.size(0), h = target.size(1), w = target.size(2), n = h * w;
  const uint8_t* valid = mask_data(mask, target);
  const Maybe none;
  const GivenTensors given{edges, none, none, none, none, none};
  given.check(images, o, target);
  const int64_t borders = o.partition == kGrid ? 0 : o.finest() + 1, contexts = o.contexts();
  Tensor y_edges = torch::stable::new_empty(target, Ints{images, borders}), median = torch::stable::new_empty(target, Ints{images, contexts}),
         mad = torch::stable::new_empty(target, Ints{images, contexts}), global_mad = torch::stable::new_empty(target, Ints{images}),
         count = torch::stable::new_empty(target, Ints{images, contexts}, ScalarType::Long),
         flat = torch::stable::new_empty(target, Ints{images}, ScalarType::Bool);
  by_type(target, [&](auto zero) {
    using T = decltype(zero);
    const Sweeps<T>* with = sweeps<T>();
    for_images<T>(images, [&](int64_t i, bool parallel, Workspace<T>* work) {
      HybridImage<T> image(with, o, data<T>(target) + i * n, valid ? valid + i * n : nullptr, h, w, Layout::of_map(n), parallel, work);
      bool is_constant = false;
      image.statistics(row<T>(given, i, o).edges, out<T>(y_edges) + i * borders, out<int64_t>(count) + i * contexts, out<T>(median) + i * contexts,
                       out<T>(mad) + i * contexts, out<T>(global_mad) + i, &is_constant);
      out<uint8_t>(flat)[i] = is_constant;
    });
  });
  return {y_edges, count, median, mad, global_mad, flat};
}

Options whole_map() { return options_of({1}, kRange, kDadkit, 0, 0, false); }

Tensor order_statistics(Tensor x, Maybe mask, Tensor ranks) {
  check_map(x, "x", 3);
  const int64_t images = x.size(0), h = x.size(1), w = x.size(2), n = h * w;
  STD_TORCH_CHECK(ranks.dim() == 2 && ranks.size(0) == images && ranks.is_contiguous() && ranks.scalar_type() == ScalarType::Long,
                  "ranks must be contiguous int64 (B, R)");
  const int64_t wanted = ranks.size(1);
  const uint8_t* valid = mask_data(mask, x);
  Tensor result = torch::stable::new_empty(x, Ints{images, wanted});
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    const Sweeps<T>* with = sweeps<T>();
    for_images<T>(images, [&](int64_t i, bool parallel, Workspace<T>* work) {
      const T* values = data<T>(x) + i * n;
      HybridImage<T> image(with, whole_map(), values, valid ? valid + i * n : nullptr, h, w, Layout::of_map(n), parallel, work);
      const RangeTask<T> range = image.range_of(Source<T>(values));
      image.cut(nullptr, range);
      T* answer = out<T>(result) + i * wanted;
      for (int64_t from = 0; from < wanted; from += 4) {  // up to four ranks in one sweep, as if they were levels
        const int size = static_cast<int>(std::min<int64_t>(4, wanted - from));
        Segmentation seg;
        seg.levels = seg.loss_levels = seg.contexts = size;
        seg.leaves = 1;
        int64_t rank[4];
        for (int l = 0; l < size; ++l) {
          seg.context[l][0] = static_cast<int8_t>(l);
          rank[l] = std::max<int64_t>(0, std::min(range.count - 1, data<int64_t>(ranks)[i * wanted + from + l]));
        }
        Statistic found[kMaxContexts];
        const bool finite = OrderStatistics<T>(image.pixels(), seg, &work->order).compute(Source<T>(values), rank, found);
        for (int l = 0; l < size; ++l) {
          const T none = finite || range.count == 0 ? T(0) : std::numeric_limits<T>::quiet_NaN();
          answer[from + l] = finite && range.count > 0 ? static_cast<T>(found[l].value) : none;
        }
      }
    });
  });
  return result;
}

// ------------------------------------------------------------------------------------------------ median and deviation
std::tuple<Tensor, Tensor, Tensor> median_mad_forward(Tensor x, Maybe mask) {
  check_map(x, "x", 3);
  const int64_t images = x.size(0), h = x.size(1), w = x.size(2), n = h * w;
  const uint8_t* valid = mask_data(mask, x);
  Tensor median = torch::stable::new_empty(x, Ints{images}), mad = torch::stable::new_empty(x, Ints{images}),
         stats = torch::stable::new_empty(x, Ints{images, 5}, ScalarType::Double);
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    const Sweeps<T>* with = sweeps<T>();
    for_images<T>(images, [&](int64_t i, bool parallel, Workspace<T>* work) {
      const T* values = data<T>(x) + i * n;
      HybridImage<T> image(with, whole_map(), values, valid ? valid + i * n : nullptr, h, w, Layout::of_map(n), parallel, work);
      const RangeTask<T> range = image.range_of(Source<T>(values));
      double* r = out<double>(stats) + i * 5;
      Statistic found[kMaxContexts];
      if (range.count > 0 && range.finite) {
        image.cut(nullptr, range);
        OrderStatistics<T>(image.pixels(), image.segmentation(), &work->order).compute(Source<T>(values), nullptr, found);
      }
      const T nan = std::numeric_limits<T>::quiet_NaN();
      const int64_t count = range.count;
      out<T>(median)[i] = range.finite ? static_cast<T>(found[0].value) : nan;
      out<T>(mad)[i] = range.finite ? static_cast<T>(found[0].deviation / static_cast<double>(std::max<int64_t>(1, count))) : nan;
      r[0] = count == 0 ? record::kEmpty : (range.finite ? record::kFine : record::kPoisoned);
      r[1] = found[0].value;
      r[2] = static_cast<double>(count);
      r[3] = static_cast<double>(count - found[0].equal - 2 * found[0].under);
      r[4] = static_cast<double>(found[0].equal);
    });
  });
  return {median, mad, stats};
}

Tensor median_mad_backward(Tensor grad_median, Tensor grad_mad, Tensor x, Maybe mask, Tensor stats) {
  check_map(x, "x", 3);
  check_same_type(grad_median, x, "grad_median");
  check_same_type(grad_mad, x, "grad_mad");
  const int64_t images = x.size(0), n = x.size(1) * x.size(2);
  STD_TORCH_CHECK(grad_median.numel() == images && grad_mad.numel() == images && stats.numel() == images * 5, "gradients must be (B,)");
  const uint8_t* valid = mask_data(mask, x);
  Tensor result = torch::stable::new_empty(x, Ints(x.sizes().begin(), x.sizes().end()));
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    for_each(true, images, [&](int64_t i) {
      const double* r = data<double>(stats) + i * 5;
      const T* values = data<T>(x) + i * n;
      T* g = out<T>(result) + i * n;
      const double per_pixel = static_cast<double>(data<T>(grad_mad)[i]) / std::max(1.0, r[2]);
      const double at_median = static_cast<double>(data<T>(grad_median)[i]) - per_pixel * r[3];
      T side = static_cast<T>(per_pixel), tie = static_cast<T>(at_median / std::max(1.0, r[4]));
      const T m = static_cast<T>(r[1]);
      const bool poisoned = r[0] == record::kPoisoned;
      for (int64_t k = 0; k < n; ++k) {
        const bool off = r[0] == record::kEmpty || (valid && !valid[i * n + k]);
        const T here = values[k] > m ? side : (values[k] < m ? -side : tie);
        g[k] = off ? T(0) : (poisoned ? std::numeric_limits<T>::quiet_NaN() : here);
      }
    });
  });
  return result;
}

// ------------------------------------------------------------------------------------------------ normalised maps
std::tuple<Tensor, Tensor> normalize_forward(Tensor x, Maybe mask, Tensor reference, Maybe edges, Ints segments, int64_t partition, int64_t variant,
                                             double mad_floor) {
  check_map(x, "x", 3);
  check_like(reference, x, "reference");
  check_same_type(reference, x, "reference");
  const Options o = options_of(segments, partition, variant, 0, mad_floor, false);
  const int64_t images = x.size(0), h = x.size(1), w = x.size(2), n = h * w;
  const uint8_t* valid = mask_data(mask, x);
  const Maybe none;
  const GivenTensors given{edges, none, none, none, none, none};
  given.check(images, o, x);
  Tensor y = torch::stable::new_empty(x, Ints{images, o.n_segments, h, w}),
         stats = torch::stable::new_empty(x, Ints{images, record::width(o)}, ScalarType::Double);
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    const Sweeps<T>* with = sweeps<T>();
    for_images<T>(images, [&](int64_t i, bool parallel, Workspace<T>* work) {
      NormalizedImage<T> image(with, o, data<T>(reference) + i * n, valid ? valid + i * n : nullptr, h, w, parallel, work);
      image.forward(data<T>(x) + i * n, row<T>(given, i, o).edges, out<T>(y) + i * o.n_segments * n, out<double>(stats) + i * record::width(o));
    });
  });
  return {y, stats};
}

Tensor normalize_backward(Tensor grad, Tensor x, Maybe mask, Tensor reference, Tensor stats, Ints segments, int64_t partition, int64_t variant,
                          double mad_floor, bool detach_median) {
  check_map(x, "x", 3);
  check_like(reference, x, "reference");
  check_map(grad, "grad", 4);
  check_same_type(grad, x, "grad");
  const Options o = options_of(segments, partition, variant, 0, mad_floor, detach_median);
  const int64_t images = x.size(0), h = x.size(1), w = x.size(2), n = h * w;
  STD_TORCH_CHECK(grad.numel() == x.numel() * o.n_segments && stats.numel() == images * record::width(o), "grad and stats must fit x");
  const uint8_t* valid = mask_data(mask, x);
  Tensor result = torch::stable::new_empty(x, Ints{images, h, w});
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    const Sweeps<T>* with = sweeps<T>();
    for_images<T>(images, [&](int64_t i, bool parallel, Workspace<T>* work) {
      NormalizedImage<T> image(with, o, data<T>(reference) + i * n, valid ? valid + i * n : nullptr, h, w, parallel, work);
      image.backward(data<T>(x) + i * n, data<T>(grad) + i * o.n_segments * n, data<double>(stats) + i * record::width(o), out<T>(result) + i * n);
    });
  });
  return result;
}

// ------------------------------------------------------------------------------------------------ local-global
LossOutputs local_global_forward(Tensor pred, Tensor target, Tensor boxes, Maybe mask, Maybe edges, Maybe count, Maybe median, Maybe mad,
                                 Maybe global_mad, Maybe flat, Ints segments, int64_t partition, int64_t variant, int64_t min_pixels,
                                 double mad_floor, bool want_map) {
  check_map(pred, "pred", 3);
  check_map(target, "target", 4);
  check_same_type(target, pred, "target");
  check_same_type(boxes, pred, "boxes");
  const Options o = options_of(segments, partition, variant, min_pixels, mad_floor, false);
  const int64_t images = pred.size(0), height = pred.size(1), width = pred.size(2);
  const int64_t patches = target.size(1), h = target.size(2), w = target.size(3), n = h * w;
  STD_TORCH_CHECK(target.size(0) == images && boxes.numel() == images * patches * 4 && boxes.is_contiguous(), "boxes must be (B, N, 4)");
  const GivenTensors given{edges, count, median, mad, global_mad, flat};
  given.check(images * patches, o, pred);
  const uint8_t* valid = mask_data(mask, target);
  const Outputs y(target, {images, patches}, o, want_map);
  by_type(pred, [&](auto zero) {
    using T = decltype(zero);
    const Sweeps<T>* with = sweeps<T>();
    for_images<T>(images * patches, [&](int64_t i, bool parallel, Workspace<T>* work) {
      double* r = out<double>(y.stats) + i * record::width(o);
      T* map = want_map ? out<T>(y.map) + i * n : nullptr;
      uint8_t* counted = want_map ? out<uint8_t>(y.counted) + i * n : nullptr;
      const T* box = data<T>(boxes) + i * 4;
      if (!Patch<T>::present(box)) {
        std::fill(r, r + record::width(o), 0.0);
        r[record::kStatus] = record::kEmpty;
        out<T>(y.total)[i] = out<T>(y.number)[i] = T(0);
        if (map) std::fill(map, map + n, T(0));
        if (counted) std::memset(counted, 0, static_cast<size_t>(n));
        return;
      }
      const Patch<T> patch(data<T>(pred) + i / patches * height * width, height, width, h, w, box);
      HybridImage<T> image(with, o, data<T>(target) + i * n, valid ? valid + i * n : nullptr, h, w, Layout::of_patch(h, w), parallel, work);
      image.forward(Source<T>(&patch.task, with), row<T>(given, i, o), out<T>(y.total) + i, out<T>(y.number) + i, map, counted, r);
    });
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

template <typename T>
void patch_backward(HybridImage<T>& image, const Patch<T>& patch, const Sweeps<T>* with, T upstream, const T* weight, const double* r, int64_t bands,
                    T* gradient) {
  image.resume(r);
  GradientTask<T> constants;
  image.gradient_task(Source<T>(&patch.task, with), upstream, weight, r, &constants);
  const PatchTask<T>& task = patch.task;
  for_each(bands > 1, bands, [&](int64_t band) {
    const int64_t lo = band * task.height / bands, hi = (band + 1) * task.height / bands;
    Adjoint<T> adjoint(*with, task, patch.line_size(), lo, hi, gradient);
    std::vector<T> line(static_cast<size_t>(task.col_hi - task.col_lo + 2)), pixels(static_cast<size_t>(task.w)), slope(pixels);
    for (int64_t row = 0; row < task.h; ++row) {
      if (task.row[row] + 1 < lo || task.row[row] >= hi) continue;
      with->sample(&task, row, 1, line.data(), pixels.data());
      const int64_t first = row * task.w;
      image.gradient_of_block(pixels.data(), first, task.w, weight, constants, slope.data());
      adjoint.add(row, slope.data());
    }
  });
}

Tensor local_global_backward(Tensor grad, Tensor pred, Tensor target, Tensor boxes, Maybe mask, Tensor stats, Ints segments, int64_t partition,
                             int64_t variant, double mad_floor, bool detach_median) {
  check_map(pred, "pred", 3);
  check_map(target, "target", 4);
  check_same_type(target, pred, "target");
  check_same_type(boxes, pred, "boxes");
  check_same_type(grad, pred, "grad");
  const Options o = options_of(segments, partition, variant, 0, mad_floor, detach_median);
  const int64_t images = pred.size(0), height = pred.size(1), width = pred.size(2), area = height * width;
  const int64_t patches = target.size(1), h = target.size(2), w = target.size(3), n = h * w;
  const bool per_pixel = grad.dim() == 4;
  STD_TORCH_CHECK(grad.is_contiguous() && grad.numel() == images * patches * (per_pixel ? n : 1), "grad must be (B, N) or (B, N, h, w)");
  STD_TORCH_CHECK(stats.numel() == images * patches * record::width(o), "stats do not belong to these options");
  const uint8_t* valid = mask_data(mask, target);
  Tensor result = torch::stable::new_empty(pred, Ints{images, height, width});
  const int64_t threads = static_cast<int64_t>(torch::stable::get_num_threads());
  by_type(pred, [&](auto zero) {
    using T = decltype(zero);
    const Sweeps<T>* with = sweeps<T>();
    for_images<T>(images, [&](int64_t b, bool parallel, Workspace<T>* work) {
      T* gradient = out<T>(result) + b * area;
      std::fill(gradient, gradient + area, T(0));
      for (int64_t k = 0; k < patches; ++k) {  // in this order, always
        const int64_t i = b * patches + k;
        const double* r = data<double>(stats) + i * record::width(o);
        const uint8_t* m = valid ? valid + i * n : nullptr;
        if (r[record::kStatus] == record::kEmpty || r[record::kFlatPred] != 0 || (r[record::kStatus] == record::kFine && r[record::kNumber] == 0)) continue;
        Patch<T> patch(data<T>(pred) + b * area, height, width, h, w, data<T>(boxes) + i * 4);
        if (r[record::kStatus] == record::kPoisoned) {
          poison_touched(patch.task, m, gradient);
          continue;
        }
        patch.build_adjoint();
        HybridImage<T> image(with, o, data<T>(target) + i * n, m, h, w, Layout::of_patch(h, w), parallel, work);
        patch_backward(image, patch, with, per_pixel ? T(0) : data<T>(grad)[i], per_pixel ? data<T>(grad) + i * n : nullptr, r,
                       parallel ? threads : 1, gradient);
      }
    });
  });
  return result;
}

// ------------------------------------------------------------------------------------------------ gradient matching
LossOutputs gradient_matching_forward(Tensor pred, Tensor target, Maybe mask, int64_t scales, bool normalize, bool want_map) {
  check_map(pred, "pred", 3);
  check_like(target, pred, "target");
  check_same_type(target, pred, "target");
  check_scales(scales);
  const int64_t images = pred.size(0), h = pred.size(1), w = pred.size(2), n = h * w;
  const uint8_t* valid = mask_data(mask, pred);
  const MatchingOutputs y(pred, scales, want_map);
  by_type(pred, [&](auto zero) {
    using T = decltype(zero);
    const Sweeps<T>* with = sweeps<T>();
    for_images<T>(images, [&](int64_t i, bool parallel, Workspace<T>* work) {
      MatchingImage<T> image(with, data<T>(pred) + i * n, data<T>(target) + i * n, valid ? valid + i * n : nullptr, h, w, scales, parallel, work);
      image.forward(normalize, out<T>(y.total) + i * scales, out<T>(y.number) + i * scales, want_map ? out<T>(y.map) + i * n : nullptr,
                    want_map ? out<uint8_t>(y.counted) + i * n : nullptr, out<double>(y.stats) + i * matching_record::width(scales));
    });
  });
  return y.all();
}

Tensor gradient_matching_backward(Tensor grad, Tensor pred, Tensor target, Maybe mask, Tensor stats, int64_t scales, bool normalize) {
  check_map(pred, "pred", 3);
  check_like(target, pred, "target");
  check_same_type(target, pred, "target");
  check_same_type(grad, pred, "grad");
  check_scales(scales);
  const int64_t images = pred.size(0), h = pred.size(1), w = pred.size(2), n = h * w;
  const bool per_pixel = grad.dim() == 3;
  STD_TORCH_CHECK(grad.is_contiguous() && grad.numel() == images * (per_pixel ? n : scales), "grad must be (B, S) or (B, H, W)");
  STD_TORCH_CHECK(stats.numel() == images * matching_record::width(scales) && stats.is_contiguous(), "stats do not belong to these options");
  const uint8_t* valid = mask_data(mask, pred);
  Tensor result = torch::stable::new_empty(pred, Ints{images, h, w});
  by_type(pred, [&](auto zero) {
    using T = decltype(zero);
    const Sweeps<T>* with = sweeps<T>();
    for_images<T>(images, [&](int64_t i, bool parallel, Workspace<T>* work) {
      MatchingImage<T> image(with, data<T>(pred) + i * n, data<T>(target) + i * n, valid ? valid + i * n : nullptr, h, w, scales, parallel, work);
      image.backward(normalize, per_pixel ? nullptr : data<T>(grad) + i * scales, per_pixel ? data<T>(grad) + i * n : nullptr,
                     data<double>(stats) + i * matching_record::width(scales), out<T>(result) + i * n);
    });
  });
  return result;
}

}  // namespace
}  // namespace dadkit

STABLE_TORCH_LIBRARY_IMPL(dadkit, CPU, m) {
  m.impl("hybrid_forward", TORCH_BOX(&dadkit::hybrid_forward));
  m.impl("hybrid_backward", TORCH_BOX(&dadkit::hybrid_backward));
  m.impl("segment_statistics", TORCH_BOX(&dadkit::segment_statistics));
  m.impl("order_statistics", TORCH_BOX(&dadkit::order_statistics));
  m.impl("median_mad_forward", TORCH_BOX(&dadkit::median_mad_forward));
  m.impl("median_mad_backward", TORCH_BOX(&dadkit::median_mad_backward));
  m.impl("normalize_forward", TORCH_BOX(&dadkit::normalize_forward));
  m.impl("normalize_backward", TORCH_BOX(&dadkit::normalize_backward));
  m.impl("local_global_forward", TORCH_BOX(&dadkit::local_global_forward));
  m.impl("local_global_backward", TORCH_BOX(&dadkit::local_global_backward));
  m.impl("gradient_matching_forward", TORCH_BOX(&dadkit::gradient_matching_forward));
  m.impl("gradient_matching_backward", TORCH_BOX(&dadkit::gradient_matching_backward));
}
