// The device kernels' backend of the operators, for any launcher: memory, and which kernels run after each other. No step waits for the device.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <limits>
#include <type_traits>

#include "../common/operators.h"
#include "bracket.h"
#include "loss.h"
#include "matching.h"
#include "patch.h"

namespace dadkit::device {

// ------------------------------------------------------------------------------------------------ a call and its memory
// All that kernels are given of one call.
template <typename T>
struct Call {
  Maps<T> maps;
  Cut<T> cut;
  Sums sums;
  Lists<T> lists;
  uint32_t* histogram;  // [images, seg.contexts, kSides, kBins]
  T* resampled;         // [images, n]: what pred is through the boxes
};

inline Stored stored_as(const Tensor& x) {
  const ScalarType type = x.scalar_type();
  return type == ScalarType::Half ? kHalf : (type == ScalarType::BFloat16 ? kBfloat : kFull);
}
template <typename T>
Input<T> input(const Tensor& x) {
  return {x.const_data_ptr(), stored_as(x)};
}
template <typename T>
Output<T> output(const Tensor& x) {
  return {x.mutable_data_ptr(), stored_as(x)};
}

template <typename T>
bool in_groups(const Maps<T>& maps) {
  auto aligned = [](const void* p, size_t value) { return reinterpret_cast<uintptr_t>(p) % (kGroup * value > 16 ? 16 : kGroup * value) == 0; };
  auto whole = [&](const Input<T>& x) { return aligned(x.data, x.stored == kFull ? sizeof(T) : sizeof(Half)); };
  return maps.n % kGroup == 0 && whole(maps.pred) && whole(maps.target) && aligned(maps.mask, 1);
}

// pred may be empty where only the target matters
template <typename T>
Call<T> call_of(const Input<T>& pred, const Input<T>& target, const Batch& batch, const Options& o, int64_t (*slice)(int64_t pixels)) {
  Call<T> c{};
  Maps<T>& maps = c.maps;
  maps.pred = pred;
  maps.target = target;
  maps.mask = batch.mask;
  maps.images = batch.images;
  maps.height = batch.height;
  maps.width = batch.width;
  maps.n = batch.n;
  maps.slice = slice(batch.images * batch.n);
  maps.slices = batch.n > 0 ? (batch.n + maps.slice - 1) / maps.slice : 1;
  maps.groups = in_groups(maps);
  c.cut.sides[kTarget] = true;
  c.cut.sides[kPred] = pred.data != nullptr;
  c.cut.options = o;
  c.cut.finest = o.finest();
  c.cut.seg.build(o, o.variant == kHdn && o.partition == kRange);  // the doubled leaves may stay empty
  return c;
}

template <typename T>
Call<T> call_of(const LossMaps& given, const Batch& batch, const Options& o, int64_t (*slice)(int64_t pixels)) {
  const Input<T> pred = input<T>(given.pred), target = input<T>(given.target);
  if (!given.boxes) return call_of<T>(pred, target, batch, o, slice);
  Call<T> c = call_of<T>({}, target, batch, o, slice);
  c.cut.sides[kPred] = c.maps.through_boxes = true;
  c.maps.boxes = {data<T>(*given.boxes), pred, given.target.size(1), given.pred.size(1), given.pred.size(2), nullptr, nullptr, nullptr, nullptr};
  return c;
}

// Kernels over levels are compiled for one level, for three and, for all else, for as many as there can be.
template <typename T, typename F>
void by_levels(int levels, const F& f) {
  if constexpr (sizeof(T) == 4) {  // doubles are no hot path
    if (levels == 1) return f(std::integral_constant<int, 1>());
    if (levels <= 3) return f(std::integral_constant<int, 3>());
  }
  return f(std::integral_constant<int, kMaxLevels>());
}

// Runs f with a kernel's (levels, walk), as two compile-time constants.
template <typename T, typename F>
void by_walk(const Call<T>& c, const F& f) {
  const Segmentation& seg = c.cut.seg;
  if constexpr (sizeof(T) == 4) {
    auto by_mask = [&](auto levels) {
      if (c.maps.mask) return f(levels, std::integral_constant<Walk, kMasked>());
      return f(levels, std::integral_constant<Walk, kPlain>());
    };
    if (walk_of(c.maps, c.cut) != kGeneral) {
      if (seg.levels == 1 && seg.leaves == 1) return by_mask(std::integral_constant<int, 1>());
      return by_mask(std::integral_constant<int, 3>());
    }
  }
  by_levels<T>(seg.levels, [&](auto levels) { f(levels, std::integral_constant<Walk, kGeneral>()); });
}

// Runs f with whether both maps are stored as T.
template <typename T, typename F>
void by_storage(const Maps<T>& maps, const F& f) {
  if constexpr (sizeof(T) == 4) {
    if (maps.pred.stored != kFull || maps.target.stored != kFull) return f(std::false_type());
  }
  f(std::true_type());
}

// Lays arrays out one behind the other: once to know the size, once with the memory.
class Arena {
 public:
  explicit Arena(uint8_t* base) : base_(base) {}
  template <typename U>
  void place(U** at, int64_t count) {
    size_ = (size_ + 15) / 16 * 16;
    *at = reinterpret_cast<U*>(base_ + size_);
    size_ += count * static_cast<int64_t>(sizeof(U));
  }
  int64_t size() const { return size_; }

