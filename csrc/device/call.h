// From tensors to the kernels' arguments, and the launches that several operators share.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <limits>
#include <tuple>
#include <type_traits>

#include "../common/arguments.h"
#include "bracket.h"
#include "deviation.h"
#include "patch.h"
#include "range.h"
#include "search.h"
#include "slopes.h"

namespace dadkit {
namespace device {

// Kernels over levels are compiled for one level, for three and, for all else, for as many as there can be.
template <typename T, typename F>
void by_levels(int levels, const F& f) {
  if constexpr (sizeof(T) == 4) {  // doubles are no hot path
    if (levels == 1) return f(std::integral_constant<int, 1>());
    if (levels <= 3) return f(std::integral_constant<int, 3>());
  }
  return f(std::integral_constant<int, kMaxLevels>());
}

template <typename T>
int level_capacity(int levels) {
  return sizeof(T) == 4 && levels <= 3 ? (levels == 1 ? 1 : 3) : kMaxLevels;
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

using LossOutputs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// Options of what treats a map as one segment.
inline Options whole_map() { return options_of({1}, kRange, kDadkit, 0, 0, false); }

inline void check_pair(const Tensor& pred, const Tensor& target) {
  check_map(pred, "pred", 3);
  check_like(target, pred, "target");
  check_same_type(target, pred, "target");
}

template <typename T>
const T* borders_of(const Maybe& edges, const Options& o) {
  return edges && o.partition != kGrid ? data<T>(*edges) : nullptr;
}

struct Memory {
  Tensor zeroed, work;
};

struct Shape {
  int64_t images, height, width;
};

inline Shape shape_of(const Tensor& x) { return {x.size(0), x.size(1), x.size(2)}; }

// pred may be nullptr where only the target matters
template <typename T>
Call<T> call_of(const T* pred, const T* target, const uint8_t* mask, Shape shape, const Options& o, int64_t (*slice)(int64_t pixels)) {
  Call<T> c{};
  c.pred = pred;
  c.target = target;
  c.mask = mask;
  c.images = shape.images;
  c.height = shape.height;
  c.width = shape.width;
  c.n = shape.height * shape.width;
  c.slice = slice(c.images * c.n);
  c.slices = c.n > 0 ? (c.n + c.slice - 1) / c.slice : 1;
  c.sides[kTarget] = true;
  c.sides[kPred] = pred != nullptr;
  auto aligned = [](const void* p, uintptr_t to) { return reinterpret_cast<uintptr_t>(p) % to == 0; };
  c.groups = c.n % kGroup == 0 && aligned(pred, 16) && aligned(target, 16) && aligned(mask, kGroup);
  c.options = o;
  c.finest = o.finest();
  c.seg.build(o, o.variant == kHdn && o.partition == kRange);  // the doubled leaves may stay empty
  return c;
}

// Runs f with a kernel's (levels, whether it is plain), as two compile-time constants.
template <typename T, typename F>
void by_walk(const Call<T>& c, const F& f) {
  if constexpr (sizeof(T) == 4) {
    if (is_plain(c) && c.seg.levels == 1 && c.seg.leaves == 1) return f(std::integral_constant<int, 1>(), std::true_type());
    if (is_plain(c)) return f(std::integral_constant<int, 3>(), std::true_type());
  }
  by_levels<T>(c.seg.levels, [&](auto levels) { f(levels, std::false_type()); });
}

// Memory for everything of `c` that is a state; histograms and lists only where medians are searched; `values` sums an image at least. Keep the
// answer until the launches are made: it belongs to the stream, so it may then be let go. Tickets and counts begin at zero in every call,
// and in every replay of a graph, since zeroing them is one of its nodes.
template <typename Launcher, typename T>
Memory allocate(const Launcher& launch, Call<T>* c, const Tensor& like, bool search, int values = 0) {
  Call<T>& k = *c;
  k.values = std::max(values, k.seg.leaves * (1 + 4 * level_capacity<T>(k.seg.levels)));
  auto zeroed = [&](Arena& a) {
    a.place(&k.image, k.images);
    a.place(&k.context, k.images * k.seg.contexts);
    if (search) a.place(&k.histogram, k.images * k.seg.contexts * kSides * kBins);
  };
  auto work = [&](Arena& a) {
    a.place(&k.terms, k.images * k.seg.leaves * k.seg.levels);
    a.place(&k.share, k.images * k.seg.leaves);
    a.place(&k.sums, k.images * k.values);
    a.place(&k.partial, k.images * k.slices * k.values);
    if (search && sizeof(T) == 4) {
      k.capacity = static_cast<uint32_t>(k.n / 8 + 1024);
      a.place(&k.listed, k.images * std::min(k.seg.contexts, kPlainContexts) * kSides * k.capacity);
    }
    if (!k.boxes) return;
    if (search) a.place(&k.resampled, k.images * k.n);
    a.place(&k.row_tap, k.images * k.height);
    a.place(&k.col_tap, k.images * k.width);
    a.place(&k.row_start, k.images * (k.map_height + 2));
    a.place(&k.col_start, k.images * (k.map_width + 2));
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

template <typename Launcher, typename T>
void launch_range(const Launcher& launch, const Call<T>& c, const T* edges) {
  if constexpr (sizeof(T) == 4) {
    if (is_plain(c)) return launch.blocks(Range<T, true>{c, edges}, c.images, c.slices);
  }
  launch.blocks(Range<T, false>{c, edges}, c.images, c.slices);
}

template <typename Launcher, typename T>
void launch_search(const Launcher& launch, const Call<T>& c, const int64_t* ranks, int64_t ranks_stride) {
  for (int pass = 0; pass < Search<T>::kPasses; ++pass) launch.blocks(Search<T>{c, pass, ranks, ranks_stride}, c.images, c.slices);
}

// Ranges, borders, medians, deviations, denominators, constants. Behind it `c` reads its own pixels only, not through boxes.
template <typename Launcher, typename T>
void launch_statistics(const Launcher& launch, Call<T>* call, const T* edges, const Known<T>& known) {
  Call<T>& c = *call;
  if (c.boxes) launch.blocks(Taps<T>{c}, c.images, 1);
  launch_range(launch, c, edges);
  if (c.boxes) {
    c.pred = c.resampled;
    c.resampled = nullptr;
    c.through_boxes = false;
    c.groups = c.n % kGroup == 0 && c.mask == nullptr && reinterpret_cast<uintptr_t>(c.target) % 16 == 0;
  }
  const Denominators<T> denominators{c, known, std::numeric_limits<T>::epsilon()};
  by_walk(c, [&](auto levels, auto plain) {
    constexpr int kLevels = decltype(levels)::value;
    if constexpr (decltype(plain)::value) {
      launch.blocks(Sample<T>{c}, c.images, c.seg.contexts);
      launch.blocks(Collect<T, kLevels>{c}, c.images, c.slices);
      launch.blocks(Select<T, kLevels>{c, denominators}, c.images, c.seg.contexts);
    } else {
      launch_search(launch, c, nullptr, 0);
      launch.blocks(Deviation<T, kLevels>{c, denominators}, c.images, c.slices);
    }
  });
}

// What backward needs again. total: the gradient of every image's total, or nullptr where every pixel has its own upstream gradient.
template <typename Launcher, typename T, typename Upstream>
void launch_prepare(const Launcher& launch, const Call<T>& c, const double* stats, const T* total, const Upstream& upstream) {
  if (c.boxes) launch.blocks(Taps<T>{c}, c.images, 1);
  launch.blocks(Prepare<T>{c, stats, total}, c.images, 1);
  if (total) return;
  by_levels<T>(c.seg.levels, [&](auto levels) {
    launch.blocks(UpstreamSums<T, decltype(levels)::value, Upstream>{c, upstream}, c.images, c.slices);
  });
}

}  // namespace device
}  // namespace dadkit
