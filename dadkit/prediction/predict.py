"""Predict depth for images on disk, in batches or in tiles, skipping what cannot be read.

Threads read images ahead of the model and write results behind it; the model runs in the calling thread.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dadkit.data.images import MAX_PIXELS, decode, exif_focal, few_levels
from dadkit.errors import DadkitError, SampleError
from dadkit.files import NameTooLongError
from dadkit.interfaces import CameraError, DepthModel, Prediction, crop_camera, known_cameras
from dadkit.prediction.camera import CloudError, Lens, check_cloud, given_cameras
from dadkit.prediction.inputs import Job, find_inputs
from dadkit.prediction.outputs import CLOUDS, CONDITIONS, DEFAULT, PROBES, check_condition, shared_limits, write_one
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
    max_pixels: int = MAX_PIXELS,
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
        bits, max_pixels: what 16-bit greyscale holds, and how large a picture may be, see :func:`dadkit.data.images.decode`.
        tile: side of square tiles in pixels, see :func:`predict_tiled`; None = the picture as a whole.
        films: images that are frames, in order: those of a folder are coloured on the same limits, see
            :func:`dadkit.prediction.outputs.shared_limits`.
        steady: bring each map to the one before it in its folder, as ``predict_video`` does.
        notes: gets what a person should know of single images: nearly constant ones, a focal length taken from EXIF, pixels
            that are not in the cloud.
        progress: called with the number of images that were finished, read or not, since the last call.
    """
    lens = lens or Lens()
    wanted = {one for work in plan.images for one in work.formats}
    space = model.spec.space if sparse is None else Space.METRIC
    if wanted & set(CLOUDS):
        check_cloud(space, lens)
    for one in wanted & set(CONDITIONS):
        check_condition(space, one)

    def decoded(job: Job) -> Tensor:
        return decode(job.read(), bits=bits, max_pixels=max_pixels)

    pictures = _Pictures(
        model=model,
        plan=plan,
        name=name,
        batch_size=batch_size,
        lens=lens,
        sparse=sparse,
        decoded=decoded,
        tile=tile,
        limits=_limits(model, films, lens, decoded, batch_size) if films and plan.images else {},
        steady={} if steady else None,
        notes=[] if notes is None else notes,
        progress=progress,
    )
    pictures.run()
    if pictures.refused and not pictures.written:
        raise pictures.refused[0]
    return pictures.written, pictures.failures


_Read = tuple[Work[Job], Tensor]


