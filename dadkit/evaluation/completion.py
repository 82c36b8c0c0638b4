"""Completion under a protocol: which points a completer is given, and the trivial answers beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor

from dadkit.alignment.affine import ratio_of_medians
from dadkit.data.patterns import PATTERNS, generator_for, lidar_lines, simulate
from dadkit.data.sample import Sample
from dadkit.errors import DataError, SampleError
from dadkit.interfaces import Completer, CompleterSpec, DepthModel, Estimate, Hints, Prediction
from dadkit.loading import load_completer
from dadkit.spaces import Space

__all__ = ["Completed", "Nearest", "OneFactor", "Points", "completed", "trivial_answers"]


class Points(BaseModel):
    """The sparse points of a completion protocol. They depend on these values and the image's key alone."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: Literal["truth", "dataset"] = "truth"
    """``truth``: simulated from the true depth. ``dataset``: those that the dataset brings."""
    pattern: str = "uniform"
    """Where simulated points are, a key of :data:`dadkit.data.patterns.PATTERNS`."""
    count: int = Field(ge=1, default=500)
    """How many are simulated at most."""
    seed: int = 0
    """Of the simulation, beside the image's key."""
    noise: float = Field(ge=0, default=0.0)
    """Relative standard deviation of simulated depth."""
    outliers: float = Field(ge=0, le=1, default=0.0)
    """Share of simulated points that are wrong by a factor of 1.6 to 3.3."""
    see_through: float = Field(ge=0, le=1, default=0.0)
    """Share of simulated points that are seen past an edge."""
    drop_behind: float | None = Field(gt=0, default=None)
    """Points that are farther than another within 3 pixels by more than these metres are left out."""
    lines: int | None = Field(ge=1, le=64, default=None)
    """How many of 64 lines of a LiDAR are given, by elevation; needs the dataset's camera."""
    max_depth: float | None = Field(gt=0, default=None)
    """Points farther than this are left out."""
    measured: Literal["all", "without-points"] = "all"
    """``without-points``: the pixels of the given points are not measured."""

    @field_validator("pattern")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in PATTERNS:
            raise ValueError(f"there is no pattern of points '{name}'; take one of {', '.join(PATTERNS)}")
        return name

    def given(self, sample: Sample) -> Sample:
        """Returns the sample with the points that a completer is given as its ``hints``.

        Raises:
            SampleError: no point is left.
            DataError: the dataset brings no points, or no camera where one is needed.
        """
        if self.source == "dataset":
            if sample.hints is None:
                raise DataError(
                    f"the protocol takes the dataset's own points, and sample '{sample.key}' has none; choose a dataset that "
                    "brings points (kitti-val, nyu-conti, void, ddad), or a protocol that simulates them (completion)"
                )
            hints = sample.hints
        else:
            hints = self._simulated(sample)
        if self.drop_behind is not None:
            hints = hints.without_seen_through(self.drop_behind)
        if self.lines is not None:
            if sample.intrinsics is None:
                raise DataError(f"lines of a LiDAR are told apart by the camera, and sample '{sample.key}' has none")
            hints = lidar_lines(hints, sample.intrinsics, self.lines)
        if self.max_depth is not None:
            hints = replace(hints, valid=hints.valid & (hints.depth <= self.max_depth))
        if not bool(hints.valid.any()):
            raise SampleError(f"{sample.key}: no point is given")
        return replace(sample, hints=hints)

    def _simulated(self, sample: Sample) -> Hints:
        if sample.depth is None or sample.space is not Space.METRIC:
            raise DataError(f"points are simulated from true metres, which sample '{sample.key}' has not")
        valid = torch.ones_like(sample.depth, dtype=torch.bool) if sample.valid is None else sample.valid
        return simulate(
            sample.depth[0],
            valid[0],
            sample.image,
            pattern=self.pattern,
            points=self.count,
            generator=generator_for(self.seed, sample.key),
            noise=self.noise,
            outliers=self.outliers,
            see_through=self.see_through,
        )

    @property
    def words(self) -> str:
        """The choices in words."""
        if self.source == "dataset":
            text = "the dataset's own"
        else:
            text = f"{self.count} of the truth, {self.pattern}, seed {self.seed}"
            wrong = [f"{value:.0%} {name}" for name, value in (("noise", self.noise), ("outliers", self.outliers)) if value]
            wrong += [f"{self.see_through:.0%} seen past an edge"] if self.see_through else []
            text += "".join(f", {part}" for part in wrong)
        text += "" if self.drop_behind is None else f", none more than {self.drop_behind:g} m behind a neighbour"
        text += "" if self.lines is None else f", {self.lines} of 64 lines"
        text += "" if self.max_depth is None else f", up to {self.max_depth:g} m"
        return text + ("; their pixels are measured" if self.measured == "all" else "; their pixels are not measured")


