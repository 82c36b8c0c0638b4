"""The one command for a machine with a GPU says plainly why it cannot run, and passes over no failure."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
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


STEPS = ["build", "kernels", "selfcheck", "device-tests", "benchmark", "value-tests"]
TOOLS = [f"sanitizer-{tool}" for tool in ("memcheck", "racecheck", "synccheck", "initcheck")]


def test_on_a_machine_where_all_goes_well(tmp_path):
    out, path = tmp_path / "out", _machine(tmp_path / "bin")
    for arguments in (["--no-build"], [], ["--sanitizers"], ["--sanitizers"]):
        done = _check(*arguments, str(out), PYTHON="python", PATH=path)
        assert done.returncode == 0, done.stdout + done.stderr
        summary = json.loads((out / "summary.json").read_text())
        assert {step["answer"] for step in summary["steps"]} == {"passed"}
        names = [step["name"] for step in summary["steps"]]
        assert names == {"--no-build": STEPS[1:], "--sanitizers": STEPS + TOOLS, "": STEPS}[arguments[0] if arguments else ""]
    assert len(list(out.iterdir())) <= 6
    with tarfile.open(out / "check.tar.gz") as packed:
        assert {f"./{step}.txt" for step in [*STEPS, "machine"]} <= set(packed.getnames())


@pytest.mark.parametrize(
    ("arguments", "tools", "said"),
    [
        ([], {"python": 'case "$*" in *tests.xml*) exit 1 ;; esac'}, "device-tests           FAILED: status 1"),
        ([], {"python": 'case "$*" in *losses.py*) exit 124 ;; esac'}, "benchmark              FAILED: not done in"),
        (
            ["--sanitizers"],
            {"compute-sanitizer": 'case "$*" in *racecheck*) exit 9 ;; esac'},
            "sanitizer-racecheck    FAILED: status 9",
        ),
        (
            ["--sanitizers"],
            {"compute-sanitizer": "echo in void run_kernel"},
            "sanitizer-initcheck    FAILED: it names run_kernel",
        ),
    ],
)
def test_a_failure_names_itself_and_the_rest_still_runs(tmp_path, arguments, tools, said):
    done = _check(*arguments, str(tmp_path / "out"), PYTHON="python", PATH=_machine(tmp_path / "bin", **tools))
    assert done.returncode == 1
    summary = (tmp_path / "out" / "summary.txt").read_text()
    assert said in summary
    assert len(summary.splitlines()) == len(TOOLS if arguments else STEPS)
    assert summary.count("FAILED") == 1


def test_a_step_without_time_left_fails(tmp_path):
    done = _check(str(tmp_path / "out"), PYTHON="python", PATH=_machine(tmp_path / "bin"), SECONDS_LEFT="0")
    assert done.returncode == 1
    assert "build                  FAILED: no time was left" in (tmp_path / "out" / "summary.txt").read_text()