 private:
  uint8_t* base_;
  int64_t size_ = 0;
};

struct Memory {
  Tensor zeroed, work;
};

// Memory for everything of `c` that is a state; histograms and lists only where medians are searched; `values` sums an image at least. Keep the
// answer until the launches are made: it belongs to the stream, so it may then be let go. Tickets and counts begin at zero in every call,
// and in every replay of a graph, since zeroing them is one of its nodes.
template <typename Launcher, typename T>
Memory allocate(const Launcher& launch, Call<T>* c, const Tensor& like, bool search, int64_t values = 0) {
  Cut<T>& cut = c->cut;
  Boxes<T>& boxes = c->maps.boxes;
  const int64_t images = c->maps.images, n = c->maps.n;
  by_levels<T>(cut.seg.levels, [&](auto levels) {
    c->sums.values = static_cast<int>(std::max<int64_t>(values, cut.seg.leaves * (1 + 4 * decltype(levels)::value)));
  });
  auto zeroed = [&](Arena& a) {
    a.place(&cut.image, images);
    a.place(&cut.context, images * cut.seg.contexts);
    if (search) a.place(&c->histogram, images * cut.seg.contexts * kSides * kBins);
  };
  auto work = [&](Arena& a) {
    a.place(&cut.terms, images * cut.seg.leaves * cut.seg.levels);
    a.place(&cut.share, images * cut.seg.leaves);
    a.place(&c->sums.total, images * c->sums.values);
    a.place(&c->sums.partial, images * c->maps.slices * c->sums.values);
    if (search && sizeof(T) == 4) {
      c->lists.capacity = static_cast<uint32_t>(n / 8 + 1024);
      a.place(&c->lists.at, images * std::min(cut.seg.contexts, kPlainContexts) * kSides * c->lists.capacity);
    }
    if (!boxes.at) return;
    if (search) a.place(&c->resampled, images * n);
    a.place(&boxes.row_tap, images * c->maps.height);
    a.place(&boxes.col_tap, images * c->maps.width);
    a.place(&boxes.row_start, images * (boxes.height + 2));
    a.place(&boxes.col_start, images * (boxes.width + 2));
  };
  auto make = [&](const auto& lay) {
    Arena size(nullptr);
    lay(size);
    Tensor memory = torch::stable::new_empty(like, Ints{size.size()}, ScalarType::Byte);
    Arena real(out<uint8_t>(memory));
    lay(real);
    return memory;
  };
  Memory memory{make(zeroed), make(work)};
  torch::stable::zero_(memory.zeroed);
  launch.fresh(memory.work);
  return memory;
}

// ------------------------------------------------------------------------------------------------ launches that operators share
template <typename Launcher, typename T>
void launch_taps(const Launcher& launch, const Maps<T>& maps) {
  if (maps.boxes.at) launch.blocks(Taps<T>{maps.boxes, maps.height, maps.width}, maps.images, 1);
}

template <typename Launcher, typename T>
void launch_range(const Launcher& launch, const Call<T>& c, const T* edges) {
  const Maps<T>& maps = c.maps;
  const Walk walk = sizeof(T) == 4 ? walk_of(maps, c.cut) : kGeneral;
  if constexpr (sizeof(T) == 4) {
    if (walk == kPlain) return launch.blocks(Range<T, kPlain>{maps, c.cut, edges, nullptr}, maps.images, maps.slices);
    if (walk == kMasked) return launch.blocks(Range<T, kMasked>{maps, c.cut, edges, nullptr}, maps.images, maps.slices);
  }
  launch.blocks(Range<T, kGeneral>{maps, c.cut, edges, c.resampled}, maps.images, maps.slices);
}

template <typename Launcher, typename T>
void launch_search(const Launcher& launch, const Call<T>& c, const int64_t* ranks, int64_t ranks_stride) {
  for (int pass = 0; pass < Search<T>::kPasses; ++pass) {
    launch.blocks(Search<T>{c.maps, c.cut, c.histogram, pass, ranks, ranks_stride}, c.maps.images, c.maps.slices);
  }
}

// Ranges, borders, medians, deviations, denominators, constants. Behind it `c` reads its own pixels only, not through boxes.
template <typename Launcher, typename T>
void launch_statistics(const Launcher& launch, Call<T>* call, const T* edges, const Known<T>& known) {
  Call<T>& c = *call;
  Maps<T>& maps = c.maps;
  launch_taps(launch, maps);
  launch_range(launch, c, edges);
  if (maps.through_boxes) {
    maps.pred = {c.resampled, kFull};
    maps.through_boxes = false;
    maps.groups = in_groups(maps);
  }
  const Denominators<T> denominators{known, std::numeric_limits<T>::epsilon()};
  by_walk(c, [&](auto levels, auto walk) {
    constexpr int kLevels = decltype(levels)::value;
    constexpr Walk kWalk = decltype(walk)::value;
    if constexpr (kWalk != kGeneral) {
      launch.blocks(Sample<T>{maps, c.cut}, maps.images, c.cut.seg.contexts);
      launch.blocks(Collect<T, kLevels, kWalk>{maps, c.cut, c.sums, c.lists}, maps.images, maps.slices);
      launch.blocks(Select<T, kLevels>{maps, c.cut, c.sums, c.lists, denominators}, maps.images, c.cut.seg.contexts);
    } else {
      launch_search(launch, c, nullptr, 0);
      launch.blocks(Deviation<T, kLevels>{maps, c.cut, c.sums, denominators}, maps.images, maps.slices);
    }
  });
}

// What backward needs again. total: the gradient of every image's total, or nullptr where every pixel has its own upstream gradient.
template <typename Launcher, typename T, typename Upstream>
void launch_prepare(const Launcher& launch, const Call<T>& c, const double* stats, const T* total, const Upstream& upstream) {
  launch_taps(launch, c.maps);
  launch.blocks(Prepare<T>{c.cut, stats, total}, c.maps.images, 1);
  if (total) return;
  by_levels<T>(c.cut.seg.levels, [&](auto levels) {
    launch.blocks(UpstreamSums<T, decltype(levels)::value, Upstream>{c.maps, c.cut, c.sums, upstream}, c.maps.images, c.maps.slices);
  });
}

template <typename Launcher, typename T>
void launch_gradient(const Launcher& launch, const Call<T>& c, const LossUpstream<T>& upstream, const Output<T>& gradient) {
  by_walk(c, [&](auto levels, auto walk) {
    if constexpr (decltype(walk)::value != kGeneral) {  // the gradient is new memory, and so aligned
      if (!upstream.weight) {
        return launch.blocks(PlainGradient<T, decltype(levels)::value, decltype(walk)::value>{c.maps, c.cut, gradient}, c.maps.images, c.maps.slices);
      }
    }
    launch.blocks(Gradient<T, LossUpstream<T>>{c.maps, c.cut, upstream, gradient}, c.maps.images, c.maps.slices);
  });
}

template <typename T>
const T* borders_of(const GivenTensors& given, const Options& o) {
  return given.edges && o.partition != kGrid ? data<T>(*given.edges) : nullptr;
}

// ------------------------------------------------------------------------------------------------ the backend
template <typename Launcher>
struct Device {
  static constexpr bool kReadsHalf = true;

