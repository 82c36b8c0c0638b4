// Patches that read the student's map through boxes: where they read it, and the gradient gathered back.
#pragma once

#include "loss.h"

namespace dadkit::device {

// Which two pixels every row and column of a patch reads, with the roundings of the reference, in T; and for every row and column of the
// map how many of the patch's begin below it: `first` never falls, so those that read a map row form one run.
//   patches x 1 · no shared memory · writes two tables of the patch's sides and two of the map's · 0.01 M
template <typename T>
struct Taps {
  Boxes<T> boxes;
  int64_t height, width;
   // of a patch
  struct Shared {};

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared&) const {
    const int64_t b = block.image;
    const T* box = boxes.at + 4 * b;
    const bool present = boxes.present(b);
    Tap<T>*rows = boxes.row_tap + b * height, *cols = boxes.col_tap + b * width;
    for_each(block, height, [&](int64_t j) { rows[j] = present ? tap(j, box[1], box[3], height, boxes.height) : Tap<T>{}; });
    for_each(block, width, [&](int64_t j) { cols[j] = present ? tap(j, box[0], box[2], width, boxes.width) : Tap<T>{}; });
    int32_t *row_start = boxes.row_start + b * (boxes.height + 2), *col_start = boxes.col_start + b * (boxes.width + 2);
    for_each(block, boxes.height + 2, [&](int64_t y) { row_start[y] = below(rows, height, y); });
    for_each(block, boxes.width + 2, [&](int64_t x) { col_start[x] = below(cols, width, x); });
  }

 private:
  static DADKIT_DEVICE Tap<T> tap(int64_t j, T low, T high, int64_t grid, int64_t side) {
    const T position = tap_position(j, low, high, grid, side);
    const T whole = floor(position);
    return {static_cast<int32_t>(whole), position - whole};
  }
  static DADKIT_DEVICE int32_t below(const Tap<T>* taps, int64_t count, int64_t value) {
    int64_t low = 0, high = count;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (taps[middle].first < value) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return static_cast<int32_t>(low);
  }
};

// The map's gradient, tile by tile of the map. Per patch, in order, the slopes of the patch's pixels that read the tile are computed into
// shared memory, piece by piece, and every pixel of the map adds those that read it, in order: no atomics, one fixed sum.
//   images x tiles of 32 x 4 · 8 KiB · reads the patches' targets about twice, writes the map's gradient · 6.8 M a patch
template <typename T>
struct PatchGradient {
  static constexpr int kPieceRows = 16, kPieceCols = 64;
  static constexpr int kTerms = 128;

  Maps<T> maps;
  Cut<T> cut;
  LossUpstream<T> upstream;
  Output<T> gradient;  // [maps, boxes.height, boxes.width]
  int tile_width, tile_height;

  struct Shared {
    Rule<T> rule;
    T slope[kPieceRows][kPieceCols];
    T sum[kThreads];
    Terms<T> terms[kTerms];
  };

  template <typename Block>
  DADKIT_DEVICE void run(const Block& block, Shared& shared) const {
    const int64_t b = block.image, across = (maps.boxes.width + tile_width - 1) / tile_width;
    const int64_t y0 = block.slice / across * tile_height, x0 = block.slice % across * tile_width;
    block.threads([&](int t) { shared.sum[t] = T(0); });
    for (int64_t k = b * maps.boxes.per_map; k < (b + 1) * maps.boxes.per_map; ++k) add_patch(block, shared, k, y0, x0);
    block.threads([&](int t) {
      const int64_t y = y0 + t / tile_width, x = x0 + t % tile_width;
      if (y < maps.boxes.height && x < maps.boxes.width) gradient.set((b * maps.boxes.height + y) * maps.boxes.width + x, shared.sum[t]);
    });
  }

