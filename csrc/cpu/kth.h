// The k-th smallest of a list, by narrowing brackets: three or four sweeps over ever shorter lists.
#pragma once

#include <algorithm>
#include <limits>

#include "tasks.h"

namespace dadkit {

// Of n values in a; destroys both arrays, which are as long and have room for one vector behind.
template <typename T>
T kth_smallest(const Sweeps<T>& sweeps, T* a, int64_t n, int64_t k, T* b) {
  constexpr int kSample = 64, kHalf = 13;  // 3.3 standard deviations of a sample's median
  while (n > 384) {
    T sample[kSample];
    for (int j = 0; j < kSample; ++j) sample[j] = a[(2 * j + 1) * n / (2 * kSample)];
    std::sort(sample, sample + kSample);
    const int at = static_cast<int>(k * kSample / n);
    const T lo = at - kHalf < 0 ? -std::numeric_limits<T>::infinity() : sample[at - kHalf];
    const T hi = at + kHalf >= kSample ? std::numeric_limits<T>::infinity() : sample[at + kHalf];
    int64_t below = 0;
    const int64_t inside = sweeps.filter(a, n, lo, hi, b, &below);
    if (k >= below && k < below + inside && inside < n) {
      std::swap(a, b);
      n = inside;
      k -= below;
      continue;
    }
    for (T end : {lo, hi}) {  // many equal values: the answer may be an end of the bracket
      double unused;
      int64_t under = 0, equal = 0;
      sweeps.deviation(a, n, end, end, &unused, &unused, &under, &equal);
      if (k >= under && k < under + equal) return end;
    }
    break;
  }
  std::nth_element(a, a + k, a + n);
  return a[k];
}

}  // namespace dadkit
