"""Figures of the papers, drawn for your own models: alignment, crops, normalisation, qualitative grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from dadkit import pictures
from dadkit.alignment.affine import fit_scale_shift
from dadkit.data.folders import EXTENSIONS, scan
from dadkit.data.images import decode, exif_camera
from dadkit.data.sample import Sample
from dadkit.errors import DataError, SampleError
from dadkit.evaluation.evaluate import predict_under
from dadkit.evaluation.protocol import Protocol
from dadkit.interfaces import DepthModel, Prediction, crop_camera
from dadkit.losses import normalize
from dadkit.report.page import plot
from dadkit.spaces import Space

__all__ = ["alignment_figure", "centre", "crops_figure", "normalisation_figure", "qualitative_figure", "segments_plot"]

SIDE = 320
NORMALISERS = {"none": (), "global (S = 1)": (1,), "hybrid (S = 1, 2, 4)": (1, 2, 4), "local (S = 4)": (4,)}


def centre(height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the central region of half the height and half the width."""
    top, left = height // 4, width // 4
    return slice(top, top + height // 2), slice(left, left + width // 2)


def alignment_figure(
    sample: Sample, models: Mapping[str, DepthModel], protocol: Protocol
) -> tuple[pictures.Picture, dict[str, tuple[float, float]]]:
    """Global against local alignment on the central region (Fig. 2 of Distill Any Depth).

    A model's map is aligned to the truth once on the whole image, once on the central region alone; both are shown in that
    region, with their errors. What improves is what one scale and shift for a whole image cannot express.

    Returns:
        The picture, a row a model: region, truth, globally aligned, its error, locally aligned, its error; and model ->
        (first metric aligned globally, locally), both measured in the region.
    """
    depth, valid = _truth(sample)
    rows, cols = centre(*depth.shape[-2:])
    box = (..., rows, cols)
    inside = torch.zeros_like(valid)
    inside[box] = True
    limits = pictures.percentile_limits(pictures.nearness(depth[box], Space.METRIC), valid[box])
    metric = protocol.metrics[0]
    lines, values = [], {}
    for name, model in models.items():
        cameras = _cameras(model, sample.intrinsics)
        prediction = _on_cpu(predict_under(protocol, model, [sample.image.float() / 255], batch_size=1, cameras=cameras))
        whole = protocol.score(prediction, depth[None], valid[None])
        part = Prediction(prediction.depth[box], prediction.space)
        bare = protocol.model_copy(update={"crop": "none", "frame": "none"})
        local = bare.score(part, depth[None][box], (valid & inside)[None][box])
        there = bare.model_copy(update={"alignment": "none", "space": Space.METRIC})
        aligned = Prediction(whole.depth[:, None][box].float(), Space.METRIC)
        globally = there.score(aligned, depth[None][box], valid[None][box])
        values[name] = (float(globally.metrics[metric]), float(local.metrics[metric]))
        row = [pictures.to_uint8(sample.image[box]), _metric(depth[box], limits, valid[box])]
        for map_ in (aligned.depth[0], local.depth):
            row += [_metric(map_, limits), pictures.error_map(map_, depth[box], valid[box])]
        lines.append(row)
    titles = ["central region", "truth", "aligned globally", "error", "aligned locally", "error"]
    return pictures.grid([_sized(row) for row in lines], titles=titles), values


def crops_figure(sample: Sample, models: Mapping[str, DepthModel]) -> pictures.Picture:
    """Draws a model on the whole image against the same model on the central region alone (Fig. 5 of Distill Any Depth).

    Both maps of the region are in the model's own space; the whole image's is aligned to the region's by least squares, so that
    the difference is detail and not scale. A row a model: image with the region, region, map from the whole image, map of the
    region alone, difference.
    """
    image = sample.image.float() / 255
    rows, cols = centre(*image.shape[-2:])
    frame = pictures.draw_boxes(pictures.to_uint8(image), [(cols.start, rows.start, cols.stop, rows.stop)])
    frame = np.asarray(Image.fromarray(frame).resize((cols.stop - cols.start, rows.stop - rows.start)))
    lines = []
    for model in models.values():
        camera = _cameras(model, sample.intrinsics)
        part = None if camera is None else crop_camera(camera, (cols.start, rows.start))
        alone = _on_cpu(model.predict(image[:, rows, cols], cameras=part))
        whole = _on_cpu(model.predict(image, cameras=camera)).depth[0, :, rows, cols]
        local = alone.depth[0]
        everywhere = torch.ones_like(local, dtype=torch.bool)
        aligned = fit_scale_shift(whole, local, everywhere)(whole)
        limits = pictures.percentile_limits(pictures.nearness(local, alone.space))
        span = float(local.quantile(0.98) - local.quantile(0.02)) or 1.0
        difference = pictures.colorize((aligned - local).abs() / span, space=Space.DISPARITY, limits=(0, 0.3), colormap="magma")
        maps = [pictures.colorize(map_, space=alone.space, limits=limits) for map_ in (aligned, local)]
        lines.append([frame, pictures.to_uint8(image[:, rows, cols]), *maps, difference])
    titles = ["image", "central region", "from the whole image", "from the region alone", "difference"]
    return pictures.grid([_sized(row) for row in lines], titles=titles)


def normalisation_figure(depth: Tensor, image: Tensor) -> pictures.Picture:
    """None, global, hybrid and local normalisation of one map, with the borders of the segments (Fig. 4 of Distill Any Depth).

    Args:
        depth: (1, H, W) a disparity map.
        image: (3, H, W) uint8.

    Returns:
        One row: the image, then each normalised map (hybrid: the mean of its levels) with the borders of its finest segments in
        white.
    """
    row = [pictures.to_uint8(image)]
    for segments in NORMALISERS.values():
        values = depth if not segments else normalize(depth[None].float(), segments=segments)[0].mean(0, keepdim=True)
        picture = pictures.colorize(values, space=Space.DISPARITY).copy()
        if segments and max(segments) > 1:
            picture[_borders(_leaves(depth[0], max(segments)))] = 255
        row.append(picture)
    return pictures.grid([_sized(row)], titles=["image", *NORMALISERS])


def segments_plot(depth: Tensor) -> Markup:
    """Histograms of the normalised values, and of the map with its segments' borders, as SVG."""
    figure = Figure(figsize=(11, 2.4), layout="constrained")
    axes = figure.subplots(1, len(NORMALISERS))
    low, high = float(depth.min()), float(depth.max())
    for axis, (name, segments) in zip(axes, NORMALISERS.items(), strict=True):
        values = depth if not segments else normalize(depth[None].float(), segments=segments)[0].mean(0)
        axis.hist(values.flatten().numpy(), bins=80, color="#4477aa")
        axis.set_title(name if segments else "none, with the borders of S = 4", fontsize=9)
        axis.tick_params(labelsize=7)
        axis.set_yticks([])
        if not segments:
            for k in range(1, 4):
                axis.axvline(low + (high - low) * k / 4, color="#cc3311", linewidth=1)
    return plot(figure)


def qualitative_figure(folder: Path, models: Mapping[str, DepthModel], *, limit: int = 12) -> pictures.Picture:
    """Several models on a folder of images (Fig. 6 of Distill Any Depth): a row an image, a column a model, own limits each.

    Raises:
        DataError: no readable image in the folder.
    """
    names = scan(folder, EXTENSIONS)[0] if folder.is_dir() else []
    rows: list[list[pictures.Picture]] = []
    for name in names:
        if len(rows) == limit:
            break
        try:
            image = decode(folder / name)
        except SampleError:
            continue
        camera = exif_camera(folder / name, (image.shape[-2], image.shape[-1]))
        predictions = [
            _on_cpu(model.predict(image.float() / 255, cameras=_cameras(model, camera))) for model in models.values()
        ]
        row = [pictures.to_uint8(image), *(pictures.colorize(p.depth, space=p.space) for p in predictions)]
        rows.append([_boxed(picture) for picture in row])
    if not rows:
        raise DataError(f"no readable image in {folder.absolute()} for the qualitative figure")
    return pictures.grid(rows, titles=["image", *models])


def _truth(sample: Sample) -> tuple[Tensor, Tensor]:
    assert sample.depth is not None
    return sample.depth, torch.ones_like(sample.depth, dtype=torch.bool) if sample.valid is None else sample.valid


def _metric(depth: Tensor, limits: tuple[float, float], valid: Tensor | None = None) -> pictures.Picture:
    return pictures.colorize(depth, space=Space.METRIC, valid=valid, limits=limits)


def _cameras(model: DepthModel, known: Tensor | None) -> Tensor | None:
    """(1, 3, 3) for models that take cameras; NaN where it is not known, since a picture's own limits need no metres."""
    if not model.spec.takes_camera:
        return None
    return torch.full((1, 3, 3), torch.nan) if known is None else known[None]


def _on_cpu(prediction: Prediction) -> Prediction:
    return Prediction(prediction.depth.cpu(), prediction.space)


def _leaves(depth: Tensor, segments: int) -> Tensor:
    """Returns the segment of each pixel, by the one formula of membership."""
    low, high = depth.min(), depth.max()
    return sum((depth >= low + (high - low) * k / segments).long() for k in range(1, segments))  # type: ignore[return-value]


def _borders(leaves: Tensor) -> np.ndarray:
    edge = torch.zeros_like(leaves, dtype=torch.bool)
    edge[:, 1:] |= leaves[:, 1:] != leaves[:, :-1]
    edge[1:] |= leaves[1:] != leaves[:-1]
    return edge.numpy()


def _sized(row: Sequence[pictures.Picture]) -> list[pictures.Picture]:
    """Resizes all pictures to a longer side of :data:`SIDE`, so that titles fit above small ones and the page holds large
    ones.
    """
    height, width = row[0].shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    return [np.asarray(Image.fromarray(picture).resize(size, how)) for picture in row]


def _boxed(picture: pictures.Picture, side: int = 280) -> pictures.Picture:
    """Returns the picture inside a grey square, so that images of any shape share a grid."""
    canvas = Image.new("RGB", (side, side), (235, 235, 235))
    small = Image.fromarray(picture)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    canvas.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return np.asarray(canvas)
