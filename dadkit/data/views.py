"""Cut one sample into what student and teacher see: regions and patches of the image, depth in the region."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from dadkit.data.sample import Batch, Sample
from dadkit.interfaces import Contexts
from dadkit.spaces import Space, convert

__all__ = ["Perturb", "View", "cut", "resized", "stack"]

_SPARSE = 0.5
"""A map of which less than this share is valid in a region is sparse there."""

Perturb = Callable[[Tensor, torch.Generator], Tensor]
"""Changes the colours of the student's view: (3, h, w) uint8 -> the same shape and dtype. Geometry must stay."""


@dataclass(frozen=True, eq=False)
class View:
    """One sample, cut. The fields are those of :class:`~dadkit.data.sample.Batch` without the first dimension."""

    key: str
    image: Tensor  # (3, h, w) uint8
    student_image: Tensor  # the same tensor if nothing is perturbed
    patches: Tensor  # (N, 3, p, q) uint8
    boxes: Tensor  # (N, 4) float32
    depth: Tensor | None = None  # (1, h, w) float32
    valid: Tensor | None = None  # (1, h, w) bool
    space: Space | None = None
    intrinsics: Tensor | None = None  # (3, 3) float32
    frame: Tensor | None = None  # (3, 3) float32


def cut(
    sample: Sample,
    contexts: Contexts,
    *,
    flip: bool = False,
    space: Space | None = None,
    near_floor: float = 0.0,
    perturb: Perturb | None = None,
    generator: torch.Generator | None = None,
) -> View:
    """Cut the views that ``contexts`` describes out of ``sample``.

    Images are cropped first and then resized in 8 bits, bicubic with antialiasing (the low-pass grows as the factor shrinks); a
    box of exactly the wanted size is copied. Depth is never interpolated: each pixel of the view takes the pixel of the map in
    which its centre falls, so that no value is invented at an edge and infinity stays infinity. Where less than half of the
    region has a valid depth (LiDAR, points), a smaller view would miss most of it: there each valid pixel falls into the pixel
    of the view that covers it. Of several the one nearest to that pixel's centre stays, on a tie the smallest number; so every
    pixel of the view that covers a label has one.

    Args:
        sample: image, perhaps with depth.
        contexts: boxes; fractional ones are allowed.
        flip: mirror everything left to right: pixels, boxes, depth, cameras.
        space: convert depth to this space; None leaves it.
        near_floor: depth that is converted to disparity is at least this share of the median of its view. Otherwise a few
            pixels of a millimetre, as sensors write them, hold nearly all of a map's deviation (not from a paper).
        perturb: makes the student's view from the clean one.
        generator: randomness for ``perturb``.

    Raises:
        ValueError: a box is empty or leads out of its frame: a mistake of the context sampler.
        dadkit.spaces.SpaceError: depth cannot be converted to ``space``.
    """
    _check(sample, contexts)
    x0, y0, x1, y1 = contexts.region.tolist()
    corner = contexts.region.new_tensor([x0, y0, x0, y0])
    image = resized(sample.image, (x0, y0, x1, y1), contexts.view_size)
    patches = [resized(sample.image, box, contexts.patch_size) for box in (contexts.patches + corner).tolist()]
    view = View(
        key=sample.key,
        image=image,
        student_image=image,
        patches=torch.stack(patches) if patches else image.new_zeros(0, 3, *contexts.patch_size),
        boxes=contexts.boxes_in_view(),
        frame=_camera(_frame(sample.image), contexts),
    )
    if sample.depth is not None:
        view = _with_depth(view, sample, contexts, space, near_floor)
    if sample.intrinsics is not None:
        view = replace(view, intrinsics=_camera(sample.intrinsics, contexts))
    if flip:
        view = _flipped(view)
    if perturb is not None:
        if generator is None:
            raise ValueError("perturb needs a generator, or a run could not be repeated")
        view = replace(view, student_image=perturb(view.image.clone(), generator))
    return view


def _check(sample: Sample, contexts: Contexts) -> None:
    if sample.image.ndim != 3 or sample.image.shape[0] != 3 or sample.image.dtype != torch.uint8:
        raise ValueError(f"{sample.key}: an image is (3, H, W) uint8, not {sample.image.dtype} {tuple(sample.image.shape)}")
    height, width = sample.image.shape[-2:]
    other = sample.depth is not None and sample.depth.shape != (1, height, width)
    if sample.depth is not None and (sample.space is None or sample.depth.ndim != 3 or (other and not sample.scaled)):
        raise ValueError(
            f"{sample.key}: depth must be (1, {height}, {width}) as the image is, in a declared space; "
            f"got shape {tuple(sample.depth.shape)}, space {sample.space}"
        )
    x0, y0, x1, y1 = contexts.region.tolist()
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(f"{sample.key}: region {contexts.region.tolist()} is not inside the image, {width} x {height} pixels")
    for box in contexts.patches.tolist():
        if not (0 <= box[0] < box[2] <= x1 - x0 and 0 <= box[1] < box[3] <= y1 - y0):
            raise ValueError(f"{sample.key}: patch {box} is not inside the region of {x1 - x0:g} x {y1 - y0:g} pixels")


