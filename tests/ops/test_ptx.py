"""nvcc's own kernels, run on the CPU by scripts/ptx: right in any order, no race, no more instructions than before."""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dadkit.ops import fused, library
from dadkit.ops.reference import NormOptions

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "ptx"))
import build  # noqa: E402

REASON = build.missing()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(REASON), reason=f"no PTX runner: {REASON}")]

GLOBAL = r"(Range|Loss)<float, (1, )?true>|(Sample|Prepare)<float>|(Collect|Select|PlainGradient)<float, 1>"
CEILINGS = {  # millions of warp instructions, float32, forward and backward: four maps of 560 x 560, or one with four patches
    "hybrid": 20.4,
    "global": 6.4,
    "local-global": 47.5,
    "gradient matching": 31.2,
}
LAUNCHES = {"hybrid": 7, "global": 7}

LOSSES = """
import sys, torch
from dadkit.ops import fused, library
from dadkit.ops.reference import NormOptions
torch.set_num_threads(1)
torch.ops.load_library(sys.argv[1])
shape = tuple(map(int, sys.argv[2].split("x")))
generator = torch.Generator().manual_seed(0)
target = torch.rand(shape, generator=generator).cumsum(2)
pred = 2 * target + torch.randn(shape, generator=generator)
found = []
for library.NAMESPACE in ("dadkit", "dadkit_ptx"):
    p = pred.clone().requires_grad_()
    loss = fused.hybrid_norm_loss(p, target, None, NormOptions((1,)))
    found.append((loss.detach(), *torch.autograd.grad(loss, p)))
(value, gradient), (ours, our_gradient) = found
assert abs(ours - value) < 1e-5 * value, (ours, value)
assert (our_gradient - gradient).norm() < 1e-4 * gradient.norm()
print("agrees")
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Where objects are kept: in the checkout if it has a build folder, so that a second run compiles nothing."""
    kept = ROOT / "build"
    return kept / "ptx" if kept.is_dir() else tmp_path_factory.mktemp("ptx")


@pytest.fixture(scope="session")
def path(folder) -> Path:
    return build.build(folder)


@pytest.fixture
def counted(path, monkeypatch):
    """run(function, pred) -> (value, gradient, what each kernel did)."""
    torch.ops.load_library(path)
    report = ctypes.CDLL(str(path)).dadkit_ptx_report
    report.restype = ctypes.c_char_p

    def run(function, pred):
        report()
        with monkeypatch.context() as patch:
            patch.setattr(library, "NAMESPACE", "dadkit_ptx")
            pred = pred.clone().requires_grad_()
            value = function(pred)
            (gradient,) = torch.autograd.grad(value.sum(), pred)
        return value.detach(), gradient, json.loads(report())

    return run


def _patches(pair, side):
    patches = torch.stack([pair((1, side, side), "smooth", torch.float32, seed=k)[1] for k in range(4)], 1)
    unit = torch.tensor([[0.0, 0.0, 0.7, 0.7], [0.3, 0.3, 1.0, 1.0], [0.2, 0.1, 0.9, 0.8], [0.0, 0.25, 0.75, 1.0]])
    return patches, (unit * side)[None]


@pytest.mark.parametrize("name", CEILINGS)
def test_no_more_instructions_and_launches_than_before(counted, pair, name):
    pred, target = pair((1 if name == "local-global" else 4, 560, 560), "smooth", torch.float32)
    loss = {
        "hybrid": lambda p: fused.hybrid_norm_loss(p, target),
        "global": lambda p: fused.hybrid_norm_loss(p, target, None, NormOptions((1,))),
        "local-global": lambda p: fused.local_global_loss(p, *_patches(pair, 560)),
        "gradient matching": lambda p: fused.gradient_matching_loss(p, target),
    }[name]
    wanted = pred.clone().requires_grad_()
    value = loss(wanted)
    value.sum().backward()
    ours, gradient, kernels = counted(loss, pred)
    assert ours.item() == pytest.approx(value.item(), rel=1e-5)
    assert (gradient - wanted.grad).norm() < 1e-4 * wanted.grad.norm()
    millions = {kernel: did["warp_instructions"] / 1e6 for kernel, did in kernels.items()}
    assert sum(millions.values()) <= CEILINGS[name], millions
    if name in LAUNCHES:
        assert sum(did["launches"] for did in kernels.values()) == LAUNCHES[name]


