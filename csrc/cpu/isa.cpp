// Which sweeps this processor gets. DADKIT_ISA=plain|avx2|avx512 holds them to a lesser instruction set, for tests and measurements.
#include "isa.h"

#include <cstdlib>
#include <cstring>

namespace dadkit {
namespace {

Isa detect() {
#if defined(DADKIT_X86_UNITS)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2")) return Isa::kPlain;
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                    __builtin_cpu_supports("avx512dq");
  return wide ? Isa::kAvx512 : Isa::kAvx2;
#else
  return Isa::kPlain;
#endif
}

}  // namespace

Isa chosen_isa() {
  static const Isa best = detect();
  const char* wish = std::getenv("DADKIT_ISA");
  if (!wish) return best;
  if (std::strcmp(wish, "plain") == 0) return Isa::kPlain;
  if (std::strcmp(wish, "avx2") == 0 && best != Isa::kPlain) return Isa::kAvx2;
  return best;
}

const char* active_isa() {
  const char* names[] = {"plain", "avx2", "avx512"};
  return names[static_cast<int>(chosen_isa())];
}

const char* compiled_isas() {
#if defined(DADKIT_X86_UNITS)
  return "plain avx2 avx512";
#else
  return "plain";
#endif
}

}  // namespace dadkit
