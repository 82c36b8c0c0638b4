"""The one command for a machine with a GPU says plainly why it cannot run, and passes over no failure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
CHECK = ROOT / "scripts" / "gpu_check.sh"
pytestmark = pytest.mark.skipif(shutil.which("timeout") is None, reason="gpu_check.sh needs the timeout command")


def _check(*arguments, **environment):
    return subprocess.run(
        ["sh", str(CHECK), *arguments], capture_output=True, text=True, env={**os.environ, **environment}, timeout=100
    )


def _machine(folder: Path, **tools: str) -> str:
    """A PATH on which a machine's tools (name: what they do, in shell) come first; all of them are content by default."""
    folder.mkdir()
    for name, text in {"python": "echo ok", "nvcc": "", "nvidia-smi": "", "compute-sanitizer": "", **tools}.items():
        file = folder / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--nonsense"], {}, "FOLDER"),
        (["one", "two"], {}, "FOLDER"),
        ([], {"PYTHON": "no-such-python"}, "no interpreter no-such-python"),
    ],
)
def test_wrong_calls(arguments, environment, said):
    done = _check(*arguments, **environment)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path):
    done = _check(str(tmp_path / "out"), PYTHON=sys.executable)
    assert done.returncode == 2
    assert "no GPU: torch" in done.stderr
    assert not (tmp_path / "out").exists()


def test_on_a_machine_where_all_goes_well(tmp_path):
    done = _check(str(tmp_path / "out"), PYTHON="python", PATH=_machine(tmp_path / "bin"))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (tmp_path / "out" / "summary.txt").read_text().splitlines()
    assert all("passed" in line for line in lines)
    steps = [line.split()[0] for line in lines]
    tools = ["memcheck", "racecheck", "synccheck", "initcheck"]
    assert steps == ["build", "kernels", "device-tests", "value-tests", "benchmark", *(f"sanitizer-{tool}" for tool in tools)]
    assert {f"{step}.txt" for step in steps} | {"machine.txt"} <= {file.name for file in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        ({"python": 'case "$*" in *tests.xml*) exit 1 ;; esac'}, "device-tests           FAILED: status 1"),
        ({"python": 'case "$*" in *losses.py*) exit 124 ;; esac'}, "benchmark              FAILED: not done in"),
        ({"compute-sanitizer": 'case "$*" in *racecheck*) exit 9 ;; esac'}, "sanitizer-racecheck    FAILED: status 9"),
        ({"compute-sanitizer": "echo in void run_kernel"}, "sanitizer-initcheck    FAILED: it names run_kernel"),
    ],
)
def test_a_failure_names_itself_and_the_rest_still_runs(tmp_path, tools, said):
    done = _check(str(tmp_path / "out"), PYTHON="python", PATH=_machine(tmp_path / "bin", **tools))
    assert done.returncode == 1
    summary = (tmp_path / "out" / "summary.txt").read_text()
    assert said in summary
    assert len(summary.splitlines()) == 9
    assert summary.count("FAILED") == 1
