// What one sweep over the pixels needs to know and what it gives back. Plain data: every unit shares these definitions.
//
// A pixel carries its leaf, the number of the finest segment it lies in (255: none, or invalid); a level's segments are unions of
// leaves. So all constants are tables over (level, leaf), and a segment's sum is the sum over its leaves.
#pragma once

#include <cstdint>

#include "../common/segmentation.h"

namespace dadkit {

template <typename T>
struct Table {
  T at[kMaxLevels][kMaxLeaves];
};

template <typename T>
struct RangeTask {
  T lo, hi;       // over valid pixels; (inf, -inf) when there is none
  int64_t count;  // valid pixels
  bool finite;    // whether all of them are
};

// Order statistics. A pixel strictly inside its bracket is a candidate and is stored; of all pixels the sum of |x - pivot| is kept, and how
// many lie under the bracket's upper end.
template <typename T>
struct SelectTask {
  int levels;
  Table<T> lo, hi, pivot;
  Table<double> deviation;
  Table<int64_t> reached;
  int context[kMaxLevels][kMaxLeaves];
  T* end[kMaxContexts + 1];  // where the next candidate of a context goes; the last belongs to leaves without one
};

// sum of |N(p) - N(d)|, of sign(N(p) - N(d)) and of sign * N(p), with or without weights per pixel
template <typename T>
struct LossTask {
  int levels;
  Table<T> m_p, inv_p, m_d, inv_d;
  T share[kMaxLeaves];  // 1 / number of kept segments of a pixel
  double abs_sum[kMaxLeaves];
  Table<double> sign_sum, z_sum;
};

// the gradient: side * sign(e) + mad * sign(p - m) + tie * [p = m], summed over the levels
template <typename T>
struct GradientTask {
  int levels;
  Table<T> m_p, inv_p, m_d, inv_d, side, mad, tie;
};

// N(x) of every level, and the vector-Jacobian product with upstream gradients u: sums of u and of u * N(x), then
// side * u + mad * sign(x - m) + tie * [x = m]
template <typename T>
struct NormalizeTask {
  int levels, upstreams;  // upstreams: the first of the levels, those that have upstream gradients
  Table<T> m, inv, side, mad, tie;
  Table<double> u_sum, z_sum;
  int64_t pitch;  // between the levels of out and of upstream
};

// A patch that reads the student's map through a box: taps of every column and row (first index and weight of the second)
template <typename T>
struct PatchTask {
  const T* map;
  int64_t height, width;  // of the map
  int64_t h, w;           // of the patch
  const int32_t* col;     // w + padding
  const T* col_frac;
  const int32_t* row;  // h
  const T* row_frac;
  int32_t col_lo, col_hi;  // columns of the map that are read: [col_lo, col_hi]
  // the adjoint of the columns: map column col_lo + k collects patch columns first[k] + 0, 1, …, depth - 1 with these weights
  const int32_t* first;
  const T* weight;  // depth x pitch
  int depth;
  int64_t pitch;
};

// R = N(p) - N(d) of whole maps, and the constants of its gradient
template <typename T>
struct ResidualTask {
  T m_p, inv_p, m_d, inv_d;
  T side, mad, tie;
};

// A row of residuals, its neighbours and their weights
template <typename T>
struct DifferenceRows {
  const T *residual, *next, *previous;
  const T *weight, *weight_previous;  // or nullptr: 1
};

template <typename T>
struct Sweeps {
  void (*range)(const T* x, const uint8_t* mask, int64_t n, RangeTask<T>* out);
  // leaf = number of edges that d reaches (at_edge: d >= edge; else d > edge); also counts the pixels of every leaf,
  // unless counts is nullptr
  void (*leaves)(const T* d, const uint8_t* mask, int64_t n, const T* edges, int n_edges, bool at_edge, uint8_t* leaf, int64_t* counts);
  void (*select)(const T* x, const uint8_t* leaf, int64_t n, SelectTask<T>* task);
  // among the pixels whose leaf is a member: how many are under, and how many equal to, a value
  void (*count)(const T* x, const uint8_t* leaf, int64_t n, const uint8_t* member, T value, int64_t* under, int64_t* equal);
  void (*loss)(const T* p, const T* d, const uint8_t* leaf, int64_t n, LossTask<T>* task, T* map);
  void (*weighted_sums)(const T* p, const T* d, const uint8_t* leaf, const T* weight, int64_t n, LossTask<T>* task);
  void (*gradient)(const T* p, const T* d, const uint8_t* leaf, const T* weight, int64_t n, const GradientTask<T>* task, T* out);
  void (*normalize)(const T* x, const uint8_t* leaf, int64_t n, const NormalizeTask<T>* task, T* out);
  void (*normalize_sums)(const T* x, const uint8_t* leaf, const T* upstream, int64_t n, NormalizeTask<T>* task);
  void (*normalize_gradient)(const T* x, const uint8_t* leaf, const T* upstream, int64_t n, const NormalizeTask<T>* task, T* out);
  // plain arrays: keep what lies strictly between lo and hi (in place is allowed), count what is at or under lo
  int64_t (*filter)(const T* x, int64_t n, T lo, T hi, T* out, int64_t* below);
  // sums of |x - m| and |x - pivot|, and how many are under, and how many equal to, m
  void (*deviation)(const T* x, int64_t n, T m, T pivot, double* from_m, double* from_pivot, int64_t* under, int64_t* equal);
  // rows [row, row + rows) of a patch; scratch holds one row of the map's columns
  void (*sample)(const PatchTask<T>* patch, int64_t row, int64_t rows, T* scratch, T* out);
  // out[k] += sum over taps of weight * line[first[k] + tap]
  void (*adjoint_row)(const PatchTask<T>* patch, const T* line, T* out);
  void (*add_scaled)(const T* x, T scale, int64_t n, T* out);
  // gradient matching, see sweeps_matching.h
  void (*residual)(const T* p, const T* d, const uint8_t* mask, int64_t n, const ResidualTask<T>* task, T* residual);
  void (*halve)(const T* row, int64_t n, T outside, T* out);
  double (*differences)(const DifferenceRows<T>* rows, int64_t n, T* steps, T scale, const T* coarser, T* slopes);
  double (*slope)(const T* p, const T* slope, const T* residual, int64_t n, const ResidualTask<T>* task, T* out);
  void (*residual_gradient)(const T* p, int64_t n, const ResidualTask<T>* task, T* out);
};

// nullptr where the unit was not compiled or the processor lacks it
const Sweeps<float>* sweeps_plain(float);
const Sweeps<double>* sweeps_plain(double);
const Sweeps<float>* sweeps_avx2(float);
const Sweeps<double>* sweeps_avx2(double);
const Sweeps<float>* sweeps_avx512(float);
const Sweeps<double>* sweeps_avx512(double);

}  // namespace dadkit
