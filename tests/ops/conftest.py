"""Maps of every awkward kind, and the fused operators where they are built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor

from dadkit.ops import fused as fused_module
from dadkit.ops.library import load_error

KINDS = ("smooth", "noise", "quantised", "sky", "ramp", "offset", "outlier", "constant")
OPERATOR_TESTS = {
    "test_fused_values",
    "test_fused_degenerate",
    "test_fused_local_global",
    "test_fused_transforms",
    "test_fused_parallel",
    "test_device_kernels",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = load_error()
    if reason is None:
        return
    for item in items:
        if item.path.parent.name == "ops" and item.path.stem in OPERATOR_TESTS:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def fused() -> ModuleType:
    return fused_module


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
