// Statistics as answers by themselves: a target's segments, order statistics, a map's median and deviation.
#include "call.h"

namespace dadkit {
namespace {

// Up to four ranks in one sweep, as if they were levels of one segment each. False where a pixel is not finite.
template <typename T>
bool four_ranks(const SegmentedImage<T>& image, const int64_t* rank, int size, int64_t count, Statistic* found) {
  Segmentation seg;
  seg.levels = seg.loss_levels = seg.contexts = size;
  seg.leaves = 1;
  int64_t within[4];
  for (int l = 0; l < size; ++l) {
    seg.context[l][0] = static_cast<int8_t>(l);
    within[l] = std::max<int64_t>(0, std::min(count - 1, rank[l]));
  }
  return OrderStatistics<T>(image.pixels(), seg, Source<T>(image.map())).compute(within, found);
}

}  // namespace

void Cpu::statistics(const Tensor& target, const Batch& batch, const GivenTensors& given, const Options& o, const StatisticsOutputs& y) {
  each_image(target, batch.images, [&](const auto& turn) {
    using T = TypeOf<decltype(turn)>;
    SegmentedImage<T> image = turn.segmented(o, target, batch);
    const RangeTask<T> range = image.range_of(Source<T>(image.map()));
    image.cut(given_row<T>(given, turn.image, o).edges, range);
    TargetSide<T> side;
    Statistic own[kMaxContexts];
    if (image.medians(Source<T>(image.map()), own)) side.compute(image, own, &range);
    std::copy(image.edges(), image.edges() + y.borders, turn.to(y.edges, y.borders));
    for (int u = 0; u < y.contexts; ++u) {
      turn.template to<int64_t>(y.count, y.contexts)[u] = side.count[u];
      turn.to(y.median, y.contexts)[u] = static_cast<T>(side.median[u]);
      turn.to(y.mad, y.contexts)[u] = static_cast<T>(side.mad[u]);
    }
    *turn.to(y.global_mad) = static_cast<T>(side.global_mad);
    *turn.template to<uint8_t>(y.flat) = side.flat;
  });
}

void Cpu::order(const Tensor& x, const Batch& batch, const Tensor& ranks, const Tensor& result) {
  const int64_t wanted = ranks.size(1);
  each_image(x, batch.images, [&](const auto& turn) {
    using T = TypeOf<decltype(turn)>;
    SegmentedImage<T> image = turn.segmented(whole_map(), x, batch);
    const RangeTask<T> range = image.range_of(Source<T>(image.map()));
    image.cut(nullptr, range);
    const int64_t* rank = data<int64_t>(ranks) + turn.image * wanted;
    T* answer = turn.to(result, wanted);
    for (int64_t from = 0; from < wanted; from += 4) {
      const int size = static_cast<int>(std::min<int64_t>(4, wanted - from));
      Statistic found[kMaxContexts];
      const bool finite = four_ranks(image, rank + from, size, range.count, found);
      for (int l = 0; l < size; ++l) {
        const T none = finite || range.count == 0 ? T(0) : std::numeric_limits<T>::quiet_NaN();
        answer[from + l] = finite && range.count > 0 ? static_cast<T>(found[l].value) : none;
      }
    }
  });
}

void Cpu::median_forward(const Tensor& x, const Batch& batch, const Tensor& median, const Tensor& mad, const Tensor& stats) {
  using namespace median_record;
  each_image(x, batch.images, [&](const auto& turn) {
    using T = TypeOf<decltype(turn)>;
    SegmentedImage<T> image = turn.segmented(whole_map(), x, batch);
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
}

void Cpu::median_backward(const Tensor& grad_median, const Tensor& grad_mad, const Tensor& x, const Batch& batch, const Tensor& stats,
                          const Tensor& result) {
  using namespace median_record;
  each_image(x, batch.images, [&](const auto& turn) {
    using T = TypeOf<decltype(turn)>;
    const double* r = turn.record_of(stats, kWidth);
    const T* values = turn.in(x, batch.n);
    const uint8_t* valid = batch.mask_of(turn.image);
    T* g = turn.to(result, batch.n);
    const double per_pixel = static_cast<double>(*turn.in(grad_mad)) / std::max(1.0, r[kCount]);
    const double at_median = static_cast<double>(*turn.in(grad_median)) - per_pixel * r[kSignSum];
    const T side = static_cast<T>(per_pixel), tie = static_cast<T>(at_median / std::max(1.0, r[kTies])), m = static_cast<T>(r[kMedian]);
    const Layout layout = Layout::of_map(batch.n);
    for_each(turn.team, layout.strips(), [&](int64_t s) {
      for (int64_t k = layout.first(s); k < layout.first(s) + layout.size(s); ++k) {
        const bool off = r[kStatus] == record::kEmpty || (valid && !valid[k]);
        const T here = values[k] > m ? side : (values[k] < m ? -side : tie);
        g[k] = off ? T(0) : (r[kStatus] == record::kPoisoned ? std::numeric_limits<T>::quiet_NaN() : here);
      }
    });
  });
}

}  // namespace dadkit
