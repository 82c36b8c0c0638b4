// A box of the student's map, read on a patch's grid, and the adjoint of that reading.
#pragma once

#include <cmath>
#include <vector>

#include "source.h"

namespace dadkit {

// One axis: which two pixels every place of a patch reads; a place on a pixel's centre reads that pixel alone.
template <typename T>
struct Taps {
  std::vector<int32_t> first;
  std::vector<T> frac;  // weight of the second pixel, first + 1

  void build(T low, T high, int64_t grid, int64_t side) {
    first.assign(static_cast<size_t>(grid), 0);
    frac.assign(static_cast<size_t>(grid), T(0));
    for (int64_t j = 0; j < grid; ++j) {
      const T position = tap_position(j, low, high, grid, side);
      const T floor = std::floor(position);
      first[static_cast<size_t>(j)] = static_cast<int32_t>(floor);
      frac[static_cast<size_t>(j)] = position - floor;
    }
  }
  int32_t lowest() const { return first.front(); }
  int32_t highest() const { return first.back() + (frac.back() > 0); }
};

template <typename T>
class Patch {
 public:
  static bool present(const T* box) { return box[2] > box[0] && box[3] > box[1]; }

  Patch(const T* map, int64_t height, int64_t width, int64_t h, int64_t w, const T* box) {
    columns_.build(box[0], box[2], w, width);
    rows_.build(box[1], box[3], h, height);
    task.map = map;
    task.height = height;
    task.width = width;
    task.h = h;
    task.w = w;
    task.col_lo = columns_.lowest();
    task.col_hi = columns_.highest();
    for (int32_t& c : columns_.first) c -= task.col_lo;
    task.col = columns_.first.data();
    task.col_frac = columns_.frac.data();
    task.row = rows_.first.data();
    task.row_frac = rows_.frac.data();
    task.first = nullptr;
    task.weight = nullptr;
    task.depth = 0;
    task.pitch = 0;
  }
  Patch(const Patch&) = delete;
  Patch& operator=(const Patch&) = delete;

  // For every map column the run of patch columns that read it, and their weights; short runs are filled up with zeros.
  void build_adjoint() {
    const int64_t columns = task.col_hi - task.col_lo + 1, w = task.w;
    first_.assign(static_cast<size_t>(columns), 0);
    std::vector<int32_t> length(static_cast<size_t>(columns), 0);
    for (int64_t j = 0; j < w; ++j) {
      for (int32_t c = task.col[j]; c <= task.col[j] + (task.col_frac[j] > 0); ++c) {
        if (length[static_cast<size_t>(c)] == 0) first_[static_cast<size_t>(c)] = static_cast<int32_t>(j);
        length[static_cast<size_t>(c)] = static_cast<int32_t>(j) - first_[static_cast<size_t>(c)] + 1;
      }
    }
    for (int32_t n : length) task.depth = std::max(task.depth, n);
    task.depth += task.depth & 1;
    task.pitch = columns;
    weight_.assign(static_cast<size_t>(columns * task.depth), T(0));
    for (int64_t j = 0; j < w; ++j) {
      const int64_t c = task.col[j];
      const T f = task.col_frac[j];
      weight_[static_cast<size_t>((j - first_[static_cast<size_t>(c)]) * columns + c)] += 1 - f;
      if (f > 0) weight_[static_cast<size_t>((j - first_[static_cast<size_t>(c + 1)]) * columns + c + 1)] += f;
    }
    task.first = first_.data();
    task.weight = weight_.data();
  }
  int64_t line_size() const { return task.w + task.depth + 2; }

  PatchTask<T> task;

 private:
  Taps<T> columns_, rows_;
  std::vector<int32_t> first_;
  std::vector<T> weight_;
};

// Adds a patch's gradient, given row by row in ascending order, to the rows [lo, hi) of the map's gradient. Rows of the patch are first
// summed into the two map rows they read, and only a finished map row is spread over the columns: each sum has one fixed order.
template <typename T>
class Adjoint {
 public:
  Adjoint(const Sweeps<T>& sweeps, const PatchTask<T>& task, int64_t line_size, int64_t lo, int64_t hi, T* gradient)
      : sweeps_(sweeps), task_(task), lo_(lo), hi_(hi), gradient_(gradient), here_(static_cast<size_t>(line_size), T(0)), next_(here_) {}
  ~Adjoint() { move_to(std::numeric_limits<int64_t>::max() - 1); }
  Adjoint(const Adjoint&) = delete;
  Adjoint& operator=(const Adjoint&) = delete;

  void add(int64_t row, const T* line) {
    move_to(task_.row[row]);
    const T down = task_.row_frac[row];
    sweeps_.add_scaled(line, 1 - down, task_.w, here_.data());
    if (down > 0) sweeps_.add_scaled(line, down, task_.w, next_.data());
  }

 private:
  void move_to(int64_t row) {
    if (row_ >= 0 && row > row_) {
      flush(row_, here_.data());
      std::swap(here_, next_);
      std::fill(next_.begin(), next_.end(), T(0));
      if (row > row_ + 1) {
        flush(row_ + 1, here_.data());
        std::fill(here_.begin(), here_.end(), T(0));
      }
    }
    row_ = row;
  }
  void flush(int64_t row, const T* line) {
    if (row < lo_ || row >= hi_ || row >= task_.height) return;
    sweeps_.adjoint_row(&task_, line, gradient_ + row * task_.width + task_.col_lo);
  }

  const Sweeps<T>& sweeps_;
  const PatchTask<T>& task_;
  int64_t lo_, hi_, row_ = -1;
  T* gradient_;
  std::vector<T> here_, next_;
};

}  // namespace dadkit
