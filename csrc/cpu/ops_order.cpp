// order_statistics, median_mad_forward, median_mad_backward
#include "call.h"

namespace dadkit {
namespace {

// Up to four ranks in one sweep, as if they were levels of one segment each. False where a pixel is not finite.
template <typename T>
bool four_ranks(const SegmentedImage<T>& image, OrderScratch<T>* scratch, const int64_t* rank, int size, int64_t count, Statistic* found) {
  Segmentation seg;
  seg.levels = seg.loss_levels = seg.contexts = size;
  seg.leaves = 1;
  int64_t within[4];
  for (int l = 0; l < size; ++l) {
    seg.context[l][0] = static_cast<int8_t>(l);
    within[l] = std::max<int64_t>(0, std::min(count - 1, rank[l]));
  }
  return OrderStatistics<T>(image.pixels(), seg, scratch).compute(Source<T>(image.map()), within, found);
}

Tensor order_statistics(Tensor x, Maybe mask, Tensor ranks) {
  const Maps maps(x, "x", mask);
  check_ranks(ranks, x, maps.images);
  const int64_t wanted = ranks.size(1);
  Tensor result = torch::stable::new_empty(x, Ints{maps.images, wanted});
  each_image(x, maps.images, [&](const auto& turn) {
    using T = TypeOf<decltype(turn)>;
    SegmentedImage<T> image = turn.segmented(one_segment(), x, maps);
    const RangeTask<T> range = image.range_of(Source<T>(image.map()));
    image.cut(nullptr, range);
    const int64_t* rank = data<int64_t>(ranks) + turn.image * wanted;
    T* answer = turn.to(result, wanted);
    for (int64_t from = 0; from < wanted; from += 4) {
      const int size = static_cast<int>(std::min<int64_t>(4, wanted - from));
      Statistic found[kMaxContexts];
      const bool finite = four_ranks(image, &turn.work->order, rank + from, size, range.count, found);
      for (int l = 0; l < size; ++l) {
        const T none = finite || range.count == 0 ? T(0) : std::numeric_limits<T>::quiet_NaN();
        answer[from + l] = finite && range.count > 0 ? static_cast<T>(found[l].value) : none;
      }
    }
  });
  return result;
}

// What median_mad's forward leaves for its backward, per image
enum MedianRecord { kStatus, kMedian, kCount, kSignSum, kTies, kWidth };

std::tuple<Tensor, Tensor, Tensor> median_mad_forward(Tensor x, Maybe mask) {
  const Maps maps(x, "x", mask);
  Tensor median = torch::stable::new_empty(x, Ints{maps.images}), mad = torch::stable::new_empty(x, Ints{maps.images}),
         stats = torch::stable::new_empty(x, Ints{maps.images, kWidth}, ScalarType::Double);
  each_image(x, maps.images, [&](const auto& turn) {
    using T = TypeOf<decltype(turn)>;
    SegmentedImage<T> image = turn.segmented(one_segment(), x, maps);
    const RangeTask<T> range = image.range_of(Source<T>(image.map()));
    Statistic found[kMaxContexts];
    if (range.count > 0 && range.finite) {
      image.cut(nullptr, range);
      image.medians(Source<T>(image.map()), found);
    }
    const T nan = std::numeric_limits<T>::quiet_NaN();
    const Statistic& own = found[0];
    const int64_t count = range.count;
    *turn.to(median) = range.finite ? static_cast<T>(own.value) : nan;
    *turn.to(mad) = range.finite ? static_cast<T>(own.deviation / static_cast<double>(std::max<int64_t>(1, count))) : nan;
    double* r = turn.template to<double>(stats, kWidth);
    r[kStatus] = count == 0 ? record::kEmpty : (range.finite ? record::kFine : record::kPoisoned);
    r[kMedian] = own.value;
    r[kCount] = static_cast<double>(count);
    r[kSignSum] = static_cast<double>(count - own.equal - 2 * own.under);
    r[kTies] = static_cast<double>(own.equal);
  });
  return {median, mad, stats};
}

Tensor median_mad_backward(Tensor grad_median, Tensor grad_mad, Tensor x, Maybe mask, Tensor stats) {
  const Maps maps(x, "x", mask);
  check_same_type(grad_median, x, "grad_median");
  check_same_type(grad_mad, x, "grad_mad");
  STD_TORCH_CHECK(grad_median.numel() == maps.images && grad_mad.numel() == maps.images, "gradients must be (B,)");
  check_stats(stats, x, maps.images, kWidth);
  Tensor result = torch::stable::new_empty(x, Ints{maps.images, maps.h, maps.w});
  each_image(x, maps.images, [&](const auto& turn) {
    using T = TypeOf<decltype(turn)>;
    const double* r = turn.record_of(stats, kWidth);
    const T* values = turn.in(x, maps.n);
    const uint8_t* valid = maps.mask_of(turn.image);
    T* g = turn.to(result, maps.n);
    const double per_pixel = static_cast<double>(*turn.in(grad_mad)) / std::max(1.0, r[kCount]);
    const double at_median = static_cast<double>(*turn.in(grad_median)) - per_pixel * r[kSignSum];
    const T side = static_cast<T>(per_pixel), tie = static_cast<T>(at_median / std::max(1.0, r[kTies])), m = static_cast<T>(r[kMedian]);
    const Layout layout = Layout::of_map(maps.n);
    for_each(turn.parallel, layout.strips(), [&](int64_t s) {
      for (int64_t k = layout.first(s); k < layout.first(s) + layout.size(s); ++k) {
        const bool off = r[kStatus] == record::kEmpty || (valid && !valid[k]);
        const T here = values[k] > m ? side : (values[k] < m ? -side : tie);
        g[k] = off ? T(0) : (r[kStatus] == record::kPoisoned ? std::numeric_limits<T>::quiet_NaN() : here);
      }
    });
  });
  return result;
}

}  // namespace
}  // namespace dadkit

STABLE_TORCH_LIBRARY_IMPL(dadkit, CPU, m) {
  m.impl("order_statistics", TORCH_BOX(&dadkit::order_statistics));
  m.impl("median_mad_forward", TORCH_BOX(&dadkit::median_mad_forward));
  m.impl("median_mad_backward", TORCH_BOX(&dadkit::median_mad_backward));
}
