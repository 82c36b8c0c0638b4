#!/bin/sh
# Everything that only a GPU can say about the operators, in one command; the answers lie in a folder of their own.
#   scripts/gpu_check.sh [FOLDER]        default: benchmarks/results/gpu; PYTHON names the interpreter
# Needs: torch with CUDA, nvcc, pytest, hypothesis. compute-sanitizer is used where it is installed. About ten minutes.
# When it passes: commit the folder, let `fused.proven` answer True for cuda, and say so in docs/kernels.md.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python}
out=${1:-$root/benchmarks/results/gpu}
mkdir -p "$out"
cd "$root"
failed=0

step() { # name, command …: runs it, keeps what it says, goes on if it fails
  name=$1
  shift
  echo "== $name: $*"
  if "$@" >"$out/$name.txt" 2>&1; then echo "   passed"; else
    echo "   FAILED, see $out/$name.txt"
    failed=1
  fi
  tail -n 3 "$out/$name.txt"
}

{
  nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,memory.total --format=csv
  nvcc --version | tail -n 1
  "$python" -c "import torch; print('torch', torch.__version__, 'cuda', torch.version.cuda, torch.cuda.get_device_capability())"
  git rev-parse HEAD 2>/dev/null
} >"$out/machine.txt" 2>&1
cat "$out/machine.txt"

DADKIT_KERNELS=1 DADKIT_CUDA=1 step build "$python" setup.py build_ext --inplace
step tests "$python" -m pytest -q -p no:cacheprovider tests/ops -k "cuda or Cuda or build"
step benchmark "$python" benchmarks/losses.py --device cuda --rounds 20 --output "$out/losses.json"
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck synccheck initcheck; do
    step "sanitizer-$tool" compute-sanitizer --tool "$tool" --error-exitcode 9 --kernel-regex kns=run_kernel \
      "$python" scripts/gpu_smoke.py
  done
else
  echo "compute-sanitizer is not installed: skipped" | tee "$out/sanitizer.txt"
fi
echo "== $([ $failed = 0 ] && echo "all passed" || echo "something failed"); $out"
exit $failed