@dataclass
class _Pictures:
    """One call of :func:`carry_out`: its arguments, and what has come of them so far.

    Attributes:
        decoded: reads a picture.
        limits: folder of frames -> limits of their colours.
        steady: folder -> what brings its maps to the ones before; None = they stay as they are.
        refused: why pictures have no cloud or no metres; an error of the call if it is all of them.
    """

    model: DepthModel
    plan: Plan
    name: str
    batch_size: int
    lens: Lens
    sparse: Sparse | None
    decoded: Callable[[Job], Tensor]
    tile: int | None
    limits: Mapping[Path, tuple[float, float]]
    steady: dict[Path, Steady] | None
    notes: list[Note]
    progress: Callable[[int], None] | None
    written: list[Path] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    refused: list[CloudError | CameraError] = field(default_factory=list)

    def run(self) -> None:
        """Read, predict and write every picture."""
        threads = max(2, os.cpu_count() or 1)
        pending: deque[tuple[Work[Job], Future[list[Path]]]] = deque()
        with ThreadPoolExecutor(threads) as readers, ThreadPoolExecutor(threads) as writers:
            try:
                for batch in _batches(self.read(readers, threads), 1 if self.tile else self.batch_size):
                    for work, image, prediction, index in self.answer(batch):
                        while len(pending) >= 2 * threads:
                            self.settle(*pending.popleft())
                        self.plan.results.claim(work.files)
                        pending.append((work, writers.submit(self.write, work, image, prediction, index)))
                    while pending and pending[0][1].done():
                        self.settle(*pending.popleft())
                while pending:
                    self.settle(*pending.popleft())
            finally:
                readers.shutdown(cancel_futures=True)
                writers.shutdown(cancel_futures=True)
        self.notes += [Note(str(folder), align.summary()) for folder, align in (self.steady or {}).items()]

    def read(self, readers: ThreadPoolExecutor, ahead: int) -> Iterator[_Read]:
        """Yields the images in order, ``ahead`` of them being decoded meanwhile."""
        todo = iter(self.plan.images)
        running: deque[tuple[Work[Job], Future[Tensor]]] = deque()

        def start() -> None:
            one = next(todo, None)
            if one is not None:
                running.append((one, readers.submit(self.decoded, one.job)))

        for _ in range(ahead):
            start()
        while running:
            one, reading = running.popleft()
            try:
                image = reading.result()
            except SampleError as error:
                self.fail(one, str(error))
                start()
                continue
            start()
            yield one, image

    def answer(self, batch: list[_Read]) -> Iterator[tuple[Work[Job], Tensor, Prediction, int]]:
        """Yields each picture with its map: the prediction that holds it, and its place there."""
        batch, cameras = self.with_cameras(batch)
        if not batch:
            return
        if self.tile:
            prediction = predict_tiled(self.model, batch[0][1], self.tile, cameras=cameras, batch_size=self.batch_size)
        else:
            prediction = self.model.predict([image for _, image in batch], cameras=cameras, batch_size=self.batch_size)
        if self.steady is not None:
            maps = []
            for (work, _), depth in zip(batch, prediction.depth, strict=True):
                align = self.steady.setdefault(work.job.stem.parent, Steady(prediction.space))
                maps.append(align(depth))
            prediction = replace(prediction, depth=torch.stack(maps))
        for index, (work, image) in enumerate(batch):
            if self.sparse is None:
                yield work, image, prediction, index
                continue
            try:
                complete = self.sparse.complete(work.job.stem, image, prediction, index)
            except DadkitError as error:
                self.fail(work, str(error))
            else:
                yield work, image, complete, 0

    def with_cameras(self, batch: list[_Read]) -> tuple[list[_Read], Tensor | None]:
        """Returns the pictures that the model can answer, and their cameras, (B, 3, 3), if it takes any."""
        cameras = None
        if self.model.spec.takes_camera:
            size = (batch[0][1].shape[-2], batch[0][1].shape[-1])
            cameras = given_cameras(self.lens, size, [work.job.read() for work, _ in batch])
        if not self.model.needs_camera:
            return batch, cameras
        known = [False] * len(batch) if cameras is None else known_cameras(cameras).tolist()
        for (work, _), has in zip(batch, known, strict=True):
            if not has:
                self.refused.append(CameraError(_NO_CAMERA.format(self.model.spec.name)))
                self.fail(work, str(self.refused[-1]))
        left = [one for one, has in zip(batch, known, strict=True) if has]
        return left, None if cameras is None else cameras[torch.tensor(known)]

    def write(self, work: Work[Job], image: Tensor, prediction: Prediction, index: int) -> list[Path]:
        """Write one picture's results; in a thread of its own. Returns the files."""

        def note(text: str) -> None:
            self.notes.append(Note(work.job.location, text))

        lens, spec = self.lens, self.model.spec
        levels = few_levels(image)
        if levels is not None:
            note(
                f"nearly constant: grey levels {levels[0]} to {levels[1]} of 255. If the camera has 10 to 14 bits, give --bits"
            )
        wrong = ~prediction.depth[index].isfinite()
        broken = float((wrong if prediction.valid is None else wrong & prediction.valid[index]).float().mean())
        if broken:
            note(f"{broken:.0%} of the map is NaN or infinite: see the weights, or give another --precision")
        if (set(work.formats) & set(CLOUDS) or spec.takes_camera) and not lens.knows_focal:
            focal = exif_focal(work.job.read(), (image.shape[-2], image.shape[-1]))
            if focal is not None:
                lens = replace(lens, focal=focal)
                note(f"focal length {focal:.0f} pixels, from the EXIF data")
            elif spec.takes_camera and self.model.fov is not None:
                degrees = f"{self.model.fov:g} degrees"
                note(f"camera unknown: a horizontal field of view of {degrees} is assumed, the model's option fov")
        return write_one(
            self.plan.output / work.name,
            image,
            prediction,
            index,
            formats=work.formats,
            model=self.name,
            lens=lens,
            limits=self.limits.get(work.job.stem.parent),
            note=note,
        )

    def settle(self, work: Work[Job], writing: Future[list[Path]]) -> None:
        """Note what has come of one picture, once it is written."""
        try:
            files = writing.result()
        except CloudError as error:
            self.refused.append(error)
            self.fail(work, str(error))
        except NameTooLongError as error:
            self.fail(work, f"{error}; give the picture a shorter one")
        else:
            self.written += files
            self.plan.results.finish(work.name, work.fingerprint, work.files)
            self.advance()

    def fail(self, work: Work[Job], reason: str) -> None:
        """Note that a picture has no result."""
        self.failures.append(Failure(work.job.location, reason))
        self.advance()

    def advance(self) -> None:
        """Say that one more picture is finished."""
        if self.progress is not None:
            self.progress(1)


def _limits(
    model: DepthModel, films: Sequence[Job], lens: Lens, decoded: Callable[[Job], Tensor], size: int
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
                image = decoded(job)
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


def _batches(images: Iterable[_Read], size: int) -> Iterator[list[_Read]]:
    batch: list[_Read] = []
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
