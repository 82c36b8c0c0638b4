"""Pictures of depth maps: colours by nearness, colour bars, labelled grids.

One rule for every picture of the project: near is warm, far is cold, invalid is grey, and the limits are percentiles unless
they are given. What is coloured is *nearness*: disparity as it is, metric depth inverted, affine depth negated (its
inverse does not exist, the shift being unknown).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dadkit.spaces import Space

__all__ = [
    "color_bar",
    "colorize",
    "draw_boxes",
    "error_map",
    "grid",
    "nearness",
    "percentile_limits",
    "side_by_side",
    "to_uint8",
]

Picture = NDArray[np.uint8]  # (H, W, 3) RGB
Map = NDArray[np.floating] | Tensor  # (H, W), (1, H, W) or (1, 1, H, W)

COLORMAP = "Spectral_r"
_PANEL = 2_000_000
_COUNTED = 1_000_000  # pixels from which on limits are those of a part of the map
INVALID = np.array([128, 128, 128], np.uint8)


def nearness(values: Map, space: Space | str) -> NDArray[np.floating]:
    """Returns the quantity that is coloured, larger = nearer: (H, W) float32 (float64 of float64), NaN where the map
    has none.
    """
    array = _plane(values)
    match Space(space):
        case Space.DISPARITY:
            return array
        case Space.DEPTH:
            return -array
        case Space.METRIC | Space.SCALE:
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.where(array > 0, 1 / array, np.nan).astype(array.dtype, copy=False)


def percentile_limits(
    near: NDArray[np.floating], valid: Map | None = None, *, low: float = 2, high: float = 98
) -> tuple[float, float]:
    """Robust (low, high) of a nearness map over its valid, finite pixels; (0, 1) if there are none.

    Of a map of more than a million pixels every second or third row and column is counted, if these hold a valid pixel.
    """
    step = int(np.sqrt(near.size / _COUNTED))
    if step > 1:
        some = percentile_limits(
            near[::step, ::step], None if valid is None else _plane(valid)[::step, ::step], low=low, high=high
        )
        if some != (0.0, 1.0):
            return some
    keep = np.isfinite(near)
    if valid is not None:
        keep &= _plane(valid).astype(bool)
    if not keep.any():
        return 0.0, 1.0
    bottom, top = np.percentile(near[keep], [low, high])
    return float(bottom), float(top)


def colorize(
    values: Map,
    *,
    space: Space | str,
    valid: Map | None = None,
    limits: tuple[float, float] | None = None,
    colormap: str = COLORMAP,
) -> Picture:
    """Colour a depth map by nearness.

    Args:
        values: (H, W), (1, H, W) or (1, 1, H, W) array or tensor, in ``space``.
        space: what the values mean.
        valid: bool map of the same size; invalid and non-finite pixels become grey.
        limits: (low, high) of the *nearness* that get the two ends of the colour map; None = percentiles 2 and 98.
        colormap: a matplotlib colour map.

    Returns:
        (H, W, 3) uint8. A constant map gets the middle colour.
    """
    near = nearness(values, space)
    low, high = limits if limits is not None else percentile_limits(near, valid)
    keep = np.isfinite(near) if valid is None else np.isfinite(near) & _plane(valid).astype(bool)
    span = high - low
    if span > 0:
        levels = np.where(keep, near, near.dtype.type(low))
        levels -= low
        levels *= 255 / span
        np.clip(levels, 0, 255, out=levels)
        levels += 0.5  # to the nearest when cut off
    else:
        levels = np.full(near.shape, 128)
    picture = np.take(_lut(colormap), levels.astype(np.uint8), axis=0)
    if not keep.all():
        picture[~keep] = INVALID
    return picture


def error_map(
    prediction: Map, truth: Map, valid: Map, *, spread: float | None = None, top: float = 0.3, colormap: str = "magma"
) -> Picture:
    """Returns the error on a fixed scale of 0 to ``top``; invalid is grey.

    It is ``|prediction - truth| / truth`` of metric depth, or ``|prediction - truth| / spread`` where ``spread`` is given, for
    maps that are known up to scale and shift.
    """
    predicted, true = _plane(prediction), _plane(truth)
    keep = _plane(valid).astype(bool) & np.isfinite(true) & ((true > 0) | (spread is not None))
    relative = np.abs(predicted - true) / (np.where(keep, true, 1.0) if spread is None else max(spread, 1e-12))
    unit = np.clip(np.nan_to_num(relative, nan=top, posinf=top) / top, 0, 1)
    picture = _lut(colormap)[np.round(unit * 255).astype(np.uint8)]
    picture[~keep] = INVALID
    return picture


def to_uint8(image: Tensor | NDArray[np.generic]) -> Picture:
    """Returns an image tensor (3, H, W), uint8 or float in [0, 1], or an array (H, W, 3), as (H, W, 3) uint8."""
    array = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if isinstance(image, Tensor):
        array = array.transpose(1, 2, 0)
    if array.dtype != np.uint8:
        array = np.round(np.clip(array, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(array)


def color_bar(height: int, low: str, high: str, *, colormap: str = COLORMAP) -> Picture:
    """Returns a vertical colour bar of the given height, warm end up, with a label at each end."""
    ramp = np.linspace(255, 0, height).round().astype(np.uint8)
    bar = np.repeat(_lut(colormap)[ramp][:, None], 14, axis=1)
    font = _font(_text_size(height))
    width = max(int(font.getlength(text)) for text in (low, high)) + 10
    canvas = Image.new("RGB", (14 + width, height), "white")
    canvas.paste(Image.fromarray(bar), (0, 0))
    draw = ImageDraw.Draw(canvas)
    draw.text((19, 2), high, fill="black", font=font)
    draw.text((19, height - 3), low, fill="black", font=font, anchor="ls")
    return np.asarray(canvas)


def side_by_side(
    image: Tensor | NDArray[np.generic],
    values: Map,
    *,
    space: Space | str,
    valid: Map | None = None,
    colored: Picture | None = None,
) -> Picture:
    """Photograph | coloured map | colour bar with its unit, all of one height. ``colored``: the colours, if they are there.

    Each panel has at most two megapixels: every second, third, … pixel of a larger picture.
    """
    near = nearness(values, space)
    limits = percentile_limits(near, valid)
    photo = to_uint8(image)
    colors = colorize(values, space=space, valid=valid, limits=limits) if colored is None else colored
    step = int(np.ceil(np.sqrt(photo.shape[0] * photo.shape[1] / _PANEL)))
    photo, colors = photo[::step, ::step], colors[::step, ::step]
    if Space(space) is Space.METRIC:
        labels = tuple(f"{1 / value:.3g} m" if value > 0 else "inf" for value in limits)
    else:
        labels = ("far", "near")
    bar = color_bar(photo.shape[0], labels[0], labels[1])
    gap = np.full((photo.shape[0], 4, 3), 255, np.uint8)
    return np.concatenate([photo, gap, colors, gap, bar], axis=1)


def grid(rows: Sequence[Sequence[Picture]], *, titles: Sequence[str] = (), pad: int = 4) -> Picture:
    """Rows of equally sized pictures as one picture, with a title above each column, shortened to its width. Rows may differ in
    length.
    """
    if not rows or not rows[0]:
        raise ValueError("grid needs at least one row with one picture")
    height, width = rows[0][0].shape[:2]
    columns = max(len(row) for row in rows)
    size = _text_size(height)
    head = size + 6 if titles else 0
    canvas = Image.new("RGB", (columns * (width + pad) + pad, head + len(rows) * (height + pad) + pad), "white")
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(titles):
        draw.text((pad + column * (width + pad), 3), _shortened(title, width, size), fill="black", font=_font(size))
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            if picture.shape[:2] != (height, width):
                raise ValueError(f"pictures of a grid share one size: {picture.shape[:2]} is not {(height, width)}")
            canvas.paste(Image.fromarray(picture), (pad + x * (width + pad), head + pad + y * (height + pad)))
    return np.asarray(canvas)


def draw_boxes(picture: Picture, boxes: Sequence[Sequence[float]] | Tensor) -> Picture:
    """Returns the picture with boxes (x0, y0, x1, y1 in its pixels) drawn over it, each in a colour of its own."""
    canvas = Image.fromarray(picture.copy())
    draw = ImageDraw.Draw(canvas)
    colors = ("#ff3b30", "#ffcc00", "#34c759", "#0a84ff", "#ff2d92", "#ffffff")
    thickness = max(1, picture.shape[0] // 160)
    for index, box in enumerate(boxes.tolist() if isinstance(boxes, Tensor) else boxes):
        x0, y0, x1, y1 = box
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=colors[index % len(colors)], width=thickness)
    return np.asarray(canvas)


def _plane(values: Map) -> NDArray[np.floating]:
    array = values.detach().float().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    shape = array.shape
    if array.ndim < 2 or any(side != 1 for side in shape[:-2]):
        raise ValueError(f"a map is (H, W) with leading ones at most, got {shape}")
    return array.reshape(shape[-2:]).astype(np.float64 if array.dtype == np.float64 else np.float32, copy=False)


def _text_size(height: int) -> int:
    return max(10, min(18, height // 14))


def _shortened(text: str, width: int, size: int) -> str:
    """Returns the text, or as much of it as ``width`` pixels hold with an ellipsis."""
    kept = text
    while kept and _font(size).getlength(kept if kept == text else f"{kept}…") > width:
        kept = kept[:-1]
    return kept if kept == text else f"{kept}…"


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


@lru_cache(maxsize=8)
def _lut(name: str) -> NDArray[np.uint8]:
    import matplotlib

    return (matplotlib.colormaps[name](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)
