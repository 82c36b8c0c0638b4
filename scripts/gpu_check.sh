#!/bin/sh
# Everything that only a GPU can say about the operators, in two commands of under eight minutes; all answers go to one folder.
set -u
usage() {
  cat <<'END'
scripts/gpu_check.sh [--no-build] [FOLDER]     default: benchmarks/results/gpu; PYTHON names the interpreter
scripts/gpu_check.sh --sanitizers [FOLDER]

The first builds the operators (--no-build: takes those that are there), runs every kernel once, the self-check, the GPU tests
(values, CUDA graphs, side stream, no waiting, bitwise repeat) and the benchmark (with and without CUDA graphs). The second
runs compute-sanitizer (memcheck, racecheck, synccheck, initcheck). Each goes on after a failure, and ends within 460 s
(SECONDS_LEFT changes that): a step that finds no time left fails.
FOLDER gets at most six files: summary.json and summary.txt, verdict.json of the self-check, losses.json of the benchmark, and
per command a .tar.gz of what the steps said.
Needs: torch with CUDA, pytest, hypothesis; to build nvcc, a C++ compiler, setuptools, pybind11; compute-sanitizer.
Exit status: 0 all passed, 1 a step failed, 2 it cannot run here.
When both pass: commit the folder, and say so in docs/kernels.md.
END
}
cannot() {
  echo "gpu_check: $1" >&2
  exit 2
}

build=1 part=check
case "${1:-}" in
  -h | --help) usage && exit 0 ;;
  --no-build) build=0 && shift ;;
  --sanitizers) build=0 part=sanitizers && shift ;;
esac
case "${1:-}" in -*) usage >&2 && exit 2 ;; esac
[ $# -le 1 ] || { usage >&2 && exit 2; }
begun=$(date +%s) allowed=${SECONDS_LEFT:-460}

root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$root/benchmarks/results/gpu}
case $out in /*) ;; *) out=$(pwd)/$out ;; esac
cd "$root" || exit 2
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
python=${PYTHON:-python}
[ -n "$(command -v "$python")" ] || cannot "no interpreter $python (PYTHON names another)"
"$python" -c "import sys, importlib.util as i
needed = ['torch', 'pytest', 'hypothesis'] + ['setuptools', 'pybind11'] * $build
missing = [m for m in needed if i.find_spec(m) is None]
if missing:
    sys.exit('gpu_check: the interpreter lacks ' + ', '.join(missing))" || exit 2
"$python" -c "import sys, torch
if not torch.cuda.is_available():
    sys.exit(f'gpu_check: no GPU: torch {torch.__version__} sees no CUDA device')" || exit 2
[ $build = 0 ] || [ -n "$(command -v "${NVCC:-nvcc}")" ] || cannot "no nvcc (NVCC names another, --no-build needs none)"
[ $part = check ] || [ -n "$(command -v compute-sanitizer)" ] || cannot "no compute-sanitizer"
mkdir -p "$out" && [ -w "$out" ] || cannot "cannot write to $out"
said=$(mktemp -d) && trap 'rm -rf "$said"' EXIT
: >"$said/steps.txt"
failed=0

note() { # name, answer, seconds
  printf '%-22s %-34s %4d s\n' "$1" "$2" "$3" | tee -a "$said/steps.txt"
}

step() { # name, limit in seconds, command …: runs it, keeps what it says, goes on if it fails
  name=$1 limit=$2 begin=$(date +%s)
  shift 2
  left=$((begun + allowed - begin))
  [ "$limit" -le "$left" ] || limit=$left
  if [ "$limit" -le 0 ]; then
    failed=1
    note "$name" "FAILED: no time was left" 0
    return
  fi
  echo "== $name: $*"
  timeout -k 10 "$limit" "$@" >"$said/$name.txt" 2>&1
  status=$?
  tail -n 3 "$said/$name.txt"
  case $status in
    0) answer=passed ;;
    124 | 137) answer="FAILED: not done in $limit s" ;;
    *) answer="FAILED: status $status, see $name.txt" ;;
  esac
  if [ "$answer" = passed ] && [ "${unless:-}" ] && grep -q "$unless" "$said/$name.txt"; then
    answer="FAILED: it names $unless"
  fi
  [ "$answer" = passed ] || failed=1
  note "$name" "$answer" $(($(date +%s) - begin))
}

{
  date -u
  nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,memory.total --format=csv
  [ $build = 0 ] || "${NVCC:-nvcc}" --version | tail -n 2
  "$python" -c "import torch; print('torch', torch.__version__, 'cuda', torch.version.cuda, torch.cuda.get_device_capability())"
  git rev-parse HEAD
  git status --short --untracked-files=no
} >"$said/machine.txt" 2>&1
cat "$said/machine.txt"

export DADKIT_KERNELS=1 DADKIT_CUDA=1
if [ $part = check ]; then
  [ $build = 0 ] || step build 300 "$python" setup.py build_ext --inplace
  step kernels 60 "$python" scripts/gpu_smoke.py --device cuda
  step selfcheck 70 "$python" -m dadkit.ops.selfcheck --device cuda:0
  tail -n 1 "$said/selfcheck.txt" >"$out/verdict.json"
  step device-tests 120 "$python" -m pytest -v -p no:cacheprovider --junitxml "$said/tests.xml" tests/ops/test_fused_cuda.py
  step benchmark 120 "$python" benchmarks/losses.py --device cuda --batch 2 8 --rounds 10 --caches cold --output "$out/losses.json"
  step value-tests 200 "$python" -m pytest -q -p no:cacheprovider tests/ops -k "cuda and not test_fused_cuda"
else
  filter=--kernel-name
  compute-sanitizer --help 2>&1 | grep -q -e "$filter " || filter=--kernel-regex # before CUDA 12
  export PYTORCH_NO_CUDA_MEMORY_CACHING=1 # every tensor an allocation of its own: else reading past one stays inside PyTorch's pool
  for tool in memcheck racecheck synccheck; do
    step "sanitizer-$tool" 150 compute-sanitizer --tool "$tool" --error-exitcode 9 "$filter" kns=run_kernel \
      "$python" scripts/gpu_smoke.py --device cuda --small
  done
  # it must see PyTorch's kernels write, so it watches all of them; what it says of ours is what counts
  unless=run_kernel step sanitizer-initcheck 200 compute-sanitizer --tool initcheck "$python" scripts/gpu_smoke.py --device cuda --small
fi

# One summary of both commands, as text and as JSON, in the order in which they ran.
[ $part = sanitizers ] && [ -f "$out/summary.txt" ] || : >"$out/summary.txt"
[ $part = sanitizers ] && sed -i '/^sanitizer-/d' "$out/summary.txt"
cat "$said/steps.txt" >>"$out/summary.txt"
{
  printf '{"machine": ['
  sed 's/[\\"]/\\&/g; s/.*/"&"/' "$said/machine.txt" | paste -sd, - | tr -d '\n'
  printf '], "steps": ['
  sed 's/^\([^ ]*\)  *\(.*[^ ]\)  *\([0-9]*\) s$/{"name": "\1", "answer": "\2", "seconds": \3}/' "$out/summary.txt" | paste -sd, - | tr -d '\n'
  printf ']}\n'
} >"$out/summary.json"
tar czf "$out/$part.tar.gz" -C "$said" .

[ $failed = 0 ] && echo "== all passed: $out" || echo "== something failed: $out/summary.txt"
exit $failed