def test_more_found_than_a_block_has_room_for(counted, misled):
    pred, target = misled((4, 560, 560))
    ours, gradient, kernels = counted(lambda p: fused.hybrid_norm_loss(p, target, None, NormOptions((1,))), pred)
    wanted = pred.clone().requires_grad_()
    value = fused.hybrid_norm_loss(wanted, target, None, NormOptions((1,)))
    value.backward()
    assert any("Collect" in kernel for kernel in kernels)
    assert ours.item() == pytest.approx(value.item(), rel=1e-5)
    assert (gradient - wanted.grad).norm() < 1e-4 * wanted.grad.norm()


def test_every_kernel_in_any_order(path):
    """All operators, options, shapes and dtypes of the GPU's smoke test, each with orders and blocks at once of its own."""
    answers = []
    for seed, resident in ((1, 1), (2, 7)):
        environment = {
            **os.environ,
            "DADKIT_PTX_SEED": str(seed),
            "DADKIT_PTX_RESIDENT": str(resident),
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, ROOT / "scripts" / "gpu_smoke.py", "--device", "ptx", "--library", path, "--small"]
        answers.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=False))
    assert [a.returncode for a in answers] == [0, 0], answers[0].stderr[-2000:] + answers[1].stderr[-2000:]
    assert answers[0].stdout == answers[1].stdout  # with a hash of every value and gradient


def _run(library_file, shape, **environment):
    command = [sys.executable, "-c", LOSSES, library_file, shape]
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)


def _without(what):
    """Takes every instruction away that matches, which must be there."""

    def edit(ptx):
        changed, times = re.subn(what, "", ptx, flags=re.MULTILINE)
        assert times, what
        return changed

    return edit


def test_no_race_and_a_fence_and_a_barrier_that_are_missed(folder):
    """ThreadSanitizer finds nothing in the kernels as they are, and races without their fences and without their barriers."""
    tsan = subprocess.run(["g++", "-print-file-name=libtsan.so"], capture_output=True, text=True, check=True).stdout.strip()
    edits = {"": lambda text: text, "fences": _without(r"^\s*membar\.gl;"), "barriers": _without(r"^\s*bar\.sync\s+0;")}
    races = {}
    for name, edit in edits.items():
        library_file = build.build(folder, threads=True, wanted=GLOBAL, edit=edit)
        done = _run(library_file, "1x44x64", LD_PRELOAD=tsan, TSAN_OPTIONS="exitcode=0 report_signal_unsafe=0")
        races[name] = done.stderr.count("WARNING: ThreadSanitizer: data race")
        if not name:
            assert "agrees" in done.stdout, done.stderr[-3000:]
    assert races[""] == 0
    assert races["fences"] > 0
    assert races["barriers"] > 0


def test_a_misaligned_access_and_a_wrong_mask_are_refused(folder):
    def shift_a_load(ptx):
        return re.sub(r"(ld\.global\.v4\.f32 .*?\[%rd\d+)\]", r"\1+4]", ptx)

    def narrow_a_mask(ptx):
        return re.sub(r"(match\.all\.sync\.b32 \s*%r\d+\|%p\d+, %r\d+), %r\d+", r"\1, 1", ptx)

    for edit, said in ((shift_a_load, "misaligned access"), (narrow_a_mask, "outside its own mask")):
        done = _run(build.build(folder, wanted=GLOBAL, edit=edit), "1x64x128")
        assert done.returncode != 0
        assert said in done.stderr