 private:
  template <typename Block>
  DADKIT_DEVICE void add_patch(const Block& block, Shared& shared, int64_t k, int64_t y0, int64_t x0) const {
    const int entries = cut.seg.leaves * cut.seg.levels;
    const Terms<T>* terms = entries <= kTerms ? shared.terms : cut.terms + k * entries;
    const PixelGradient<T, LossUpstream<T>> slope(maps, cut, shared.rule, terms, upstream, k);
    if (!slope.some && !slope.poisoned) return;
    const int32_t *row_start = maps.boxes.row_start + k * (maps.boxes.height + 2), *col_start = maps.boxes.col_start + k * (maps.boxes.width + 2);
    const int64_t y1 = y0 + tile_height < maps.boxes.height ? y0 + tile_height : maps.boxes.height;
    const int64_t x1 = x0 + tile_width < maps.boxes.width ? x0 + tile_width : maps.boxes.width;
    const int64_t row_lo = row_start[y0 > 0 ? y0 - 1 : 0], row_hi = row_start[y1];
    const int64_t col_lo = col_start[x0 > 0 ? x0 - 1 : 0], col_hi = col_start[x1];
    if (row_lo >= row_hi || col_lo >= col_hi) return;
    shared.rule.load(cut, k, block);
    if (slope.some && entries <= kTerms) for_each(block, entries, [&](int j) { shared.terms[j] = cut.terms[k * entries + j]; });
    for (int64_t row = row_lo; row < row_hi; row += kPieceRows) {
      for (int64_t col = col_lo; col < col_hi; col += kPieceCols) {
        const int64_t rows = row_hi - row < kPieceRows ? row_hi - row : kPieceRows, cols = col_hi - col < kPieceCols ? col_hi - col : kPieceCols;
        for_each(block, static_cast<int>(rows * cols), [&](int j) {
          const int r = j / static_cast<int>(cols), q = j % static_cast<int>(cols);
          const int64_t i = (row + r) * maps.width + col + q;
          const bool on = maps.valid(k, i), read = on && slope.some;
          shared.slope[r][q] = slope(i, on, read ? maps.target[k * maps.n + i] : T(0), read ? maps.sampled(k, i) : T(0));
        });
        block.threads([&](int t) { gather(shared, t, k, y0, x0, row, rows, col, cols); });
      }
    }
  }

  DADKIT_DEVICE void gather(Shared& shared, int t, int64_t k, int64_t y0, int64_t x0, int64_t row, int64_t rows, int64_t col, int64_t cols) const {
    const int64_t y = y0 + t / tile_width, x = x0 + t % tile_width;
    if (y >= maps.boxes.height || x >= maps.boxes.width) return;
    const int32_t *row_start = maps.boxes.row_start + k * (maps.boxes.height + 2), *col_start = maps.boxes.col_start + k * (maps.boxes.width + 2);
    const int64_t row_end = row + rows < row_start[y + 1] ? row + rows : row_start[y + 1];
    const int64_t col_end = col + cols < col_start[x + 1] ? col + cols : col_start[x + 1];
    const int64_t row_lo = row_start[y > 0 ? y - 1 : 0], col_lo = col_start[x > 0 ? x - 1 : 0];
    T sum = shared.sum[t];
    for (int64_t r = row > row_lo ? row : row_lo; r < row_end; ++r) {
      const T down = share(maps.boxes.row_tap[k * maps.height + r], y);
      if (down == 0) continue;
      T line = 0;
      for (int64_t q = col > col_lo ? col : col_lo; q < col_end; ++q) {
        const T along = share(maps.boxes.col_tap[k * maps.width + q], x);
        if (along != 0) line += along * shared.slope[r - row][q - col];
      }
      sum += down * line;
    }
    shared.sum[t] = sum;
  }

  static DADKIT_DEVICE T share(const Tap<T>& tap, int64_t at) { return tap.first == at ? 1 - tap.frac : (tap.first + 1 == at ? tap.frac : T(0)); }
};

}  // namespace dadkit::device