  static void loss_forward(const LossMaps& given, const Batch& batch, const GivenTensors& known, const Options& o, const Outputs& y) {
    const Launcher launch(given.pred);
    by_type(given.pred, [&](auto zero) {
      using T = decltype(zero);
      Call<T> c = call_of<T>(given, batch, o, Launcher::slice);
      Known<T> statistics;
      if (known.median) {
        c.cut.sides[kTarget] = false;
        statistics = {data<T>(*known.median), data<T>(*known.mad), data<T>(*known.global_mad), data<uint8_t>(*known.flat)};
      }
      const Memory memory = allocate(launch, &c, given.pred, true);
      launch_statistics(launch, &c, borders_of<T>(known, o), statistics);
      by_walk(c, [&](auto levels, auto walk) {
        launch.blocks(Loss<T, decltype(levels)::value, decltype(walk)::value>{
                          c.maps, c.cut, c.sums, y.want_map ? out<T>(y.map) : nullptr, out<T>(y.total), out<T>(y.number),
                          y.want_map ? out<uint8_t>(y.counted) : nullptr, out<double>(y.stats)},
                      batch.images, c.maps.slices);
      });
    });
  }

  // grad: of the totals, or of every pixel's loss
  static void loss_backward(const LossMaps& given, const Batch& batch, const Tensor& grad, bool per_pixel, const Tensor& stats, const Options& o,
                            const Tensor& result) {
    const Launcher launch(given.pred);
    by_type(given.pred, [&](auto zero) {
      using T = decltype(zero);
      Call<T> c = call_of<T>(given, batch, o, Launcher::slice);
      const Memory memory = allocate(launch, &c, given.pred, false);
      const LossUpstream<T> upstream{per_pixel ? data<T>(grad) : nullptr};
      const Output<T> gradient = output<T>(result);
      launch_prepare(launch, c, data<double>(stats), per_pixel ? nullptr : data<T>(grad), upstream);
      if (given.boxes) {
        constexpr int kWide = Launcher::kTileWidth, kHigh = Launcher::kTileHeight;
        const int64_t tiles = ((c.maps.boxes.width + kWide - 1) / kWide) * ((c.maps.boxes.height + kHigh - 1) / kHigh);
        return launch.blocks(PatchGradient<T>{c.maps, c.cut, upstream, gradient, kWide, kHigh}, given.pred.size(0), tiles);
      }
      launch_gradient(launch, c, upstream, gradient);
    });
  }

