"""A protocol: every choice between a prediction and a number, as data under one name.

Published numbers differ by up to five times through unstated choices. Here each one is a field of a YAML file in
``dadkit/evaluation/protocols/``, and the protocol's name is printed beside every number. Crops are fractions of the frame,
rounded exactly as the benchmarks' public code rounds them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from dadkit.alignment.affine import FITS, Affine, fit_regions
from dadkit.alignment.spread import distance_to_points
from dadkit.data.sample import Sample
from dadkit.errors import DataError
from dadkit.evaluation.completion import Points
from dadkit.evaluation.metrics import METRICS, ORDINAL_METRICS, RELATIVE_METRICS, find_metric, measure
from dadkit.interfaces import Hints, Prediction
from dadkit.spaces import Space

__all__ = [
    "CROPS",
    "FRAMES",
    "Alignment",
    "Crop",
    "Protocol",
    "Scores",
    "cut_frame",
    "keep_inside",
]


@dataclass(frozen=True)
class Crop:
    """Rows [top, bottom) and columns [left, right) as fractions; ``int`` of fraction * side, as the public code does."""

    top: float
    bottom: float
    left: float
    right: float
    meaning: str

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """top, bottom, left, right in pixels."""
        # 1e-6: 45/480 of 480 must be 45 and not 44
        rows = (int(self.top * height + 1e-6), int(self.bottom * height + 1e-6))
        return (*rows, int(self.left * width + 1e-6), int(self.right * width + 1e-6))


CROPS: Mapping[str, Crop] = {
    "none": Crop(0, 1, 0, 1, "the whole frame"),
    "eigen-nyu": Crop(45 / 480, 471 / 480, 41 / 640, 601 / 640, "Eigen's crop of NYUv2: rows 45 to 470, columns 41 to 600"),
    "eigen-kitti": Crop(0.3324324, 0.91351351, 0.0359477, 0.96405229, "Eigen's crop of KITTI"),
    "garg": Crop(0.40810811, 0.99189189, 0.03594771, 0.96405229, "Garg's crop of KITTI"),
    "centre": Crop(0.25, 0.75, 0.25, 0.75, "the central half of each side"),
}
"""Name -> which pixels are measured; the model still sees the whole frame."""


@dataclass(frozen=True)
class Frame:
    """What is cut out *before* the model sees the image: its bottom centre, or the centre of the image at half its size."""

    size: tuple[int, int]
    half: bool = False


FRAMES: Mapping[str, Frame | None] = {
    "none": None,
    "kitti-benchmark": Frame((352, 1216)),
    "kitti-top96": Frame((256, 1216)),
    "nyu-304x228": Frame((228, 304), half=True),
}
"""Name -> the frame. ``kitti-top96`` is the benchmark's frame without its top 96 rows, where LiDAR has no points."""


def keep_inside(valid: Tensor, name: str) -> Tensor:
    """``valid`` (…, H, W), False outside the crop."""
    if name == "none":
        return valid
    top, bottom, left, right = CROPS[name].box(*valid.shape[-2:])
    inside = torch.zeros_like(valid)
    inside[..., top:bottom, left:right] = True
    return valid & inside


def cut_frame(sample: Sample, name: str) -> Sample:
    """Returns the frame of a sample; intrinsics and hints move along. Of half-size truth every second pixel is taken, none
    averaged.

    Raises:
        DataError: the image is smaller than the frame.
    """
    frame = FRAMES[name]
    if frame is None:
        return sample
    size = frame.size
    if frame.half and tuple(sample.image.shape[-2:]) == size:
        return sample
    sample = _halved(sample) if frame.half else sample
    height, width = sample.image.shape[-2:]
    top, left = height - size[0], (width - size[1]) // 2
    top = top // 2 if frame.half else top
    if top < 0 or left < 0:
        raise DataError(f"'{sample.key}' is {width} x {height}, smaller than the frame '{name}' of {size[1]} x {size[0]}")
    box = (..., slice(top, top + size[0]), slice(left, left + size[1]))
    moved = sample.intrinsics
    if moved is not None:
        moved = moved.clone()
        moved[0, 2] -= left
        moved[1, 2] -= top
    given = sample.hints
    return replace(
        sample,
        image=sample.image[box],
        depth=None if sample.depth is None else sample.depth[box],
        valid=None if sample.valid is None else sample.valid[box],
        intrinsics=moved,
        hints=None
        if given is None
        else Hints(given.depth[box], given.valid[box], None if given.sigma is None else given.sigma[box]),
    )


