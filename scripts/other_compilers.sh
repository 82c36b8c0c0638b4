#!/bin/sh
# Compiles the CPU operators with clang, and the plain sweeps for aarch64, and compares what the sweeps answer: the same bits everywhere.
#   scripts/other_compilers.sh        PYTHON names an interpreter with torch
# Debian: apt-get install clang g++-aarch64-linux-gnu qemu-user. What is not installed is left out, and named.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="-std=c++17 -O3 -ffp-contract=off -Wall -Wextra -Wno-psabi -Wno-array-bounds"  # the sweeps fetch ahead of their arrays

sweeps() { # NAME RUNNER COMPILER...
  name=$1 runner=$2
  shift 2
  "$@" $flags "$root/scripts/sweeps_check.cpp" "$root/csrc/cpu/unit_plain.cpp" -o "$work/$name"
  $runner "$work/$name" > "$work/$name.txt"
  if cmp -s "$work/g++.txt" "$work/$name.txt"; then echo "$name: the sweeps answer the same bits as g++'s"; else
    echo "$name: the sweeps differ from g++'s:"; diff "$work/g++.txt" "$work/$name.txt"; exit 1
  fi
}

g++ $flags "$root/scripts/sweeps_check.cpp" "$root/csrc/cpu/unit_plain.cpp" -o "$work/g++"
"$work/g++" > "$work/g++.txt"
if command -v clang++ > /dev/null; then
  sweeps clang++ "" clang++
  include=$("$python" -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0] + "/include")')
  for source in "$root"/csrc/cpu/*.cpp "$root"/csrc/device/emulated.cpp "$root"/csrc/operators.cpp; do
    case $source in
      *avx2*) isa=-mavx2 ;;
      *avx512*) isa="-mavx512f -mavx512bw -mavx512vl -mavx512dq" ;;
      *) isa= ;;
    esac
    [ "$(uname -m)" = x86_64 ] || [ -z "$isa" ] || continue
    clang++ $flags $isa -fPIC -fsyntax-only -DTORCH_TARGET_VERSION=0x020b000000000000 -isystem "$include" "$source"
  done
  echo "clang++: every unit compiles"
else
  echo "clang++: not installed"
fi
if command -v aarch64-linux-gnu-g++ > /dev/null && command -v qemu-aarch64 > /dev/null; then
  sweeps aarch64 "qemu-aarch64" aarch64-linux-gnu-g++ -static
else
  echo "aarch64: the cross compiler or qemu-user is not installed"
fi