  static void matching_forward(const LossMaps& given, const Batch& batch, int64_t scales, bool normalize, const Outputs& y) {
    const Launcher launch(given.pred);
    by_type(given.pred, [&](auto zero) {
      using T = decltype(zero);
      Call<T> c = call_of<T>(given, batch, whole_map(), Launcher::slice);
      const Memory memory = allocate(launch, &c, given.pred, true, kMatchingValues * scales);
      if (normalize) {
        launch_statistics(launch, &c, static_cast<const T*>(nullptr), Known<T>{});
      } else {
        launch_range(launch, c, static_cast<const T*>(nullptr));
      }
      const MatchingRecord record{out<double>(y.stats), static_cast<int>(scales), normalize};
      launch.blocks(MatchingHead<T>{c.cut, record}, batch.images, 1);
      by_storage(c.maps, [&](auto full) {
        constexpr bool kFullMaps = decltype(full)::value;
        launch.blocks(MatchingSums<T, kFullMaps>{c.maps, c.cut, c.sums, record, nullptr, out<T>(y.total), out<T>(y.number)}, batch.images,
                      c.maps.slices);
        if (y.want_map) {
          launch.blocks(MatchingMap<T, kFullMaps>{c.maps, record, out<T>(y.map), out<uint8_t>(y.counted)}, batch.images, c.maps.slices);
        }
      });
    });
  }