def _halved(sample: Sample) -> Sample:
    height, width = (side // 2 for side in sample.image.shape[-2:])
    image = F.interpolate(sample.image[None].float(), (height, width), mode="bilinear", antialias=True)[0]
    odd = (..., slice(1, 2 * height, 2), slice(1, 2 * width, 2))
    camera = sample.intrinsics
    return replace(
        sample,
        image=image.round().clamp(0, 255).to(torch.uint8),
        depth=None if sample.depth is None else sample.depth[odd],
        valid=None if sample.valid is None else sample.valid[odd],
        intrinsics=None if camera is None else camera * torch.tensor([[0.5], [0.5], [1.0]]),
        hints=None if sample.hints is None else sample.hints.at_size((height, width)),
    )


Alignment = Literal[
    "none", "scale", "scale-lstsq", "scale-shift", "scale-shift-l1", "scale-shift-ransac", "scale-shift-regions"
]

_ALIGNED = {
    "none": "no alignment",
    "scale": "one factor, the ratio of medians",
    "scale-lstsq": "one factor by least squares",
    "scale-shift": "scale and shift by least squares",
    "scale-shift-l1": "scale and shift by least absolute deviations",
    "scale-shift-ransac": "scale and shift by seeded RANSAC",
    "scale-shift-regions": "scale and shift by least squares in each cell of a 4 x 4 grid",
}


@dataclass(frozen=True, eq=False)
class Scores:
    """What a protocol says about B images.

    Attributes:
        metrics: name -> (B,) float64; NaN where an image has no valid pixel.
        valid_pixels: (B,) int64.
        affine: what the alignment did, or None.
        valid: (B, H, W) bool, the pixels that were measured.
    """

    metrics: dict[str, Tensor]
    valid_pixels: Tensor
    affine: Affine | None
    valid: Tensor
    _maps: Callable[[], Tensor]

    @cached_property
    def depth(self) -> Tensor:
        """(B, H, W) float64, the aligned prediction as it was measured: in metres, or in the space of relative labels.

        Computed when it is first asked for.
        """
        return self._maps()


class Protocol(BaseModel):
    """Turns predictions and truth into metrics.

    The order is fixed. Before the model: the frame is cut, the image perhaps made smaller. After it: the prediction is brought
    to the truth's size (bilinear) and to ``space`` (refused if that needs a guess); truth outside the range, outside the crop
    or unknown is masked; the prediction is aligned in ``space``; aligned disparity is floored and inverted; depth is clipped;
    metrics are taken per image.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str
    """Name under which the protocol is printed."""
    summary: str
    """The protocol in words."""
    source: str = "dadkit's own"
    """Whose code or paper it follows, and what is known about how well it reproduces their numbers."""
    task: Literal["depth", "ordinal"] = "depth"
    """``depth``: dense truth. ``ordinal``: annotated pairs of points; only ``resize`` and ``metrics`` matter then."""
    labels: Literal["metric", "relative"] = "metric"
    """``relative``: labels known up to scale and shift. Prediction and labels are compared in ``space``, where the prediction
    is fitted to the labels; nothing is inverted, clipped or limited to a range. Metric labels are converted to ``space``."""
    dataset: str | None = None
    """The dataset that these values were resolved for; None: the protocol's general values."""
    datasets: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Dataset's name -> the fields that are different for it. Other datasets get the general values."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the dataset that the protocol asks for (which list, raw or filled depth); what the user gives wins."""
    points: Points | None = None
    """The sparse points of depth completion; None: the model sees the image alone. With points, a completer brings the model's
    map to metres, and ``space: metric`` is needed."""
    space: Space = Space.DISPARITY
    """Space in which prediction and truth are aligned."""
    alignment: Alignment = "none"
    """How the prediction is fitted to the truth, image by image (:mod:`dadkit.alignment.affine`)."""
    min_depth: float = Field(gt=0, default=1e-3)
    """Metres; truth nearer than this is masked, predictions are clipped to it."""
    max_depth: float = Field(gt=0, default=100.0)
    """Metres; truth farther than this is masked, predictions are clipped to it. May be infinite."""
    mask: Literal["open", "closed", "none"] = "open"
    """Truth is valid for min < d < max, for min <= d <= max, or wherever the dataset's own mask says so."""
    frame: Literal["none", "kitti-benchmark", "kitti-top96", "nyu-304x228"] = "none"
    """What is cut out before the model sees the image: ``kitti-benchmark`` = the bottom centre, 352 x 1216; ``kitti-top96`` =
    the bottom 256 of those rows; ``nyu-304x228`` = the centre of the image at half its size."""
    crop: Literal["none", "eigen-nyu", "eigen-kitti", "garg", "centre"] = "none"
    """Which part of the frame is measured (:mod:`dadkit.evaluation.protocol`)."""
    floor: float | Literal["cap", "image"] = "cap"
    """Smallest aligned disparity in 1/m before it is inverted: a number, ``cap`` = 1 / max_depth, ``image`` = 1 / the largest
    valid truth of the image. One pixel near zero disparity can otherwise decide a whole table."""
    clip: tuple[float, float] | None = None
    """Limits of aligned depth in metres, where they differ from min_depth and max_depth."""
    fit_positive: bool = False
    """Only pixels with a positive prediction take part in the fit (they are all measured)."""
    fit_max_side: int | None = Field(ge=1, default=None)
    """Maps with a longer side are fitted on every k-th row and column, so that it is at most this long."""
    resize: int | None = Field(ge=1, default=None)
    """The image is made smaller, so that its longer side is this long, before the model applies its own size policy."""
    flip: bool = False
    """The prediction is averaged with that of the mirrored image."""
    min_pixels: int = Field(ge=1, default=1)
    """Images with fewer valid pixels are left out, and counted."""
    metrics: tuple[str, ...] = METRICS
    """What is measured, in the order of the table."""

    @model_validator(mode="after")
    def _consistent(self) -> Protocol:
        unknown = [name for name in self.metrics if not _measurable(name, self.task)]
        if unknown:
            raise ValueError(f"unknown metric '{unknown[0]}' for the task '{self.task}'")
        if self.task == "depth" and self.space is Space.DISPARITY and self.floor == "cap" and self.max_depth == float("inf"):
            raise ValueError("floor: cap needs a finite max_depth; give the floor as a number, or floor: image")
        if self.labels == "relative":
            if self.task != "depth" or self.space is Space.METRIC or not self.alignment.startswith("scale-shift"):
                raise ValueError("labels: relative needs space: disparity or depth, and an alignment by scale and shift")
            if wrong := [name for name in self.metrics if name not in RELATIVE_METRICS]:
                raise ValueError(f"metric '{wrong[0]}' needs metres; relative labels have {', '.join(RELATIVE_METRICS)}")
        if self.points is not None and (self.task != "depth" or self.space is not Space.METRIC or self.alignment != "none"):
            raise ValueError("points: completion is measured in metres; it needs space: metric and alignment: none")
        assert self.crop in CROPS
        assert self.frame in FRAMES
        return self

    def score(self, prediction: Prediction, depth: Tensor, valid: Tensor, hints: Hints | None = None) -> Scores:
        """Measure a batch.

        Args:
            prediction: ``depth`` (B, 1, H, W) in any space that converts to ``self.space``, at the truth's size.
            depth: (B, 1, H, W) true metric depth in metres, or relative labels in ``self.space``; infinity is sky.
            valid: (B, 1, H, W) bool, where truth is known.
            hints: the points that the completer was given, for metrics by the distance to them.

        Raises:
            dadkit.spaces.SpaceError: the prediction's space does not convert; the message names a fitting protocol's space.
        """
        predicted = prediction.to_space(self.space)
        truth = depth[:, 0]
        keep = keep_inside(valid[:, 0] & self._in_range(truth), self.crop)
        if prediction.valid is not None:
            keep = keep & prediction.valid[:, 0]
        if hints is not None and self.points is not None and self.points.measured == "without-points":
            keep = keep & ~hints.valid[:, 0]
        source = predicted.depth[:, 0]

        def map_of(index: int) -> Tensor:
            aligned = source[index].double()
            if regions is not None:
                aligned = aligned * regions.scale[index] + regions.shift[index]
            elif fits:
                aligned = aligned * fits[index][0] + fits[index][1]
            return self._to_metres(aligned, self._floor(truth[index][keep[index]]))

        regions = self._fit_regions(source, truth, keep) if self.alignment == "scale-shift-regions" else None
        rows, fits = [], []
        # One image at a time: its valid values stay in the processor's cache while fit and metrics read them.
        for index in range(source.shape[0]):
            x, g = _gathered(keep[index], source[index], truth[index])
            if regions is not None:
                x = x * regions.scale[index][keep[index]] + regions.shift[index][keep[index]]
            elif self.alignment != "none":
                fits.append(self._fit(x, g, source[index], truth[index], keep[index]))
                x = x.mul_(fits[-1][0]).add_(fits[-1][1])
            p = self._to_metres(x, self._floor(g))
            away = None if hints is None else partial(_away, hints.valid[index, 0], keep[index])
            rows.append(measure(p, g, self.metrics, lambda index=index: (map_of(index), truth[index], keep[index]), away))  # type: ignore[misc]
        affine = regions if not fits else _affine(fits, source.device)
        metrics = {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in self.metrics}
        return Scores(
            metrics={name: values.to(source.device) for name, values in metrics.items()},
            valid_pixels=keep.sum((1, 2)),
            affine=affine,
            valid=keep,
            _maps=lambda: torch.stack([map_of(index) for index in range(len(rows))]),
        )

    def plain(self) -> dict[str, Any]:
        """Returns the fields as JSON can hold them: infinities, which it cannot, as the text ``inf``, which :class:`Protocol`
        takes.
        """

        def finite(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: finite(item) for key, item in value.items()}
            if isinstance(value, list):
                return [finite(item) for item in value]
            return "inf" if value == float("inf") else value

        plain: dict[str, Any] = finite(self.model_dump(mode="json"))
        return plain

    def words(self) -> dict[str, str]:
        """Returns the choices in words, for tables and reports."""
        if self.task == "ordinal":
            return {"task": "annotated pairs of points: which one is nearer?", "metrics": ", ".join(self.metrics)}
        low, high = self.limits
        return {
            "alignment": f"{_ALIGNED[self.alignment]}, in {self.space}" if self.alignment != "none" else _ALIGNED["none"],
            "truth": self.truth_text,
            "crop": CROPS[self.crop].meaning + ("" if self.frame == "none" else f", of the frame {self.frame}"),
            "floor": self.floor_text,
            "clip": f"{low:g} to {high:g} m" if self.labels == "metric" else "-",
            "fitted on": ("pixels with a positive prediction" if self.fit_positive else "the measured pixels")
            + (f", thinned to at most {self.fit_max_side} a side" if self.fit_max_side else ""),
            "input": (f"longer side {self.resize}" if self.resize else "the model's own size")
            + (", averaged with the mirrored image" if self.flip else ""),
            **({} if self.points is None else {"points": self.points.words}),
            "means": "per image, then over images",
        }

    @property
    def truth_space(self) -> Space:
        """The space in which prediction and truth are compared: metres, or that of relative labels."""
        return self.space if self.labels == "relative" else Space.METRIC

    @property
    def truth_text(self) -> str:
        """Which truth counts, in words."""
        if self.labels == "relative":
            return f"all valid labels, up to scale and shift, in {self.space}"
        return f"{self.mask} range {self.min_depth:g} to {self.max_depth:g} m" if self.mask != "none" else "all valid"

    @property
    def _inverts(self) -> bool:
        """True if the fit is in disparity and the metrics are in metres."""
        return self.space is Space.DISPARITY and self.labels == "metric"

    @property
    def limits(self) -> tuple[float, float]:
        """(low, high) in metres to which predictions are clipped."""
        return self.clip if self.clip is not None else (self.min_depth, self.max_depth)

    @property
    def floor_text(self) -> str:
        """The floor of aligned disparity in a few characters, ``-`` where there is none."""
        if not self._inverts:
            return "-"
        named = {"cap": f"1/{self.max_depth:g}", "image": "1/max(truth)"}
        return named[self.floor] if isinstance(self.floor, str) else f"{self.floor:g}"

    @property
    def crop_text(self) -> str:
        """Frame and crop in a few characters."""
        return self.crop if self.frame == "none" else f"{self.frame}, {self.crop}"

    def _in_range(self, truth: Tensor) -> Tensor:
        """In the truth's own precision. False for NaN, and for sky, which no finite metric can judge."""
        if self.labels == "relative":
            return torch.isfinite(truth)
        known = torch.isfinite(truth) & (truth > 0)
        if self.mask == "open":
            return known & (truth > self.min_depth) & (truth < self.max_depth)
        return known & (truth >= self.min_depth) & (truth <= self.max_depth) if self.mask == "closed" else known

    def _fit(self, x: Tensor, g: Tensor, source: Tensor, truth: Tensor, keep: Tensor) -> tuple[float, float]:
        """Scale and shift of one image: its measured values (n,), and the (H, W) maps they were taken from."""
        if self.fit_positive or self.fit_max_side:
            step = -(-max(source.shape) // self.fit_max_side) if self.fit_max_side else 1
            source, truth, keep = (one[::step, ::step] for one in (source, truth, keep))
            x, g = _gathered(keep & (source > 0) if self.fit_positive else keep, source, truth)
        return FITS[self.alignment](x, g.reciprocal() if self._inverts else g)

    def _fit_regions(self, source: Tensor, truth: Tensor, keep: Tensor) -> Affine:
        target = torch.where(keep, truth.double(), 1.0)
        if self.fit_positive:
            keep = keep & (source > 0)
        return fit_regions(source, 1 / target if self._inverts else target, keep)

    def _floor(self, truth: Tensor) -> float:
        """Returns the smallest disparity of an image with n valid pixels, of which the truth is (n,)."""
        if self.floor == "image":
            return 1.0 / max(float(truth.max()), self.min_depth) if truth.numel() else 1.0 / self.min_depth
        return 1.0 / self.max_depth if isinstance(self.floor, str) else self.floor

    def _to_metres(self, aligned: Tensor, floor: float) -> Tensor:
        if self.labels == "relative":
            return aligned
        if self._inverts:
            aligned = aligned.clamp_min(floor).reciprocal_()
        return aligned.clamp(*self.limits)


def _measurable(name: str, task: str) -> bool:
    if task == "ordinal":
        return name in ORDINAL_METRICS
    try:
        find_metric(name)
    except KeyError:
        return False
    return True


def _gathered(keep: Tensor, *maps: Tensor) -> list[Tensor]:
    """Returns the values of (H, W) maps where ``keep``, as (n,) float64. One search for all: a boolean index would
    search anew.
    """
    where = keep.flatten().nonzero().squeeze(1)
    return [one.flatten().index_select(0, where).double() for one in maps]


def _away(given: Tensor, keep: Tensor) -> Tensor:
    """(n,) distance in pixels of the measured pixels to the nearest point."""
    return distance_to_points(given.nonzero(), (given.shape[0], given.shape[1]), cell=1)[keep]


def _affine(fits: list[tuple[float, float]], device: torch.device) -> Affine:
    values = torch.tensor(fits, dtype=torch.float64, device=device)
    return Affine(values[:, 0], values[:, 1])