def resized(image: Tensor, box: Sequence[float], size: tuple[int, int]) -> Tensor:
    """Returns the box of a uint8 image (3, H, W) at ``size`` = (height, width), contiguous."""
    x0, y0, x1, y1 = box
    if not all(edge == int(edge) for edge in box):
        return _resized_fractional(image, box, size)
    crop = image[:, int(y0) : int(y1), int(x0) : int(x1)]
    if crop.shape[-2:] == size:
        return crop.contiguous()
    # On 8-bit pixels in (H, W, 3) order torch's vectorised path is 4 x faster than Pillow's, and within 2/255 of it.
    return F.interpolate(crop[None], size, mode="bicubic", align_corners=False, antialias=True)[0].contiguous()


def _resized_fractional(image: Tensor, box: Sequence[float], size: tuple[int, int]) -> Tensor:
    x0, y0 = int(box[0]), int(box[1])
    x1, y1 = (int(-(-edge // 1)) for edge in box[2:])
    hull = Image.fromarray(np.ascontiguousarray(image[:, y0:y1, x0:x1].permute(1, 2, 0).numpy()))
    inside = (box[0] - x0, box[1] - y0, box[2] - x0, box[3] - y0)
    pixels = np.array(hull.resize((size[1], size[0]), Image.Resampling.BICUBIC, box=inside))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _with_depth(view: View, sample: Sample, contexts: Contexts, space: Space | None, near_floor: float) -> View:
    assert sample.depth is not None
    assert sample.space is not None
    x0, y0, x1, y1 = contexts.region.tolist()
    height, width = contexts.view_size
    left, top, *corner = sample.part or (0, 0, sample.image.shape[-1], sample.image.shape[-2])
    down, right = sample.depth.shape[-2] / (corner[1] - top), sample.depth.shape[-1] / (corner[0] - left)
    rows = _nearest((y0 - top) * down, (y1 - top) * down, height)[:, None]
    columns = _nearest((x0 - left) * right, (x1 - left) * right, width)
    covered = _within(rows, sample.depth.shape[-2]) & _within(columns, sample.depth.shape[-1])
    rows, columns = rows.clamp(0, sample.depth.shape[-2] - 1), columns.clamp(0, sample.depth.shape[-1] - 1)
    depth = sample.depth[:, rows, columns].float()
    valid = covered[None] if sample.valid is None else sample.valid[:, rows, columns] & covered
    if (y1 - y0 > height or x1 - x0 > width) and sample.valid is not None and not sample.scaled:
        depth, valid = _densest(depth, valid, sample.depth.float(), sample.valid, (x0, y0, x1, y1))
    if space is Space.DISPARITY and near_floor > 0 and sample.space in (Space.METRIC, Space.SCALE):
        known = depth[valid & depth.isfinite() & (depth > 0)]
        if known.numel():
            least = near_floor * known.median()
            depth = depth.where(~(valid & (depth > 0) & (depth < least)), least)
    if space is not None:
        depth, converted = convert(depth, valid, sample.space, space)
        valid = valid if converted is None else converted
    return replace(view, depth=depth, valid=valid, space=space or sample.space)


def _densest(depth: Tensor, valid: Tensor, stored: Tensor, known: Tensor, box: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Returns depth and validity of a view with every valid pixel of a sparse map in the pixel that covers it; see :func:`cut`.

    Args:
        depth, valid: (1, h, w), what lies at the pixels' centres; returned unchanged if the map is not sparse.
        stored, known: (1, H, W), the map.
        box: x0, y0, x1, y1 of the view in the map.
    """
    x0, y0, x1, y1 = box
    height, width = depth.shape[-2:]
    top, left = int(y0), int(x0)
    inside = known[0, top : -int(-y1 // 1), left : -int(-x1 // 1)]
    if inside.float().mean() >= _SPARSE:
        return depth, valid
    row, column = inside.nonzero(as_tuple=True)
    row, column = row + top, column + left
    down, across = (row + 0.5 - y0) * (height / (y1 - y0)), (column + 0.5 - x0) * (width / (x1 - x0))
    keep = (down >= 0) & (down < height) & (across >= 0) & (across < width)
    row, column, down, across = row[keep], column[keep], down[keep], across[keep]
    off = (down - down.floor() - 0.5) ** 2 + (across - across.floor() - 0.5) ** 2
    values = stored[0, row, column]
    last = np.lexsort((-values.numpy(), -off.numpy()))  # the nearest comes last, and the last one written stays
    cell = (down.floor().long() * width + across.floor().long()).numpy()[last]
    flat, there = depth.flatten().numpy().copy(), valid.flatten().numpy().copy()
    flat[cell], there[cell] = values.numpy()[last], True
    return torch.from_numpy(flat).view_as(depth), torch.from_numpy(there).view_as(valid)


def _frame(image: Tensor) -> Tensor:
    """From places in an image (its centre 0, its longer side from -1 to 1) to its pixels: a camera 90 degrees wide."""
    height, width = image.shape[-2:]
    half = max(height, width) / 2
    return torch.tensor([[half, 0, width / 2], [0, half, height / 2], [0, 0, 1]])


def _camera(intrinsics: Tensor, contexts: Contexts) -> Tensor:
    """Returns the camera matrix in pixels of the view."""
    x0, y0, x1, y1 = contexts.region.tolist()
    scale_x, scale_y = contexts.view_size[1] / (x1 - x0), contexts.view_size[0] / (y1 - y0)
    to_view = torch.tensor([[scale_x, 0, -x0 * scale_x], [0, scale_y, -y0 * scale_y], [0, 0, 1]], dtype=torch.float64)
    return (to_view @ intrinsics.double()).float()


def _nearest(start: float, stop: float, count: int) -> Tensor:
    """Returns the indices of the source pixels in which the centres of ``count`` equal parts of [start, stop] fall."""
    centres = start + (torch.arange(count, dtype=torch.float64) + 0.5) * (stop - start) / count
    return centres.floor().long()


def _within(places: Tensor, count: int) -> Tensor:
    return (places >= 0) & (places < count)


def _flipped(view: View) -> View:
    """Mirrors the view. The order of the patches stays."""
    width = view.image.shape[-1]
    x0, y0, x1, y1 = view.boxes.unbind(-1)
    image = view.image.flip(-1)
    return replace(
        view,
        image=image,
        student_image=image,
        patches=view.patches.flip(-1),
        boxes=torch.stack([width - x1, y0, width - x0, y1], dim=-1),
        depth=None if view.depth is None else view.depth.flip(-1),
        valid=None if view.valid is None else view.valid.flip(-1),
        intrinsics=_mirrored(view.intrinsics, width),
        frame=_mirrored(view.frame, width),
    )


def _mirrored(camera: Tensor | None, width: int) -> Tensor | None:
    if camera is None:
        return None
    camera = camera.clone()
    camera[0, 2] = width - camera[0, 2]
    return camera


def stack(views: Sequence[View]) -> Batch:
    """Stack views into a batch; depth only if every view has it. Where only some cameras are known, the others are NaN.

    Raises:
        ValueError: the views differ in size, in the number of patches, in having depth or in its space.
    """
    for name in ("image", "patches"):
        shapes = {tuple(getattr(v, name).shape) for v in views}
        if len(shapes) > 1:
            raise ValueError(f"the views of a batch must share one shape, but {name} have {sorted(shapes)}: see the sampler")
    spaces = {v.space for v in views}
    if len(spaces) > 1:
        raise ValueError(f"a batch has one space of depth, but its samples have {sorted(map(str, spaces))}")
    images = torch.stack([v.image for v in views])
    perturbed = any(v.student_image is not v.image for v in views)
    return Batch(
        keys=tuple(v.key for v in views),
        images=images,
        student_images=torch.stack([v.student_image for v in views]) if perturbed else images,
        patches=torch.stack([v.patches for v in views]),
        boxes=torch.stack([v.boxes for v in views]),
        depth=_stacked([v.depth for v in views]),
        valid=_stacked([v.valid for v in views]),
        space=views[0].space,
        intrinsics=_stacked(_cameras([v.intrinsics for v in views])),
        frames=_stacked([v.frame for v in views]),
    )


def _cameras(known: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
    """NaN for what is not known, where something is: a camera must not be lost because a neighbour has none."""
    if all(camera is None for camera in known):
        return known
    return [torch.full((3, 3), torch.nan) if camera is None else camera for camera in known]


def _stacked(tensors: Sequence[Tensor | None]) -> Tensor | None:
    there = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(there) if len(there) == len(tensors) else None
