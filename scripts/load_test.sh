#!/bin/sh
# Loads one built wheel under several versions of torch, each in an environment of its own that is removed afterwards, and runs it there.
#   scripts/load_test.sh WHEEL [VERSION …]     default: 2.11.0 and the newest; PYTHON names the interpreter, PIP_ARGS adds to pip's options
# A wheel: pip wheel . --no-deps -w dist. Each environment downloads torch; with CUDA that takes about 8 GB on the disk (a CPU build of it:
# PIP_ARGS="--index-url https://download.pytorch.org/whl/cpu").
set -eu
python=${PYTHON:-python}
scripts=$(cd "$(dirname "$0")" && pwd)
wheel=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
shift
[ $# -gt 0 ] || set -- 2.11.0 newest
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for version in "$@"; do
  rm -rf environment
  "$python" -m venv environment
  requirement=torch
  [ "$version" = newest ] || requirement="torch==$version"
  # shellcheck disable=SC2086
  environment/bin/python -m pip install -q --no-cache-dir ${PIP_ARGS:-} "$requirement"
  environment/bin/python -m pip install -q --no-deps --no-index "$wheel"
  environment/bin/python -W ignore "$scripts/load_smoke.py"
done
