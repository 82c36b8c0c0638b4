"""Predict depth for images on disk, in batches or in tiles, skipping what cannot be read.

Threads read images ahead of the model and write results behind it; the model runs in the calling thread.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dadkit.data.images import decode, exif_focal, few_levels
from dadkit.errors import DadkitError, SampleError
from dadkit.files import NameTooLongError
from dadkit.interfaces import CameraError, DepthModel, Prediction, crop_camera, known_cameras
from dadkit.prediction.camera import CloudError, Lens, check_cloud, given_cameras
from dadkit.prediction.inputs import Job, find_inputs
from dadkit.prediction.outputs import CLOUDS, DEFAULT, PROBES, shared_limits, write_one
from dadkit.prediction.plan import Plan, Work, check_targets, identity, make_plan
from dadkit.prediction.sparse import Sparse
from dadkit.prediction.steady import Steady
from dadkit.spaces import Space

__all__ = ["Failure", "Note", "carry_out", "predict_files", "predict_tiled"]

_NO_CAMERA = (
    "its camera is unknown, and {} has metres only with one: give --focal PIXELS or --fov DEGREES, or the model's option fov"
)


@dataclass(frozen=True)
class Failure:
    """An image that could not be read, or that has no point cloud or no metres, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Note:
    """Something that a person should know of an image."""

    path: str
    text: str


def predict_files(
    model: DepthModel,
    paths: Sequence[str | Path],
    output: Path,
    *,
    name: str,
    formats: Sequence[str] = DEFAULT,
    batch_size: int = 1,
    lens: Lens | None = None,
    resume: bool = True,
) -> tuple[list[Path], list[Failure]]:
    """Predict every image and write the outputs below ``output``; what `dadkit predict` does with images.

    Args:
        model: its own resizing policy is applied; answers have the images' sizes.
        paths: see :func:`dadkit.prediction.find_inputs`; films are left out.
        output: folder of the outputs.
        name: the model's name, stored in the PNG.
        formats: what to write, out of ``FORMATS``.
        batch_size: consecutive images of one size share a forward pass.
        lens: focal length and scale, for point clouds.
        resume: images with results of the same name, made by a model of the same name, are left as they are.

    Returns:
        The written files and the images that could not be read.

    Raises:
        dadkit.prediction.plan.OverwriteError: a result would replace a file that dadkit did not write.
        dadkit.prediction.camera.CloudError: points are wanted, but the model's maps hold none; before anything is predicted.
    """
    inputs = find_inputs(paths)
    check_targets(inputs, output, formats)
    plan = make_plan(inputs, output, formats, identity(name, {}, {"lens": lens}), resume=resume)
    return carry_out(model, plan, name=name, batch_size=batch_size, lens=lens)


