// What the operators take, checked, and what they answer with.
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

inline Options options_of(const Ints& segments, int64_t partition, int64_t variant, int64_t min_pixels, double mad_floor,
                          bool detach_median = false) {
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

// What a map is computed in: half precision in float32.
inline ScalarType computed_type(const Tensor& x) { return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float; }

inline void check_map(const Tensor& x, const char* name, int64_t dim, bool half = false) {
  STD_TORCH_CHECK(x.dim() == dim && x.is_contiguous(), name, " must be contiguous with ", dim, " dimensions, got ", x.dim());
  const ScalarType type = x.scalar_type();
  const bool full = type == ScalarType::Float || type == ScalarType::Double;
  STD_TORCH_CHECK(full || (half && (type == ScalarType::Half || type == ScalarType::BFloat16)), name, " must be float32 or float64",
                  half ? ", float16 or bfloat16" : "");
}

// Of what treats a map as one segment.
inline Options whole_map() { return options_of({1}, kRange, kDadkit, 0, 0); }

inline void check_device(const Tensor& x, const Tensor& map, const char* name) {
  STD_TORCH_CHECK(x.get_device_index() == map.get_device_index(), name, " must be on the maps' device");
}

inline void check_like(const Tensor& x, const Tensor& map, const char* name) {
  check_device(x, map, name);
  STD_TORCH_CHECK(x.numel() == map.numel() && x.is_contiguous(), name, " must be contiguous and as large as the maps");
}

// What belongs to a map has the dtype in which the map is computed.
inline void check_type(const Tensor& x, const Tensor& map, const char* name) {
  check_device(x, map, name);
  STD_TORCH_CHECK(x.scalar_type() == computed_type(map), name, " must have the maps' dtype (float32 beside half precision)");
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

// Calls f with a value of the type in which the map is computed.
template <typename F>
void by_type(const Tensor& map, const F& f) {
  if (map.scalar_type() == ScalarType::Double) {
    f(double());
  } else {
    f(float());
  }
}

// A batch of maps (B, H, W), or of patches (B, N, h, w), with their mask.
struct Batch {
  int64_t images, height, width, n;
  const uint8_t* mask;

  Batch(const Tensor& x, const Maybe& mask_of_x)
      : images(x.dim() == 3 ? x.size(0) : x.size(0) * x.size(1)), height(x.size(x.dim() - 2)), width(x.size(x.dim() - 1)), n(height * width),
        mask(mask_data(mask_of_x, x)) {}
  const uint8_t* mask_of(int64_t image) const { return mask ? mask + image * n : nullptr; }
};

// What a loss compares: maps (B, H, W), or through boxes (B, N, 4) of the student's maps the teacher's patches (B, N, h, w).
struct LossMaps {
  const Tensor &pred, &target;
  const Tensor* boxes;  // nullptr: maps
  const Maybe& mask;

  void check(bool half) const {
    check_map(pred, "pred", 3, half);
    check_map(target, "target", boxes ? 4 : 3, half);
    check_device(target, pred, "target");
    STD_TORCH_CHECK(computed_type(target) == computed_type(pred), "target must have the maps' dtype");
    if (!boxes) return check_like(target, pred, "target");
    check_type(*boxes, pred, "boxes");
    STD_TORCH_CHECK(target.size(0) == pred.size(0) && boxes->numel() == pred.size(0) * target.size(1) * 4 && boxes->is_contiguous(),
                    "boxes must be (B, N, 4)");
    STD_TORCH_CHECK(pred.numel() > 0 || target.numel() == 0, "patches cannot read a map without pixels");
  }
  Batch batch() const { return Batch(target, mask); }
  // of what has a loss of its own: the maps, (B), or the patches, (B, N)
  Ints losses() const { return boxes ? Ints{target.size(0), target.size(1)} : Ints{target.size(0)}; }
};

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
      if (*x) check_type(**x, map, "target statistics");
    for (const Maybe* x : {&count, &flat})
      if (*x) check_device(**x, map, "target statistics");
    STD_TORCH_CHECK(!count || count->scalar_type() == ScalarType::Long, "target statistics: count must be int64");
    STD_TORCH_CHECK(!flat || flat->scalar_type() == ScalarType::Bool, "target statistics: flat must be bool");
    STD_TORCH_CHECK(!median || (count && mad && global_mad && flat), "target statistics: all or none");
  }
};

// Target statistics of which only the borders may be given.
inline GivenTensors only_edges(const Maybe& edges) {
  static const Maybe none;
  return {edges, none, none, none, none, none};
}

// ------------------------------------------------------------------------------------------------ answers
using LossOutputs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

inline Ints with(Ints shape, int64_t last) {
  shape.push_back(last);
  return shape;
}

// Of a loss over `maps`: totals and numbers (sums), and a record of `width` doubles for each of `rows`.
struct Outputs {
  bool want_map;
  Tensor total, number, map, counted, stats;

  Outputs(const Tensor& maps, const Ints& sums, const Ints& rows, int64_t width, bool wanted)
      : want_map(wanted),
        total(torch::stable::new_empty(maps, sums, computed_type(maps))),
        number(torch::stable::new_empty(maps, sums, computed_type(maps))),
        map(torch::stable::new_empty(maps, map_shape(maps), computed_type(maps))),
        counted(torch::stable::new_empty(maps, map_shape(maps), ScalarType::Bool)),
        stats(torch::stable::new_empty(maps, with(rows, width), ScalarType::Double)) {}

  Ints map_shape(const Tensor& maps) const { return want_map ? Ints(maps.sizes().begin(), maps.sizes().end()) : Ints{0}; }
  LossOutputs all() const { return {total, number, map, counted, stats}; }
};

// Of the mean of a loss.
struct MeanOutputs {
  bool want_gradient;
  Tensor loss, gradient;

  MeanOutputs(const Tensor& pred, bool wanted)
      : want_gradient(wanted),
        loss(torch::stable::new_empty(pred, Ints{})),
        gradient(wanted ? torch::stable::empty_like(pred) : torch::stable::new_empty(pred, Ints{0})) {}

  std::tuple<Tensor, Tensor> all() const { return {loss, gradient}; }
};

// Of target statistics, as TargetStats holds them.
struct StatisticsOutputs {
  int64_t borders, contexts;
  Tensor edges, count, median, mad, global_mad, flat;

  StatisticsOutputs(const Tensor& target, int64_t images, const Options& o)
      : borders(o.partition == kGrid ? 0 : o.finest() + 1),
        contexts(o.contexts()),
        edges(torch::stable::new_empty(target, Ints{images, borders})),
        count(torch::stable::new_empty(target, Ints{images, contexts}, ScalarType::Long)),
        median(torch::stable::new_empty(target, Ints{images, contexts})),
        mad(torch::stable::new_empty(target, Ints{images, contexts})),
        global_mad(torch::stable::new_empty(target, Ints{images})),
        flat(torch::stable::new_empty(target, Ints{images}, ScalarType::Bool)) {}

  std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> all() const { return {edges, count, median, mad, global_mad, flat}; }
};

inline void check_scales(int64_t scales) { STD_TORCH_CHECK(scales >= 1 && scales <= 32, "there can be 1 to 32 scales, got ", scales); }

}  // namespace dadkit
