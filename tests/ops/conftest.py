"""Maps of every awkward kind, and the fused operators wherever they run.

The same tests hold the operators' CPU code, the device kernels run on the CPU thread after thread ("emulated"), and, where
there is a GPU, the same kernels on it. With ``DADKIT_PTX_LIBRARY``, which scripts/ptx/build.py makes, nvcc's kernels run on the
CPU too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from dadkit.ops import fused as fused_module
from dadkit.ops import library
from dadkit.ops.library import load_error

KINDS = ("smooth", "noise", "quantised", "sky", "ramp", "offset", "outlier", "constant")
OPERATOR_TESTS = {
    "test_emulation",
    "test_fused_values",
    "test_fused_degenerate",
    "test_fused_local_global",
    "test_fused_transforms",
    "test_fused_parallel",
    "test_fused_gradient_matching",
}
EVERYWHERE = {"test_fused_values", "test_fused_degenerate", "test_fused_local_global", "test_fused_gradient_matching"}
NO_CUDA = ""
if not torch.cuda.is_available():
    NO_CUDA = "no CUDA device"
elif "cuda" not in fused_module.DEVICES:
    NO_CUDA = "the library was built without its CUDA part"
PTX_LIBRARY = os.environ.get("DADKIT_PTX_LIBRARY")
PLACES = (
    "cpu",
    "emulated",
    *(["ptx"] if PTX_LIBRARY else []),
    pytest.param("cuda", marks=pytest.mark.skipif(bool(NO_CUDA), reason=NO_CUDA)),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = load_error()
    if reason is None:
        return
    for item in items:
        if item.path.parent.name == "ops" and item.path.stem in OPERATOR_TESTS:
            item.add_marker(pytest.mark.skip(reason=reason))


class Fused:
    """``dadkit.ops.fused`` at a place; takes and answers tensors on the CPU."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.device = "cuda" if place == "cuda" else "cpu"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(fused_module, name)

        def call(*arguments: Any, **options: Any) -> Any:
            arguments, options = tree_map_only(Tensor, lambda x: x.to(self.device), (arguments, options))
            return tree_map_only(Tensor, lambda x: x.cpu(), function(*arguments, **options))

        return call if callable(function) else function


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    everywhere = metafunc.module.__name__.rpartition(".")[2] in EVERYWHERE and "isa" not in metafunc.fixturenames
    if "fused" in metafunc.fixturenames and everywhere:
        metafunc.parametrize("fused", PLACES, indirect=True)


@pytest.fixture
def fused(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Fused:
    place = getattr(request, "param", "cpu")
    if place == "ptx":
        torch.ops.load_library(PTX_LIBRARY)
    if place in {"emulated", "ptx"}:
        monkeypatch.setattr(library, "NAMESPACE", f"dadkit_{place}")
    return Fused(place)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def pair() -> Callable[..., tuple[Tensor, Tensor]]:
    """(prediction, target) of a shape and kind, reproducible by seed."""

    def make(
        shape: tuple[int, int, int], kind: str = "smooth", dtype: torch.dtype = torch.float64, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        batch, height, width = shape
        generator = torch.Generator().manual_seed(seed)
        noise, wiggle = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
        y = torch.linspace(0, 1, height, dtype=torch.float64)[:, None]
        x = torch.linspace(0, 1, width, dtype=torch.float64)[None, :]
        scene = torch.sin(3 * x + y) + y * y + 0.3 * ((4 * x).floor() + (3 * y).floor())
        target = scene + torch.arange(batch, dtype=torch.float64)[:, None, None] + 0.02 * noise
        if kind == "noise":
            target = noise
        elif kind == "ramp":
            target = torch.arange(height * width, dtype=torch.float64).view(1, height, width).expand(shape).contiguous()
        elif kind == "sky":
            target = torch.where(target < target.flatten(1).median(1).values[:, None, None], 0, target)
        elif kind == "constant":
            target = torch.full(shape, 0.75, dtype=torch.float64)
        pred = 3 * target + 0.2 + 0.3 * wiggle
        if kind == "quantised":
            target, pred = (8 * target).round() / 8, (4 * pred).round() / 4
        elif kind == "offset":
            target, pred = target + 1e4, pred - 1e4
        elif kind == "outlier":
            pred[:, -1, -1] = 1e6
            target[:, 0, 0] = 1e6
        return pred.to(dtype), target.to(dtype)

    return make


@pytest.fixture(scope="session")
def misled() -> Callable[[tuple[int, int, int]], tuple[Tensor, Tensor]]:
    """A pair of maps that misleads the sample of csrc/device/bracket.h, or leaves most values inside its brackets.

    The 4,096 pixels that it draws are far out: two thirds of the target above all others, so that the bracket misses the
    median; of the prediction half of them on either side, so that the bracket holds everything.
    """

    def make(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        target, pred = (torch.randn(shape, generator=generator).flatten(1) for _ in range(2))
        stratum = target.shape[1] // 4096
        k = torch.arange(4096)
        drawn = k * stratum + (k * 2654435761 % 2**32) % stratum
        target[:, drawn] = torch.where(k % 3 == 0, -10.0, 10.0) + 0.01 * k
        pred[:, drawn] = torch.where(k % 2 == 0, -10.0, 10.0) + 0.001 * k
        return pred.view(shape), target.view(shape)

    return make