class Completed(DepthModel):
    """A depth model whose map a completer brings to metres: what a protocol with points measures.

    Args:
        model: answers with a map, in its own space.
        completer: makes metres of it.
    """

    def __init__(self, model: DepthModel, completer: Completer) -> None:
        super().__init__()
        licenses = [name for name in (model.spec.license, completer.spec.license) if name != "none"]
        self.spec = replace(
            model.spec, name=f"{model.spec.name} + {completer.spec.name}", license=" AND ".join(licenses) or "none"
        )
        self.model, self.completer, self.fov = model, completer, model.fov

    def estimate(self, x: Tensor) -> Estimate:
        """Returns the model's map; metres come from :meth:`complete`."""
        answer = self.model.estimate(x)
        return answer if isinstance(answer, Estimate) else Estimate(*answer)

    def complete(self, images: Tensor, hints: Hints, relative: Prediction, cameras: Tensor | None = None) -> Prediction:
        """Metres; arguments as of :meth:`dadkit.interfaces.Completer.complete`. Each image is completed by itself."""
        parts = []
        for index in range(len(images)):
            one = slice(index, index + 1)
            valid = None if relative.valid is None else relative.valid[one]
            own = Prediction(relative.depth[one], relative.space, valid=valid)
            points = Hints(hints.depth[one], hints.valid[one], None if hints.sigma is None else hints.sigma[one])
            camera = None if cameras is None else cameras[one]
            parts.append(self.completer.complete(images[one], points, own, camera).depth)
        return replace(relative, depth=torch.cat(parts), space=Space.METRIC, features={})


def completed(model: DepthModel) -> Completed:
    """Returns the model itself if it is completed already, or else with ``align``."""
    return model if isinstance(model, Completed) else Completed(model, load_completer("align"))


def trivial_answers(models: Mapping[str, DepthModel]) -> dict[str, DepthModel]:
    """Rows that every completion is seen beside: the nearest point, and of each depth model one factor and the global fit."""
    inner: dict[int, tuple[str, DepthModel]] = {}
    for row, model in models.items():
        own = completed(model).model
        inner.setdefault(id(own), (row.split(" + ")[0], own))
    rows: dict[str, DepthModel] = {}
    for name, own in inner.values():
        rows["nearest point"] = Completed(own, Nearest())
        rows[f"{name} + one factor"] = Completed(own, OneFactor())
        rows[f"{name} + global fit"] = Completed(own, load_completer("align", local="none"))
    return rows


class Nearest(Completer):
    """The depth of the nearest point, whatever the picture shows."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = CompleterSpec(name="nearest point")

    def complete(
        self, images: Tensor, hints: Hints, relative: Prediction | None = None, intrinsics: Tensor | None = None
    ) -> Prediction:
        """See :meth:`dadkit.interfaces.Completer.complete`; only ``hints`` are looked at."""
        size = (hints.depth.shape[-2], hints.depth.shape[-1])
        maps = [_nearest(hints.depth[i, 0], hints.valid[i, 0]) for i in range(len(images))]
        return Prediction(torch.stack(maps).view(-1, 1, *size), Space.METRIC)


def _nearest(depth: Tensor, valid: Tensor) -> Tensor:
    """(H, W) depth of the nearest point of each pixel: the nearest of the rows' nearest columns."""
    rows = valid.any(1).nonzero()[:, 0]
    columns = torch.arange(valid.shape[1], device=valid.device)
    before = torch.where(valid[rows], columns, -(10**6)).cummax(1).values
    after = torch.where(valid[rows], columns, 10**6).flip(1).cummin(1).values.flip(1)
    column = torch.where(columns - before <= after - columns, before, after)
    across = (column - columns).square()
    parts = []
    for part in torch.arange(valid.shape[0], device=valid.device).split(16):
        best = (across + (part[:, None, None] - rows[:, None]).square()).argmin(1)
        parts.append(depth[rows[best], column[best, columns]])
    return torch.cat(parts)


class OneFactor(Completer):
    """The map times one factor, the ratio of medians at the points; for disparity, 1 / (factor times map)."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = CompleterSpec(name="one factor")

    def complete(
        self, images: Tensor, hints: Hints, relative: Prediction | None = None, intrinsics: Tensor | None = None
    ) -> Prediction:
        """See :meth:`dadkit.interfaces.Completer.complete`. It ends at 1.5 times the farthest point, 0.5 times the nearest."""
        assert relative is not None
        inverse = relative.space is Space.DISPARITY
        maps = []
        for index in range(len(images)):
            z = hints.depth[index][hints.valid[index]].double()
            factor, _ = ratio_of_medians(relative.depth[index][hints.valid[index]].double(), z.reciprocal() if inverse else z)
            values = relative.depth[index].double() * factor
            low, high = 0.5 * float(z.min()), 1.5 * float(z.max())
            maps.append((values.clamp(min=1 / high).reciprocal() if inverse else values).clamp(low, high).float())
        return Prediction(torch.stack(maps), Space.METRIC)