  static void matching_backward(const LossMaps& given, const Batch& batch, const Tensor& grad, bool per_pixel, const Tensor& stats, int64_t scales,
                                bool normalize, const Tensor& result) {
    const Launcher launch(given.pred);
    by_type(given.pred, [&](auto zero) {
      using T = decltype(zero);
      Call<T> c = call_of<T>(given, batch, whole_map(), Launcher::slice);
      const Memory memory = allocate(launch, &c, given.pred, false, kMatchingValues * scales);
      const T *weight = per_pixel ? data<T>(grad) : nullptr, *upstream = per_pixel ? nullptr : data<T>(grad);
      const MatchingRecord record{const_cast<double*>(data<double>(stats)), static_cast<int>(scales), normalize};
      by_storage(c.maps, [&](auto full) {
        constexpr bool kFullMaps = decltype(full)::value;
        if (weight) {
          launch.blocks(MatchingSums<T, kFullMaps>{c.maps, c.cut, c.sums, record, weight, nullptr, nullptr}, batch.images, c.maps.slices);
        } else {
          launch.blocks(MatchingPrepare<T>{c.cut, record, upstream}, batch.images, 1);
        }
        launch.blocks(MatchingGradient<T, kFullMaps>{c.maps, c.cut, record, upstream, weight, output<T>(result)}, batch.images, c.maps.slices);
      });
    });
  }

  static void normalize_forward(const Tensor& x, const Tensor& reference, const Batch& batch, const GivenTensors& given, const Options& o, const Tensor& y,
                                const Tensor& stats) {
    const Launcher launch(x);
    by_type(x, [&](auto zero) {
      using T = decltype(zero);
      Call<T> c = call_of<T>(input<T>(x), input<T>(reference), batch, o, Launcher::slice);
      c.cut.sides[kTarget] = false;
      c.cut.keep_all = true;
      const Memory memory = allocate(launch, &c, x, true);
      launch_statistics(launch, &c, borders_of<T>(given, o), Known<T>{});
      launch.blocks(Normalize<T>{c.maps, c.cut, out<T>(y), out<double>(stats)}, batch.images, c.maps.slices);
    });
  }

  static void normalize_backward(const Tensor& grad, const Tensor& x, const Tensor& reference, const Batch& batch, const Tensor& stats,
                                 const Options& o, const Tensor& result) {
    const Launcher launch(x);
    by_type(x, [&](auto zero) {
      using T = decltype(zero);
      Call<T> c = call_of<T>(input<T>(x), input<T>(reference), batch, o, Launcher::slice);
      c.cut.keep_all = true;
      c.cut.seg.loss_levels = o.n_segments;  // a border at zero belongs to the upper segment alone
      if (o.variant == kHdn) c.cut.seg.levels = o.n_segments;
      const Memory memory = allocate(launch, &c, x, false);
      const MapUpstream<T> upstream{data<T>(grad), o.n_segments};
      launch_prepare(launch, c, data<double>(stats), static_cast<const T*>(nullptr), upstream);
      launch.blocks(Gradient<T, MapUpstream<T>>{c.maps, c.cut, upstream, output<T>(result)}, batch.images, c.maps.slices);
    });
  }

