// How an operator runs over a batch: its maps, its type, its threads.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "../common/arguments.h"
#include "dispatch.h"
#include "target.h"

namespace dadkit {

inline Options one_segment() { return options_of({1}, kRange, kDadkit, 0, 0, false); }

// A batch of maps (B, H, W), or of patches (B, N, h, w), with their mask.
struct Maps {
  int64_t images, h, w, n;
  const uint8_t* mask;

  Maps(const Tensor& x, const char* name, const Maybe& mask_of_x, int64_t dim = 3) {
    check_map(x, name, dim);
    h = x.size(dim - 2);
    w = x.size(dim - 1);
    n = h * w;
    images = dim == 3 ? x.size(0) : x.size(0) * x.size(1);
    mask = mask_data(mask_of_x, x);
  }
  const uint8_t* mask_of(int64_t image) const { return mask ? mask + image * n : nullptr; }
};

inline void check_pair(const Tensor& x, const Tensor& map, const char* name) {
  check_like(x, map, name);
  check_same_type(x, map, name);
}

// One image's turn: what its thread works with.
template <typename T>
struct Turn {
  using Type = T;
  const Sweeps<T>* sweeps;
  int64_t image;
  bool parallel;  // strips inside the image, for there are fewer images than threads
  Workspace<T>* work;

  // This image's part of a tensor with `size` values per image.
  const T* in(const Tensor& x, int64_t size = 1) const { return data<T>(x) + image * size; }
  T* to(const Tensor& x, int64_t size = 1) const { return out<T>(x) + image * size; }
  template <typename U>
  U* to(const Tensor& x, int64_t size = 1) const {
    return out<U>(x) + image * size;
  }
  const double* record_of(const Tensor& stats, int64_t width) const { return data<double>(stats) + image * width; }

  SegmentedImage<T> segmented(const Options& o, const T* map, const Maps& maps, const Layout& layout) const {
    return SegmentedImage<T>(sweeps, o, map, maps.mask_of(image), maps.h, maps.w, layout, parallel, work);
  }
  SegmentedImage<T> segmented(const Options& o, const Tensor& map, const Maps& maps) const {
    return segmented(o, in(map, maps.n), maps, Layout::of_map(maps.n));
  }
};
template <typename AnyTurn>
using TypeOf = typename std::decay_t<AnyTurn>::Type;

// Below this many pixels waking the other threads costs more than they save.
constexpr int64_t kWorthStrips = 1 << 18;

// Calls f(turn) for all images of the maps' type: images in parallel where a third of the threads gets one, else strips inside each. Strips
// gain a factor of three at most, since brackets and finishes are serial, and end in six barriers, at each of which a busy machine lets
// all threads wait for one: two or three threads leave a single image to one of them.
template <typename F>
void each_image(const Tensor& like, int64_t images, const F& f) {
  by_type(like, [&](auto zero) {
    using T = decltype(zero);
    const Sweeps<T>* with = sweeps<T>();
    const int64_t threads = torch::stable::get_num_threads(), pixels = images ? like.numel() / images : 0;
    if (images * 3 < threads && pixels >= kWorthStrips) {
      Workspace<T> work;
      for (int64_t i = 0; i < images; ++i) f(Turn<T>{with, i, true, &work});
      return;
    }
    torch::stable::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
      Workspace<T> work;
      for (int64_t i = begin; i < end; ++i) f(Turn<T>{with, i, false, &work});
    });
  });
}

template <typename T>
Given<T> given_row(const GivenTensors& t, int64_t i, const Options& o) {
  Given<T> g;
  if (t.edges && o.partition != kGrid) g.edges = data<T>(*t.edges) + i * (o.finest() + 1);
  if (!t.median) return g;
  g.median = data<T>(*t.median) + i * o.contexts();
  g.mad = data<T>(*t.mad) + i * o.contexts();
  g.global_mad = data<T>(*t.global_mad)[i];
  g.flat = data<uint8_t>(*t.flat)[i] != 0;
  return g;
}

// Target statistics of which only the borders may be given.
inline GivenTensors only_edges(const Maybe& edges) {
  static const Maybe none;
  return {edges, none, none, none, none, none};
}

using LossOutputs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

}  // namespace dadkit
