"""The written file beside the model: how far its answers differ, on photographs, at several sizes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from dadkit.interfaces import DepthModel, nearest_multiple
from dadkit.interfaces.exporter import as_input

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Agreement", "Row", "check_sizes", "compare", "rounding"]


@dataclass(frozen=True)
class Row:
    """The difference at one size.

    Attributes:
        size: (height, width).
        batch: images at once.
        worst, mean: largest and mean absolute difference, in parts of the map's range (its 1st to 99th percentile).
    """

    size: tuple[int, int]
    batch: int
    worst: float
    mean: float


@dataclass(frozen=True)
class Agreement:
    """What :func:`compare` found.

    Attributes:
        rows: one for each size.
        rounding: the largest difference of the model itself to itself in float64; None where nobody had to know.
    """

    rows: Sequence[Row]
    rounding: float | None = None

    @property
    def worst(self) -> float:
        """The largest difference at any size, in parts of the map's range."""
        return max(row.worst for row in self.rows)

    @property
    def mean(self) -> float:
        """The mean difference over the sizes, in parts of the map's range."""
        return sum(row.mean for row in self.rows) / len(self.rows)

    def plain(self) -> dict[str, Any]:
        """As metadata hold it."""
        return {"worst": self.worst, "mean": self.mean, "rounding": self.rounding, "rows": [asdict(row) for row in self.rows]}


def check_sizes(model: DepthModel, size: tuple[int, int] | None) -> list[tuple[int, int, int]]:
    """(batch, height, width) of the checks: a landscape near the model's own size, and a portrait and a square half as large.

    For a file of one size, three times that size.
    """
    if size is not None:
        return [(1, *size)] * 3
    multiple, native = model.spec.size_multiple, model.spec.native.size or 256

    def legal(scale: float) -> int:
        return max(2 * multiple, nearest_multiple(round(native * scale), multiple))

    return [(1, legal(0.75), legal(1.0)), (2, legal(0.65), legal(0.4)), (1, legal(0.5), legal(0.5))]


def compare(
    model: DepthModel,
    run: Callable[[np.ndarray], np.ndarray],
    pictures: Sequence[Tensor],
    sizes: Sequence[tuple[int, int, int]],
    *,
    input: Literal["float", "uint8"] = "float",
) -> Agreement:
    """Run both on the same pixels.

    Args:
        model: answers with the truth; in eval mode.
        run: the file; takes arrays of the kind ``input``.
        pictures: (3, H, W) uint8; they are used in turn.
        sizes: (batch, height, width) of each check.
        input: what ``run`` takes.
    """
    from dadkit.export.photographs import cropped

    rows, turn = [], 0
    for batch, height, width in sizes:
        images = torch.cat([cropped(pictures[(turn + i) % len(pictures)], (height, width)) for i in range(batch)])
        turn += batch
        with torch.inference_mode():
            wanted = model(images.float() / 255).depth.double()
        found = torch.from_numpy(run(as_input(images.float() / 255, input))).double()
        if found.shape != wanted.shape:
            raise ValueError(f"the file answers with {tuple(found.shape)} where the model answers with {tuple(wanted.shape)}")
        difference = (found - wanted).abs() / spread(wanted)
        rows.append(Row((height, width), batch, float(difference.max()), float(difference.mean())))
    return Agreement(rows)


def rounding(model: DepthModel, pictures: Sequence[Tensor], sizes: Sequence[tuple[int, int, int]]) -> float:
    """Returns how far the model in float32 is from itself in float64, at worst, in parts of the map's range.

    A file computes the same in another order, so no file can be expected to be much nearer to the model than this.
    """
    from dadkit.export.photographs import cropped

    exact, worst = copy.deepcopy(model).double(), 0.0
    for turn, (_, height, width) in enumerate(sizes):
        images = cropped(pictures[turn % len(pictures)], (height, width)).float() / 255
        with torch.inference_mode():
            one, other = model(images).depth.double(), exact(images.double()).depth.double()
        worst = max(worst, float((one - other).abs().max() / spread(other)))
    return worst


def spread(depth: Tensor) -> float:
    """Returns the range of a map between its 1st and 99th percentile; of a nearly constant one, 1 % of its magnitude."""
    values = depth.flatten().sort().values
    low, high = values[len(values) // 100], values[-1 - len(values) // 100]
    return max(float(high - low), 0.01 * float(depth.abs().max()), 1e-12)
