#pragma once

namespace dadkit {

enum class Isa { kPlain, kAvx2, kAvx512 };

Isa chosen_isa();             // the best that is compiled and that this processor has; DADKIT_ISA may ask for less
const char* active_isa();     // its name: "plain", "avx2" or "avx512"
const char* compiled_isas();  // names, separated by spaces

}  // namespace dadkit