def carry_out(
    model: DepthModel,
    plan: Plan,
    *,
    name: str,
    batch_size: int = 1,
    lens: Lens | None = None,
    sparse: Sparse | None = None,
    bits: int | Literal["percentile"] = 16,
    tile: int | None = None,
    films: Sequence[Job] = (),
    steady: bool = False,
    notes: list[Note] | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[Path], list[Failure]]:
    """Predict the images of a plan and write the results. Arguments, answers and errors as in :func:`predict_files`.

    Where point clouds or a model's metres need a focal length and ``lens`` knows none, each photograph's own EXIF data are
    asked for it. An image that has none fails alone, unless all do.

    Args:
        sparse: makes metres of each map by the points that come with its picture.
        bits: what 16-bit greyscale holds, see :func:`dadkit.data.images.decode`.
        tile: side of square tiles in pixels, see :func:`predict_tiled`; None = the picture as a whole.
        films: images that are frames, in order: those of a folder are coloured on the same limits, see
            :func:`dadkit.prediction.outputs.shared_limits`.
        steady: bring each map to the one before it in its folder, as ``predict_video`` does.
        notes: gets what a person should know of single images: nearly constant ones, a focal length taken from EXIF, pixels
            that are not in the cloud.
        progress: called with the number of images that were finished, read or not, since the last call.
    """
    lens = lens or Lens()
    if any(set(work.formats) & set(CLOUDS) for work in plan.images):
        check_cloud(model.spec.space if sparse is None else Space.METRIC, lens)
    written: list[Path] = []
    failures: list[Failure] = []
    refused: list[CloudError | CameraError] = []
    notes = [] if notes is None else notes
    limits = _limits(model, films, lens, bits, batch_size) if films and plan.images else {}
    aligned: dict[Path, Steady] = {}

    def write(work: Work[Job], image: Tensor, prediction: Prediction, index: int) -> list[Path]:
        place, own = plan.output / work.name, lens

        def note(text: str) -> None:
            notes.append(Note(work.job.location, text))

        levels = few_levels(image)
        if levels is not None:
            note(
                f"nearly constant: grey levels {levels[0]} to {levels[1]} of 255. If the camera has 10 to 14 bits, give --bits"
            )
        if (set(work.formats) & set(CLOUDS) or model.spec.takes_camera) and not lens.knows_focal:
            focal = exif_focal(work.job.read(), (image.shape[-2], image.shape[-1]))
            if focal is not None:
                own = replace(lens, focal=focal)
                note(f"focal length {focal:.0f} pixels, from the EXIF data")
            elif model.spec.takes_camera and model.fov is not None:
                note(f"camera unknown: a horizontal field of view of {model.fov:g} degrees is assumed, the model's option fov")
        return write_one(
            place,
            image,
            prediction,
            index,
            formats=work.formats,
            model=name,
            lens=own,
            limits=limits.get(work.job.stem.parent),
            note=note,
        )

    def settle(work: Work[Job], writing: Future[list[Path]]) -> None:
        if progress is not None:
            progress(1)
        try:
            written.extend(writing.result())
        except CloudError as error:
            refused.append(error)
            failures.append(Failure(work.job.location, str(error)))
            return
        except NameTooLongError as error:
            failures.append(Failure(work.job.location, f"{error}; give the picture a shorter one"))
            return
        plan.results.finish(work.name, work.fingerprint, work.files)

    threads = max(2, os.cpu_count() or 1)
    pending: deque[tuple[Work[Job], Future[list[Path]]]] = deque()
    with ThreadPoolExecutor(threads) as readers, ThreadPoolExecutor(threads) as writers:
        try:
            read = _read(plan.images, lambda work: decode(work.job.read(), bits=bits), readers, threads, failures, progress)
            for batch in _batches(read, 1 if tile else batch_size):
                cameras = None
                if model.spec.takes_camera:
                    size = (batch[0][1].shape[-2], batch[0][1].shape[-1])
                    cameras = given_cameras(lens, size, [work.job.read() for work, _ in batch])
                if model.needs_camera:
                    known = [False] * len(batch) if cameras is None else known_cameras(cameras).tolist()
                    for (work, _), has in zip(batch, known, strict=True):
                        if not has:
                            refused.append(CameraError(_NO_CAMERA.format(model.spec.name)))
                            failures.append(Failure(work.job.location, str(refused[-1])))
                            if progress is not None:
                                progress(1)
                    batch = [one for one, has in zip(batch, known, strict=True) if has]
                    if not batch or cameras is None:
                        continue
                    cameras = cameras[torch.tensor(known)]
                prediction = (
                    predict_tiled(model, batch[0][1], tile, cameras=cameras, batch_size=batch_size)
                    if tile
                    else model.predict([image for _, image in batch], cameras=cameras, batch_size=batch_size)
                )
                if steady:
                    for work, _ in batch:
                        aligned.setdefault(work.job.stem.parent, Steady(prediction.space))
                    maps = [
                        aligned[work.job.stem.parent](depth) for (work, _), depth in zip(batch, prediction.depth, strict=True)
                    ]
                    prediction = replace(prediction, depth=torch.stack(maps))
                for index, (work, image) in enumerate(batch):
                    mine, place = prediction, index
                    if sparse is not None:
                        try:
                            mine, place = sparse.complete(work.job.stem, image, prediction, index), 0
                        except DadkitError as error:
                            failures.append(Failure(work.job.location, str(error)))
                            if progress is not None:
                                progress(1)
                            continue
                    while len(pending) >= 2 * threads:
                        settle(*pending.popleft())
                    plan.results.claim(work.files)
                    pending.append((work, writers.submit(write, work, image, mine, place)))
                while pending and pending[0][1].done():
                    settle(*pending.popleft())
            while pending:
                settle(*pending.popleft())
        finally:
            readers.shutdown(cancel_futures=True)
            writers.shutdown(cancel_futures=True)
    notes += [Note(str(folder), align.summary()) for folder, align in aligned.items()]
    if refused and not written:
        raise refused[0]
    return written, failures


