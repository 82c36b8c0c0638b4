#!/bin/sh
# Builds the CPU operators with AddressSanitizer and UndefinedBehaviorSanitizer in a copy of the tree and runs their tests there.
#   scripts/sanitize_kernels.sh [pytest arguments]         PYTHON names the interpreter
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$root/csrc" "$root/dadkit" "$root/tests" "$root/plugins" "$root/setup.py" "$root/pyproject.toml" "$root/README.md" "$root/LICENSE" "$work"
cd "$work"
rm -f dadkit/ops/*.so
CXX="g++ -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer" \
  DADKIT_KERNELS=1 DADKIT_CUDA=0 "$python" setup.py build_ext --inplace
LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0:detect_odr_violation=0:handle_segv=0 \
  PYTHONPATH="$work" "$python" -m pytest -q -p no:cacheprovider tests/ops \
  --deselect tests/ops/test_build.py --ignore tests/ops/test_fused_transforms.py --ignore tests/ops/test_benchmark_table.py \
  --ignore tests/ops/test_gpu_scripts.py --ignore tests/ops/test_ptx.py "$@"
