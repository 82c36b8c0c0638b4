// What every operator checks of its arguments, and what it answers with.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>
#include <vector>

#include "record.h"

namespace dadkit {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Maybe = std::optional<Tensor>;
using Ints = std::vector<int64_t>;

inline Options options_of(const Ints& segments, int64_t partition, int64_t variant, int64_t min_pixels, double mad_floor, bool detach_median) {
  STD_TORCH_CHECK(!segments.empty() && segments.size() <= 4, "segments must hold one to four levels, got ", segments.size());
  Options o{};
  for (size_t l = 0; l < segments.size(); ++l) {
    const int64_t s = segments[l];
    STD_TORCH_CHECK(s == 1 || s == 2 || s == 4 || s == 8, "a level must be 1, 2, 4 or 8, got ", s);
    o.segments[l] = static_cast<int>(s);
  }
  o.n_segments = static_cast<int>(segments.size());
  STD_TORCH_CHECK(partition >= 0 && partition <= 2 && (variant == 0 || variant == 1), "unknown partition or variant");
  o.partition = static_cast<Partition>(partition);
  o.variant = static_cast<Variant>(variant);
  o.min_pixels = min_pixels;
  o.mad_floor = mad_floor;
  o.detach_median = detach_median;
  return o;
}

inline void check_map(const Tensor& x, const char* name, int64_t dim) {
  STD_TORCH_CHECK(x.dim() == dim && x.is_contiguous(), name, " must be contiguous with ", dim, " dimensions, got ", x.dim());
  STD_TORCH_CHECK(x.scalar_type() == ScalarType::Float || x.scalar_type() == ScalarType::Double, name, " must be float32 or float64");
}

inline void check_device(const Tensor& x, const Tensor& map, const char* name) {
  STD_TORCH_CHECK(x.get_device_index() == map.get_device_index(), name, " must be on the maps' device");
}

inline void check_like(const Tensor& x, const Tensor& map, const char* name) {
  check_device(x, map, name);
  STD_TORCH_CHECK(x.numel() == map.numel() && x.is_contiguous(), name, " must be contiguous and as large as the maps");
}

inline void check_same_type(const Tensor& x, const Tensor& map, const char* name) {
  check_device(x, map, name);
  STD_TORCH_CHECK(x.scalar_type() == map.scalar_type(), name, " must have the maps' dtype");
}

// The rows of doubles that a forward left for its backward.
inline void check_stats(const Tensor& stats, const Tensor& map, int64_t images, int64_t width) {
  check_device(stats, map, "stats");
  STD_TORCH_CHECK(stats.scalar_type() == ScalarType::Double && stats.is_contiguous() && stats.numel() == images * width,
                  "stats do not belong to these options: expected contiguous float64, ", width, " values per map");
}

inline void check_ranks(const Tensor& ranks, const Tensor& map, int64_t images) {
  check_device(ranks, map, "ranks");
  STD_TORCH_CHECK(ranks.dim() == 2 && ranks.size(0) == images && ranks.is_contiguous() && ranks.scalar_type() == ScalarType::Long,
                  "ranks must be contiguous int64 (B, R)");
}

template <typename T>
const T* data(const Tensor& x) {
  return static_cast<const T*>(x.const_data_ptr());
}
template <typename T>
T* out(const Tensor& x) {
  return static_cast<T*>(x.mutable_data_ptr());
}
inline const uint8_t* mask_data(const Maybe& mask, const Tensor& map) {
  if (!mask) return nullptr;
  check_like(*mask, map, "mask");
  STD_TORCH_CHECK(mask->scalar_type() == ScalarType::Bool, "mask must be bool");
  return static_cast<const uint8_t*>(mask->const_data_ptr());
}

// Calls f with a value of the map's type.
template <typename F>
void by_type(const Tensor& map, const F& f) {
  if (map.scalar_type() == ScalarType::Double) {
    f(double());
  } else {
    f(float());
  }
}

// ------------------------------------------------------------------------------------------------ target statistics, passed in
struct GivenTensors {
  const Maybe &edges, &count, &median, &mad, &global_mad, &flat;

  void check(int64_t images, const Options& o, const Tensor& map) const {
    const int64_t borders = o.partition == kGrid ? 0 : o.finest() + 1, contexts = o.contexts();
    auto column = [&](const Maybe& x, int64_t size, const char* name) {
      if (x) STD_TORCH_CHECK(x->numel() == images * size && x->is_contiguous(), "target statistics: ", name, " must hold ", size, " values per map");
    };
    column(edges, borders, "edges");
    column(count, contexts, "count");
    column(median, contexts, "median");
    column(mad, contexts, "mad");
    column(global_mad, 1, "global_mad");
    column(flat, 1, "flat");
    for (const Maybe* x : {&edges, &median, &mad, &global_mad})
      if (*x) check_same_type(**x, map, "target statistics");
    for (const Maybe* x : {&count, &flat})
      if (*x) check_device(**x, map, "target statistics");
    STD_TORCH_CHECK(!count || count->scalar_type() == ScalarType::Long, "target statistics: count must be int64");
    STD_TORCH_CHECK(!flat || flat->scalar_type() == ScalarType::Bool, "target statistics: flat must be bool");
    STD_TORCH_CHECK(!median || (count && mad && global_mad && flat), "target statistics: all or none");
  }
};

struct Outputs {
  Tensor total, number, map, counted, stats;

  Outputs(const Tensor& target, const Ints& images_shape, const Options& o, bool want_map)
      : total(torch::stable::new_empty(target, images_shape)),
        number(torch::stable::new_empty(target, images_shape)),
        map(torch::stable::new_empty(target, want_map ? Ints(target.sizes().begin(), target.sizes().end()) : Ints{0})),
        counted(torch::stable::new_empty(target, want_map ? Ints(target.sizes().begin(), target.sizes().end()) : Ints{0}, ScalarType::Bool)),
        stats(torch::stable::new_empty(target, with(images_shape, record::width(o)), ScalarType::Double)) {}

  static Ints with(Ints shape, int64_t last) {
    shape.push_back(last);
    return shape;
  }
  std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> all() const { return {total, number, map, counted, stats}; }
};

inline void check_scales(int64_t scales) { STD_TORCH_CHECK(scales >= 1 && scales <= 32, "there can be 1 to 32 scales, got ", scales); }

struct MatchingOutputs {
  Tensor total, number, map, counted, stats;

  MatchingOutputs(const Tensor& pred, int64_t scales, bool want_map)
      : total(torch::stable::new_empty(pred, Ints{pred.size(0), scales})),
        number(torch::stable::new_empty(pred, Ints{pred.size(0), scales})),
        map(torch::stable::new_empty(pred, want_map ? Ints(pred.sizes().begin(), pred.sizes().end()) : Ints{0})),
        counted(torch::stable::new_empty(pred, want_map ? Ints(pred.sizes().begin(), pred.sizes().end()) : Ints{0}, ScalarType::Bool)),
        stats(torch::stable::new_empty(pred, Ints{pred.size(0), matching_record::width(scales)}, ScalarType::Double)) {}

  std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> all() const { return {total, number, map, counted, stats}; }
};

}  // namespace dadkit