  static void median_forward(const Tensor& x, const Batch& batch, const Tensor& median, const Tensor& mad, const Tensor& stats) {
    const Launcher launch(x);
    by_type(x, [&](auto zero) {
      using T = decltype(zero);
      Call<T> c = call_of<T>(input<T>(x), input<T>(x), batch, whole_map(), Launcher::slice);
      c.cut.sides[kTarget] = false;
      const Memory memory = allocate(launch, &c, x, true);
      launch_statistics(launch, &c, static_cast<const T*>(nullptr), Known<T>{});
      launch.blocks(SaveMedian<T>{c.cut, out<T>(median), out<T>(mad), out<double>(stats)}, batch.images, 1);
    });
  }

  static void median_backward(const Tensor& grad_median, const Tensor& grad_mad, const Tensor& x, const Batch& batch, const Tensor& stats,
                              const Tensor& result) {
    const Launcher launch(x);
    by_type(x, [&](auto zero) {
      using T = decltype(zero);
      const Call<T> c = call_of<T>(input<T>(x), {}, batch, whole_map(), Launcher::slice);
      launch.blocks(MedianGradient<T>{c.maps, data<T>(grad_median), data<T>(grad_mad), data<double>(stats), out<T>(result)}, batch.images,
                    c.maps.slices);
    });
  }

  static void statistics(const Tensor& target, const Batch& batch, const GivenTensors& given, const Options& o, const StatisticsOutputs& y) {
    const Launcher launch(target);
    by_type(target, [&](auto zero) {
      using T = decltype(zero);
      // a plain call looks at a pair of maps: here at the target twice, so that its statistics are to the bit those of a loss
      Call<T> c = call_of<T>(input<T>(target), input<T>(target), batch, o, Launcher::slice);
      if (sizeof(T) != 4 || walk_of(c.maps, c.cut) == kGeneral) c = call_of<T>({}, input<T>(target), batch, o, Launcher::slice);
      const Memory memory = allocate(launch, &c, target, true);
      launch_statistics(launch, &c, borders_of<T>(given, o), Known<T>{});
      launch.blocks(SaveStatistics<T>{c.cut, out<T>(y.edges), out<T>(y.median), out<T>(y.mad), out<T>(y.global_mad), out<int64_t>(y.count),
                                      out<uint8_t>(y.flat)},
                    batch.images, 1);
    });
  }

  static void order(const Tensor& x, const Batch& batch, const Tensor& ranks, const Tensor& result) {
    const Launcher launch(x);
    const int64_t wanted = ranks.size(1);
    by_type(x, [&](auto zero) {
      using T = decltype(zero);
      for (int64_t from = 0; from < wanted; from += kMaxLevels) {  // up to eight ranks at once, as if they were levels
        Call<T> c = call_of<T>({}, input<T>(x), batch, whole_map(), Launcher::slice);
        Segmentation& seg = c.cut.seg;
        seg = Segmentation();
        seg.levels = seg.loss_levels = seg.contexts = static_cast<int>(std::min<int64_t>(wanted - from, kMaxLevels));
        seg.leaves = 1;
        for (int l = 0; l < seg.levels; ++l) seg.context[l][0] = static_cast<int8_t>(l);
        const Memory memory = allocate(launch, &c, x, true);
        launch_range(launch, c, static_cast<const T*>(nullptr));
        launch_search(launch, c, data<int64_t>(ranks) + from, wanted);
        launch.blocks(SaveOrder<T>{c.cut, out<T>(result) + from, wanted}, batch.images, 1);
      }
    });
  }
};

}  // namespace dadkit::device
