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
using Tensors = std::vector<Tensor>;
using Ints = std::vector<int64_t>;

// given: partition, variant, min_pixels, detach_median, and the levels of segments
inline Options options_of(const Ints& given, double mad_floor = 0) {
  STD_TORCH_CHECK(given.size() >= 5 && given.size() <= 8, "options must hold four numbers and one to four levels, got ", given.size());
  STD_TORCH_CHECK(given[0] >= 0 && given[0] <= 2 && (given[1] == 0 || given[1] == 1), "unknown partition or variant");
  Options o{{}, static_cast<int>(given.size()) - 4, static_cast<Partition>(given[0]), static_cast<Variant>(given[1]), given[2], mad_floor, given[3] != 0};
  for (int l = 0; l < o.n_segments; ++l) {
    const int64_t s = given[static_cast<size_t>(l) + 4];
    STD_TORCH_CHECK(s == 1 || s == 2 || s == 4 || s == 8, "a level must be 1, 2, 4 or 8, got ", s);
    o.segments[l] = static_cast<int>(s);
  }
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
inline Options whole_map() { return options_of({kRange, kDadkit, 0, 0, 1}); }

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

// As large as x. (torch::stable::empty_like looks its operator up by name.)
inline Tensor empty_as(const Tensor& x) { return torch::stable::new_empty(x, x.sizes()); }

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
  const Maybe &boxes, &mask;  // no boxes: maps

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
// Those that are not given are nullptr.
struct GivenTensors {
  const Tensor *edges = nullptr, *count = nullptr, *median = nullptr, *mad = nullptr, *global_mad = nullptr, *flat = nullptr;

  explicit GivenTensors(const Maybe& borders) : edges(borders ? &*borders : nullptr) {}
  // none, the borders alone, or all, in the order of TargetStats
  explicit GivenTensors(const Tensors& known) {
    STD_TORCH_CHECK(known.size() <= 1 || known.size() == 6, "target statistics must be none, edges, or all six, got ", known.size());
    const Tensor** at[] = {&edges, &count, &median, &mad, &global_mad, &flat};
    for (size_t k = 0; k < known.size(); ++k) *at[k] = &known[k];
  }

  void check(int64_t images, const Options& o, const Tensor& map) const {
    auto column = [&](const Tensor* x, int64_t size, ScalarType type, const char* name) {
      if (!x) return;
      check_device(*x, map, "target statistics");
      STD_TORCH_CHECK(x->numel() == images * size && x->is_contiguous() && x->scalar_type() == type, "target statistics: ", name,
                      " must be contiguous, with ", size, " values per map, in the maps' dtype (count: int64, flat: bool)");
    };
    column(edges, o.partition == kGrid ? 0 : o.finest() + 1, computed_type(map), "edges");
    column(count, o.contexts(), ScalarType::Long, "count");
    column(median, o.contexts(), computed_type(map), "median");
    column(mad, o.contexts(), computed_type(map), "mad");
    column(global_mad, 1, computed_type(map), "global_mad");
    column(flat, 1, ScalarType::Bool, "flat");
  }
};

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
        gradient(wanted ? empty_as(pred) : torch::stable::new_empty(pred, Ints{0})) {}

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
