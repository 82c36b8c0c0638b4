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

PLAIN = r"\(dadkit::device::Walk\)2"
GLOBAL = rf"Range<float, {PLAIN}>|(Sample|Prepare)<float>|Select<float, 1>|(Collect|Loss|PlainGradient)<float, 1, {PLAIN}>"
# fmt: off
CEILINGS: dict[str, dict[str, float]] = {  # millions of warp instructions of one launch
    "hybrid": {
        "Collect": 9.94, "Loss": 4.08, "PlainGradient": 3.31, "Prepare": 0.01, "Range": 0.721, "Sample": 0.731, "Select": 1.97,
    },
    "hybrid, mask": {
        "Collect": 9.85, "Loss": 4.26, "PlainGradient": 3.51, "Prepare": 0.01, "Range": 0.925, "Sample": 0.706, "Select": 1.86,
    },
    "hybrid, bfloat16": {
        "Collect": 11.6, "Loss": 4.2, "PlainGradient": 3.49, "Prepare": 0.01, "Range": 0.84, "Sample": 0.743, "Select": 1.55,
    },
    "hybrid, float16": {
        "Collect": 10.4, "Loss": 4.2, "PlainGradient": 3.49, "Prepare": 0.01, "Range": 0.84, "Sample": 0.739, "Select": 1.91,
    },
    "global": {
        "Collect": 2.36, "Loss": 1.25, "PlainGradient": 1.64, "Prepare": 0.01, "Range": 0.721, "Sample": 0.166, "Select": 0.426,
    },
    "grid, every pixel": {
        "Deviation": 8.91, "Gradient": 2.22, "Loss": 5.35,
        "Prepare": 0.01, "Range": 0.626, "Search": 4.79, "UpstreamSums": 5.02,
    },
    "local-global": {
        "Collect": 9.96, "Loss": 4.08, "PatchGradient": 27.5, "Prepare": 0.01,
        "Range": 4.77, "Sample": 0.729, "Select": 2.03, "Taps": 0.0266,
    },
    "gradient matching": {
        "Collect": 2.36, "MatchingGradient": 14.6, "MatchingHead": 0.01, "MatchingPrepare": 0.01,
        "MatchingSums": 13.2, "Range": 0.721, "Sample": 0.166, "Select": 0.426,
    },
}
LAUNCHES = {"grid, every pixel": 10, "local-global": 9, "gradient matching": 8}  # of the others 7
# fmt: on

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


def _hybrid(options: NormOptions = NormOptions(), *, masked=False, half=torch.float32, **keywords):  # noqa: B008
    def make(target, mask, pair):
        def loss(p, dtype):  # times a power of two: half precision has no numbers as small as a pixel's share of a mean
            known = target.to(half).to(dtype)
            return 1024 * fused.hybrid_norm_loss(p, known, mask if masked else None, options, **keywords)

        return half, loss

    return make


def _local_global(target, mask, pair):
    return torch.float32, lambda p, dtype: fused.local_global_loss(p, *_patches(pair, 560))


def _matching(target, mask, pair):
    return torch.float32, lambda p, dtype: fused.gradient_matching_loss(p, target)


def _patches(pair, side):
    patches = torch.stack([pair((1, side, side), "smooth", torch.float32, seed=k)[1] for k in range(4)], 1)
    unit = torch.tensor([[0.0, 0.0, 0.7, 0.7], [0.3, 0.3, 1.0, 1.0], [0.2, 0.1, 0.9, 0.8], [0.0, 0.25, 0.75, 1.0]])
    return patches, (unit * side)[None]


CASES = {
    "hybrid": _hybrid(),
    "hybrid, mask": _hybrid(masked=True),
    "hybrid, bfloat16": _hybrid(half=torch.bfloat16),
    "hybrid, float16": _hybrid(half=torch.float16),
    "global": _hybrid(NormOptions((1,))),
    "grid, every pixel": _hybrid(NormOptions(partition="grid"), reduction="none"),
    "local-global": _local_global,
    "gradient matching": _matching,
}


SINGLE = {"grid, every pixel", "local-global"}
"""Of one map of 560 x 560, with four patches; the others are of four maps."""


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


@pytest.mark.parametrize("name", CEILINGS)
def test_no_kernel_has_more_instructions_and_launches_than_before(counted, pair, name):
    """Values and gradients are those of the CPU; of half precision those of the same values in float32."""
    pred, target = pair((1 if name in SINGLE else 4, 560, 560), "smooth", torch.float32)
    mask = torch.rand(pred.shape, generator=torch.Generator().manual_seed(0)) < 0.9
    half, loss = CASES[name](target, mask, pair)
    given = pred.to(half)
    wanted = given.float().clone().requires_grad_()
    value = loss(wanted, torch.float32)
    value.sum().backward()
    ours, gradient, kernels = counted(lambda p: loss(p, half), given)
    assert ours.sum().item() == pytest.approx(value.sum().item(), rel=1e-5)
    assert gradient.dtype == half
    assert (gradient - wanted.grad).norm() < (1e-4 if half == torch.float32 else 4e-3) * wanted.grad.norm()
    names = {kernel: re.search(r"(\w+)<", kernel)[1] for kernel in kernels}
    millions = {names[kernel]: did["warp_instructions"] / did["launches"] / 1e6 for kernel, did in kernels.items()}
    assert len(millions) == len(kernels)
    assert set(millions) == set(CEILINGS[name]), millions
    over = {kernel: count for kernel, count in millions.items() if count > CEILINGS[name][kernel]}
    assert not over
    assert sum(did["launches"] for did in kernels.values()) == LAUNCHES.get(name, 7)


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