def _limits(
    model: DepthModel, films: Sequence[Job], lens: Lens, bits: int | Literal["percentile"], size: int
) -> dict[Path, tuple[float, float]]:
    """Limits of colours for each folder, of up to 24 of its images taken evenly."""
    folders: dict[Path, list[Job]] = {}
    for job in films:
        folders.setdefault(job.stem.parent, []).append(job)
    found = {}
    for folder, jobs in folders.items():
        maps: list[Tensor] = []
        for job in jobs[:: max(1, len(jobs) // PROBES)][:PROBES]:
            try:
                image = decode(job.read(), bits=bits)
            except SampleError:
                continue  # it is said when it is predicted
            cameras = None
            if model.spec.takes_camera:
                cameras = given_cameras(lens, (image.shape[-2], image.shape[-1]), [job.read()])
                if cameras is None and model.needs_camera:
                    continue  # as above
            maps += model.predict(image, cameras=cameras, batch_size=size).depth
        if maps:
            found[folder] = shared_limits(maps, model.spec.space)
    return found


def _read(
    work: Iterable[Work[Job]],
    read: Callable[[Work[Job]], Tensor],
    readers: ThreadPoolExecutor,
    ahead: int,
    failures: list[Failure],
    progress: Callable[[int], None] | None,
) -> Iterator[tuple[Work[Job], Tensor]]:
    """The images in order, ``ahead`` of them being decoded meanwhile; what cannot be read is noted."""
    todo = iter(work)
    running: deque[tuple[Work[Job], Future[Tensor]]] = deque()

    def start() -> None:
        one = next(todo, None)
        if one is not None:
            running.append((one, readers.submit(read, one)))

    for _ in range(ahead):
        start()
    while running:
        one, reading = running.popleft()
        try:
            image = reading.result()
        except SampleError as error:
            failures.append(Failure(one.job.location, str(error)))
            if progress is not None:
                progress(1)
            start()
            continue
        start()
        yield one, image


def _batches(images: Iterable[tuple[Work[Job], Tensor]], size: int) -> Iterator[list[tuple[Work[Job], Tensor]]]:
    batch: list[tuple[Work[Job], Tensor]] = []
    for work, image in images:
        if batch and (len(batch) == size or image.shape != batch[0][1].shape):
            yield batch
            batch = []
        batch.append((work, image))
    if batch:
        yield batch


_OVERLAP = 0.25


def predict_tiled(
    model: DepthModel, image: Tensor, tile: int, *, cameras: Tensor | None = None, batch_size: int = 1
) -> Prediction:
    """Predict one picture in square tiles.

    The whole picture is predicted once, as always. Each tile is predicted alone, brought to the whole map by the scale and
    shift of least squares, and blended with its neighbours over a quarter of its side. A tile that has no scale > 0 to the
    whole map, as one of plain sky, is taken from the whole map. Memory is that of one batch of tiles, besides the map itself.

    Args:
        model: its own resizing policy is applied to the picture and to each tile.
        image: (3, H, W) uint8.
        tile: side in the picture's pixels. A picture whose sides are at most this is predicted whole.
        cameras: (1, 3, 3) in pixels of the picture, for models that take cameras; each tile gets its own.
        batch_size: tiles per forward pass.

    Returns:
        Prediction with ``depth`` (1, 1, H, W) in the model's space.
    """
    height, width = image.shape[-2:]
    whole = model.predict(image, cameras=cameras)
    whole = replace(whole, depth=whole.depth.cpu())
    if max(height, width) <= tile:
        return whole
    total, weight = torch.zeros_like(whole.depth[0, 0]), torch.zeros_like(whole.depth[0, 0])
    boxes = [(y, x) for y in _starts(height, tile) for x in _starts(width, tile)]
    window = _window(min(tile, height), min(tile, width))
    for start in range(0, len(boxes), batch_size):
        chosen = boxes[start : start + batch_size]
        parts = [image[:, y : y + tile, x : x + tile] for y, x in chosen]
        own = None if cameras is None else torch.stack([crop_camera(cameras[0], (x, y)) for y, x in chosen])
        maps = model.predict(parts, cameras=own, batch_size=batch_size).depth.cpu()
        for (y, x), part in zip(chosen, maps[:, 0], strict=True):
            place = slice(y, y + tile), slice(x, x + tile)
            total[place] += window * _fitted(part, whole.depth[0, 0][place])
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
