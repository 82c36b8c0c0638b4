// What the plain unit's sweeps answer on fixed maps, to the last bit: equal on every processor. scripts/other_compilers.sh compares.
#include <cstdio>
#include <vector>

#include "../csrc/cpu/tasks.h"

namespace dadkit {
namespace {

struct Numbers {  // the same everywhere
  uint32_t state;
  double next() {
    state = state * 1664525u + 1013904223u;
    return static_cast<double>(state >> 8) / (1 << 24);
  }
};

template <typename T>
void say(const char* name, const std::vector<T>& values) {
  uint64_t hash = 1469598103934665603ull;
  const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
  for (size_t k = 0; k < values.size() * sizeof(T); ++k) hash = (hash ^ bytes[k]) * 1099511628211ull;
  std::printf("%s %016llx\n", name, static_cast<unsigned long long>(hash));
}

template <typename T>
void check(const Sweeps<T>& sweeps) {
  constexpr int64_t n = 5003, kSlack = 64;
  constexpr int kLevels = 2, kLeaves = 2;
  Numbers random{1};
  std::vector<T> target(n + kSlack), pred(n + kSlack), map(n + kSlack), gradient(n + kSlack);
  std::vector<uint8_t> mask(n + kSlack), leaf(n + kSlack);
  for (int64_t i = 0; i < n; ++i) {
    target[i] = static_cast<T>(i / 700 + 0.1 * random.next());
    pred[i] = static_cast<T>(2 * target[i] + random.next());
    mask[i] = random.next() < 0.9;
  }
  RangeTask<T> range;
  sweeps.range(target.data(), mask.data(), n, &range);
  std::printf("range %a %a %lld %d\n", static_cast<double>(range.lo), static_cast<double>(range.hi), static_cast<long long>(range.count), range.finite);
  const T edge = (range.lo + range.hi) / 2;
  int64_t counts[kMaxLeaves] = {};
  sweeps.leaves(target.data(), mask.data(), n, &edge, 1, true, leaf.data(), counts);
  std::printf("leaves %lld %lld\n", static_cast<long long>(counts[0]), static_cast<long long>(counts[1]));
  say("leaf", leaf);

  static SelectTask<T> select;
  std::vector<T> found[3];
  select.levels = kLevels;
  for (int c = 0; c < 3; ++c) {
    found[c].resize(n + kSlack);
    select.end[c] = found[c].data();
  }
  static LossTask<T> loss;
  static GradientTask<T> slopes;
  loss.levels = slopes.levels = kLevels;
  for (int l = 0; l < kLevels; ++l) {
    for (int c = 0; c < kLeaves; ++c) {
      select.lo.at[l][c] = static_cast<T>(3);
      select.hi.at[l][c] = static_cast<T>(5);
      select.pivot.at[l][c] = static_cast<T>(4);
      select.context[l][c] = l == 0 ? 0 : 1 + c;
      loss.m_p.at[l][c] = slopes.m_p.at[l][c] = static_cast<T>(7.5);
      loss.inv_p.at[l][c] = slopes.inv_p.at[l][c] = static_cast<T>(0.4);
      loss.m_d.at[l][c] = slopes.m_d.at[l][c] = static_cast<T>(3.5 + c);
      loss.inv_d.at[l][c] = slopes.inv_d.at[l][c] = static_cast<T>(0.8);
      slopes.side.at[l][c] = static_cast<T>(0.1);
      slopes.mad.at[l][c] = static_cast<T>(0.02);
      slopes.tie.at[l][c] = static_cast<T>(0.5);
    }
  }
  loss.share[0] = loss.share[1] = static_cast<T>(0.5);
  sweeps.select(target.data(), leaf.data(), n, &select);
  sweeps.loss(pred.data(), target.data(), leaf.data(), n, &loss, map.data());
  sweeps.gradient(pred.data(), target.data(), leaf.data(), nullptr, n, &slopes, gradient.data());
  for (int c = 0; c < 3; ++c) std::printf("candidates %lld\n", static_cast<long long>(select.end[c] - found[c].data()));
  for (int l = 0; l < kLevels; ++l) {
    for (int c = 0; c < kLeaves; ++c) {
      std::printf("sums %a %lld %a %a %a\n", select.deviation.at[l][c], static_cast<long long>(select.reached.at[l][c]), loss.abs_sum[c],
                  loss.sign_sum.at[l][c], loss.z_sum.at[l][c]);
    }
  }
  map.resize(n);
  gradient.resize(n);
  say("loss", map);
  say("gradient", gradient);
}

}  // namespace
}  // namespace dadkit

int main() {
  dadkit::check(*dadkit::sweeps_plain(0.0f));
  dadkit::check(*dadkit::sweeps_plain(0.0));
  return 0;
}
