"""One pair from a few known distances in pictures."""

from __future__ import annotations

import codecs
import csv
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from dadkit.alignment.few import CalibrationError, Form, fit_few
from dadkit.calibration.record import Calibration, digest
from dadkit.data.images import decode, exif_focal
from dadkit.errors import SampleError
from dadkit.interfaces import DepthModel, Space
from dadkit.prediction import Lens
from dadkit.prediction.camera import given_cameras

__all__ = ["KnownPoint", "calibrate_points", "parse_point", "read_points", "suggest_points"]

_ONE_PLANE = 1.15
"""Points of which the farthest is at most so many times as far as the nearest say nothing of how depth grows."""
_WINDOW = 2  # pixels to each side of a point
_EDGE = 0.1  # of the map's range, within the window
_USUAL_FOV = 70.0  # degrees, of a phone


@dataclass(frozen=True)
class KnownPoint:
    """A distance that somebody measured.

    Attributes:
        picture: the picture's file.
        x, y: the pixel, counted from 0 at the left and at the top.
        metres: the distance.
    """

    picture: Path
    x: float
    y: float
    metres: float


def parse_point(text: str, picture: Path) -> KnownPoint:
    """Returns a point as the command line takes it.

    Example:
        >>> parse_point("812,440=2.35m", Path("hall.jpg"))
        KnownPoint(picture=PosixPath('hall.jpg'), x=812.0, y=440.0, metres=2.35)
    """
    found = re.fullmatch(r"(?i)\s*(\d+\.?\d*)\s*,\s*(\d+\.?\d*)\s*=\s*(-?\d*[.,]?\d+)\s*(m|cm|mm)?\s*", text)
    if found is None:
        raise CalibrationError(f"a known distance is X,Y=METRES, for instance 812,440=2.35, or 812,440=235cm; got {text!r}")
    unit = {"cm": 0.01, "mm": 0.001}.get((found[4] or "m").lower(), 1.0)
    return KnownPoint(picture, float(found[1]), float(found[2]), _number(found[3]) * unit)


def read_points(file: Path, picture: Path | None = None) -> list[KnownPoint]:
    """Points of a CSV file with the columns ``image,x,y,metres``; images relative to the file's folder.

    Spreadsheets' semicolons or tabs between columns, decimal commas and UTF-16 are read too.

    Args:
        file: the file.
        picture: what the points belong to where the file has no column ``image``.

    Raises:
        CalibrationError: the file cannot be read, or a line is not such a point.
    """
    try:
        data = file.read_bytes()
        lines = data.decode("utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig").splitlines()
        head = lines[0].lower() if lines else ""
        separator = next((mark for mark in "\t;" if mark in head), ",")
        names = [name.strip() for name in head.split(separator)]
        rows = list(csv.DictReader(lines[1:], names, delimiter=separator, skipinitialspace=True))
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error
    points = []
    for line, row in enumerate(rows, start=2):
        try:
            place = picture if picture is not None and "image" not in row else file.parent / row["image"]
            points.append(KnownPoint(place, *(_number(row[name]) for name in ("x", "y", "metres"))))
        except (AttributeError, KeyError, ValueError) as error:  # a cell that is not there is None
            raise CalibrationError(
                f"{file}:{line}: the columns are image,x,y,metres, or x,y,metres where a PICTURE is given; got {row}"
            ) from error
    if not points:
        raise CalibrationError(f"{file} holds no point; its first line is image,x,y,metres, and each other one a point")
    return points


def _number(text: str) -> float:
    return float(text.replace(",", "."))


