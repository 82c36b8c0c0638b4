#pragma once

#include "tasks.h"

namespace dadkit {

template <typename T>
const Sweeps<T>* sweeps();

const char* active_isa();     // "plain", "avx2" or "avx512"
const char* compiled_isas();  // separated by spaces

}  // namespace dadkit
