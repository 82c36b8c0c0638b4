"""Detail of large pictures: the network sees overlapping tiles, each fitted to the map of the whole picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from dadkit.interfaces import DepthModel, Prediction

__all__ = ["predict_tiled"]

_OVERLAP = 0.25


def predict_tiled(model: DepthModel, image: Tensor, tile: int, *, batch_size: int = 1) -> Prediction:
    """Predict one picture in square tiles.

    The whole picture is predicted once, as always. Each tile is predicted alone, brought to the whole map by the scale and
    shift of least squares, and blended with its neighbours over a quarter of its side. A tile that has no scale > 0 to the
    whole map, as one of plain sky, is taken from the whole map. Memory is that of one batch of tiles, besides the map itself.

    Args:
        model: its own resizing policy is applied to the picture and to each tile.
        image: (3, H, W) uint8.
        tile: side in the picture's pixels. A picture whose sides are at most this is predicted whole.
        batch_size: tiles per forward pass.

    Returns:
        Prediction with ``depth`` (1, 1, H, W) in the model's space.
    """
    height, width = image.shape[-2:]
    whole = model.predict(image)
    whole = replace(whole, depth=whole.depth.cpu())
    if max(height, width) <= tile:
        return whole
    total, weight = torch.zeros_like(whole.depth[0, 0]), torch.zeros_like(whole.depth[0, 0])
    boxes = [(y, x) for y in _starts(height, tile) for x in _starts(width, tile)]
    window = _window(min(tile, height), min(tile, width))
    for start in range(0, len(boxes), batch_size):
        chosen = boxes[start : start + batch_size]
        maps = model.predict([image[:, y : y + tile, x : x + tile] for y, x in chosen], batch_size=batch_size).depth.cpu()
        for (y, x), own in zip(chosen, maps[:, 0], strict=True):
            place = slice(y, y + tile), slice(x, x + tile)
            total[place] += window * _fitted(own, whole.depth[0, 0][place])
            weight[place] += window
    depth = (total / weight)[None, None]
    low, high = model.spec.range
    return replace(whole, depth=depth if low is None and high is None else depth.clamp(low, high), features={})


def _starts(length: int, tile: int) -> Iterator[int]:
    """Tiles from edge to edge, evenly, with at least the wanted overlap."""
    if length <= tile:
        yield 0
        return
    count = 1 + -(-(length - tile) // max(1, int(tile * (1 - _OVERLAP))))
    yield from (round(index * (length - tile) / (count - 1)) for index in range(count))


def _window(height: int, width: int) -> Tensor:
    """Weights that fall to the borders over the overlap, never to 0."""

    def ramp(length: int) -> Tensor:
        distance = torch.minimum(torch.arange(length), torch.arange(length).flip(0)) + 1.0
        return (distance / max(1.0, length * _OVERLAP)).clamp(max=1)

    return ramp(height)[:, None] * ramp(width)


def _fitted(own: Tensor, whole: Tensor) -> Tensor:
    x, y = own.double(), whole.double()
    spread = x - x.mean()
    scale = (spread * (y - y.mean())).mean() / (spread**2).mean().clamp(min=1e-30)
    usable = bool(torch.isfinite(scale)) and float(scale) > 0
    return (scale * spread + y.mean()).to(whole.dtype) if usable else whole
