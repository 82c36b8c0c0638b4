// Which sweeps this processor gets. DADKIT_ISA=plain|avx2|avx512 holds them to a lesser instruction set, for tests and measurements.
#include "dispatch.h"

#include <cstdlib>
#include <cstring>

namespace dadkit {

namespace {

enum Isa { kPlain, kAvx2, kAvx512 };

Isa detect() {
  int best = kPlain;
#if defined(__x86_64__) && defined(DADKIT_X86_UNITS)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2")) best = kAvx2;
  if (best == kAvx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq"))
    best = kAvx512;
#endif
  return static_cast<Isa>(best);
}

Isa choose() {
  static const Isa best = detect();
  const char* wish = std::getenv("DADKIT_ISA");
  if (!wish) return best;
  if (std::strcmp(wish, "plain") == 0) return kPlain;
  if (std::strcmp(wish, "avx2") == 0 && best >= kAvx2) return kAvx2;
  return best;
}

template <typename T>
const Sweeps<T>* pick() {
#if defined(__x86_64__) && defined(DADKIT_X86_UNITS)
  switch (choose()) {
    case kAvx512: return sweeps_avx512(T());
    case kAvx2: return sweeps_avx2(T());
    default: break;
  }
#endif
  return sweeps_plain(T());
}

}  // namespace

template <>
const Sweeps<float>* sweeps<float>() {
  return pick<float>();
}
template <>
const Sweeps<double>* sweeps<double>() {
  return pick<double>();
}

const char* active_isa() {
  const char* names[] = {"plain", "avx2", "avx512"};
  return names[choose()];
}

const char* compiled_isas() {
#if defined(__x86_64__) && defined(DADKIT_X86_UNITS)
  return "plain avx2 avx512";
#else
  return "plain";
#endif
}

}  // namespace dadkit