def suggest_points(model: DepthModel, picture: Path, count: int = 5) -> list[tuple[int, int]]:
    """Returns where to measure: (x, y) of even places, spread over what the model calls near and far, nearest first.

    Where one measures matters more than how the pair is fitted.
    """
    values, space = _map(model, picture, None)
    height, width = values.shape
    mean = F.avg_pool2d(values[None], 9, 1, 4, count_include_pad=False)
    uneven = F.avg_pool2d((values[None] - mean).abs(), 9, 1, 4, count_include_pad=False)[0]
    low, high = _range(values)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    margin = max(height, width) // 16
    inner = (y >= margin) & (y < height - margin) & (x >= margin) & (x < width - margin)
    levels = torch.linspace(0.05, 0.95, count, dtype=values.dtype) * (high - low) + low
    places: list[tuple[int, int]] = []
    for level in levels.flip(0) if space is Space.DISPARITY else levels:
        away = torch.stack([((x - a) ** 2 + (y - b) ** 2).sqrt() for a, b in places] or [torch.full_like(values, 1e9)]).amin(0)
        cost = (values - level).abs() / (high - low) + 4 * uneven / (high - low) + 0.2 * (away < max(height, width) / 8)
        best = int(torch.where(inner, cost, math.inf).argmin())
        places.append((best % width, best // width))
    return places


def calibrate_points(
    model: DepthModel, points: Sequence[KnownPoint], *, lens: Lens | None = None, along_axis: bool = False, form: Form = "auto"
) -> Calibration:
    """Fit one pair to known distances; it holds for this camera and scene.

    Args:
        model: any depth model. Values are medians of 5 x 5 pixels.
        points: at least two, better five from near to far; of one picture or of several of the same scene.
        lens: focal length or field of view of the pictures; None: of their EXIF data. With it distances to the lens, as a tape
            gives them, become distances along the optical axis, as maps hold them.
        along_axis: the distances are along the optical axis already.
        form: see :func:`dadkit.alignment.few.fit_few`.

    Raises:
        CalibrationError: the points cannot be used; the message says why.
    """
    maps: dict[Path, Tensor] = {}
    values: list[float] = []
    depths: list[float] = []
    notes: list[str] = []
    for point in points:
        if point.picture not in maps:
            maps[point.picture] = _map(model, point.picture, lens)[0]
        values.append(_value(maps[point.picture], point, notes))
        depths.append(point.metres if along_axis else _along_axis(point, maps[point.picture], lens, notes))
    known = torch.tensor(depths, dtype=torch.float64)
    everything = torch.cat([values.flatten()[:: max(1, values.numel() // 100_000)] for values in maps.values()])
    space = model.spec.space
    fit = fit_few(torch.tensor(values, dtype=torch.float64), known, space, everything, form=form)
    if float(known.max() / known.min()) < _ONE_PLANE:
        notes.append(
            "all points are about equally far: how depth grows beyond them is a guess; measure something nearer and farther"
        )
    if fit.refused and fit.form == "scale" and form == "auto" and space not in (Space.SCALE, Space.METRIC):
        notes.append(f"one factor without a shift: {fit.refused}")
    if fit.expected is not None and fit.expected > 0.2:
        notes.append(
            "the expected error is large; for metres in many scenes train a metric student: docs/evaluation.md, docs/runs.md"
        )
    elif space not in (Space.SCALE, Space.METRIC):
        notes.append("the pair holds for this camera and scene: a relative model has another one in every scene")
    rows = [
        {
            "picture": point.picture.name,
            "x": point.x,
            "y": point.y,
            "metres": depth,
            "fitted": fitted,
            "error": residual,
            "left_out": fit.left_out[index] if fit.left_out else None,
            "disagrees": index in fit.disagree,
        }
        for index, (point, depth, fitted, residual) in enumerate(zip(points, depths, fit.metres, fit.residuals, strict=True))
    ]
    for index in fit.disagree:
        point = points[index]
        notes.append(
            f"the point {point.x:g},{point.y:g} of {point.picture.name} does not fit to the others: {depths[index]:.2f} m "
            f"where they say {depths[index] * (1 + fit.left_out[index]):.2f} m; measure it again or leave it out"
        )
    facts = {"pictures": {picture.name: digest(picture) for picture in maps}, "lens": None if lens is None else asdict(lens)}
    return Calibration(
        fit.curve,
        fit.form,
        fit.expected,
        facts,
        rows,
        list(dict.fromkeys(notes)),
    )


def _map(model: DepthModel, picture: Path, lens: Lens | None) -> tuple[Tensor, Space]:
    """(H, W) float64 of a picture's map, and its space."""
    try:
        image = decode(picture)
    except (OSError, SampleError) as error:
        raise CalibrationError(f"the picture {picture} cannot be read: {error}") from error
    cameras = given_cameras(lens, (image.shape[-2], image.shape[-1]), [picture]) if model.spec.takes_camera else None
    prediction = model.predict(image.float() / 255, cameras=cameras)
    return prediction.depth[0, 0].double().cpu(), prediction.space


def _range(values: Tensor) -> tuple[float, float]:
    ordered = values.flatten().sort().values
    low, high = float(ordered[len(ordered) // 100]), float(ordered[-1 - len(ordered) // 100])
    return low, max(high, low + 1e-12)


def _value(values: Tensor, point: KnownPoint, notes: list[str]) -> float:
    """Returns the median of the pixels around a point."""
    height, width = values.shape
    x, y = int(point.x), int(point.y)
    if not (0 <= x < width and 0 <= y < height):
        raise CalibrationError(
            f"the point {point.x:g},{point.y:g} is outside of {point.picture.name}, which is {width} x {height}"
        )
    window = values[max(0, y - _WINDOW) : y + _WINDOW + 1, max(0, x - _WINDOW) : x + _WINDOW + 1]
    low, high = _range(values)
    if float(window.max() - window.min()) > _EDGE * (high - low):
        notes.append(f"the point {x},{y} of {point.picture.name} is at an edge of the map; take one inside of an even face")
    return float(window.median())


def _along_axis(point: KnownPoint, values: Tensor, lens: Lens | None, notes: list[str]) -> float:
    """Returns a distance to the lens as a distance along the optical axis, where the focal length is known."""
    height, width = values.shape
    aside = math.hypot(point.x + 0.5 - width / 2, point.y + 0.5 - height / 2)
    focal = (lens.pixels(width) if lens else None) or exif_focal(point.picture, (height, width))
    if focal is not None:
        return point.metres * focal / math.hypot(focal, aside)
    usual = Lens(fov=_USUAL_FOV).pixels(width)
    assert usual is not None
    error = 1 - usual / math.hypot(usual, aside)
    if error > 0.02:
        notes.append(
            f"a tape measures to the lens, a map along the axis: at {point.x:g},{point.y:g} that is up to {error:.0%} for a "
            f"view of {_USUAL_FOV:g} degrees; give --fov or --focal, or --along-axis if you measured so"
        )
    return point.metres
