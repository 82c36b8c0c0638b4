#!/bin/sh
# Everything that only a GPU can say about the operators, in one command; all answers lie in one folder.
set -u
usage() {
  cat <<'END'
scripts/gpu_check.sh [FOLDER]     default: benchmarks/results/gpu; PYTHON names the interpreter

Builds the operators, runs every kernel once, the GPU tests (values, CUDA graphs, side stream, no waiting, bitwise repeat),
the benchmark (with and without CUDA graphs) and compute-sanitizer (memcheck, racecheck, synccheck, initcheck).
Goes on after a failure. FOLDER: machine.txt, a .txt per step, tests.xml, losses.json, summary.txt. About ten minutes.
Needs: torch with CUDA, nvcc, a C++ compiler, setuptools, pybind11, pytest, hypothesis; compute-sanitizer is best.
Exit status: 0 all passed, 1 a step failed, 2 it cannot run here.
When it passes: commit the folder, let `fused.proven` answer True for cuda, and say so in docs/kernels.md.
END
}
cannot() {
  echo "gpu_check: $1" >&2
  exit 2
}

case "${1:-}" in
  -h | --help) usage && exit 0 ;;
  -*) usage >&2 && exit 2 ;;
esac
[ $# -le 1 ] || { usage >&2 && exit 2; }

root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$root/benchmarks/results/gpu}
case $out in /*) ;; *) out=$(pwd)/$out ;; esac
cd "$root" || exit 2
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
python=${PYTHON:-python}
[ -n "$(command -v "$python")" ] || cannot "no interpreter $python (PYTHON names another)"
"$python" -c "import sys, importlib.util as i
missing = [m for m in ('torch', 'setuptools', 'pybind11', 'pytest', 'hypothesis') if i.find_spec(m) is None]
if missing:
    sys.exit('gpu_check: the interpreter lacks ' + ', '.join(missing))" || exit 2
"$python" -c "import sys, torch
if not torch.cuda.is_available():
    sys.exit(f'gpu_check: no GPU: torch {torch.__version__} sees no CUDA device')" || exit 2
[ -n "$(command -v "${NVCC:-nvcc}")" ] || cannot "no nvcc (NVCC names another)"
mkdir -p "$out" && [ -w "$out" ] || cannot "cannot write to $out"
: >"$out/summary.txt"
failed=0

note() { # name, answer, seconds
  printf '%-22s %-34s %4d s\n' "$1" "$2" "$3" | tee -a "$out/summary.txt"
}

step() { # name, limit in seconds, command …: runs it, keeps what it says, goes on if it fails
  name=$1 limit=$2 begin=$(date +%s)
  shift 2
  echo "== $name: $*"
  timeout -k 10 "$limit" "$@" >"$out/$name.txt" 2>&1
  status=$?
  tail -n 3 "$out/$name.txt"
  case $status in
    0) answer=passed ;;
    124 | 137) answer="FAILED: not done in $limit s" ;;
    *) answer="FAILED: status $status, see $name.txt" ;;
  esac
  if [ "$answer" = passed ] && [ "${unless:-}" ] && grep -q "$unless" "$out/$name.txt"; then
    answer="FAILED: it names $unless"
  fi
  [ "$answer" = passed ] || failed=1
  note "$name" "$answer" $(($(date +%s) - begin))
}

{
  date -u
  nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,memory.total --format=csv
  "${NVCC:-nvcc}" --version | tail -n 2
  "$python" -c "import torch; print('torch', torch.__version__, 'cuda', torch.version.cuda, torch.cuda.get_device_capability())"
  git rev-parse HEAD
  git status --short --untracked-files=no
} >"$out/machine.txt" 2>&1
cat "$out/machine.txt"

export DADKIT_KERNELS=1 DADKIT_CUDA=1
step build 400 "$python" setup.py build_ext --inplace
step kernels 120 "$python" scripts/gpu_smoke.py --device cuda
step device-tests 240 "$python" -m pytest -v -p no:cacheprovider --junitxml "$out/tests.xml" tests/ops/test_fused_cuda.py
step value-tests 300 "$python" -m pytest -q -p no:cacheprovider tests/ops -k "cuda and not test_fused_cuda"
step benchmark 240 "$python" benchmarks/losses.py --device cuda --batch 2 8 --rounds 10 --caches cold --output "$out/losses.json"

if [ -n "$(command -v compute-sanitizer)" ]; then
  filter=--kernel-name
  compute-sanitizer --help 2>&1 | grep -q -e "$filter " || filter=--kernel-regex # before CUDA 12
  export PYTORCH_NO_CUDA_MEMORY_CACHING=1 # every tensor an allocation of its own: else reading past one stays inside PyTorch's pool
  for tool in memcheck racecheck synccheck; do
    step "sanitizer-$tool" 200 compute-sanitizer --tool "$tool" --error-exitcode 9 "$filter" kns=run_kernel \
      "$python" scripts/gpu_smoke.py --device cuda --small
  done
  # it must see PyTorch's kernels write, so it watches all of them; what it says of ours is what counts
  unless=run_kernel step sanitizer-initcheck 300 compute-sanitizer --tool initcheck "$python" scripts/gpu_smoke.py --device cuda --small
else
  note sanitizer "SKIPPED: no compute-sanitizer" 0
fi

[ $failed = 0 ] && echo "== all passed: $out" || echo "== something failed: $out/summary.txt"
exit $failed
