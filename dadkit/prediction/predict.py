"""Predict depth for images on disk, in batches, skipping what cannot be read.

Threads read images ahead of the model and write results behind it; the model runs in the calling thread.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from dadkit.data.images import decode
from dadkit.data.sample import SampleError
from dadkit.errors import DadkitError
from dadkit.interfaces import DepthModel, Prediction
from dadkit.prediction.camera import Lens, check_cloud
from dadkit.prediction.inputs import Job, find_inputs
from dadkit.prediction.outputs import CLOUDS, DEFAULT, write_one
from dadkit.prediction.plan import Plan, Work, check_targets, identity, make_plan
from dadkit.prediction.sparse import Sparse
from dadkit.spaces import Space

__all__ = ["Failure", "carry_out", "predict_files"]


@dataclass(frozen=True)
class Failure:
    """An image that could not be read, and why."""

    path: str
    reason: str


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
        resume: images whose results of the same name were made by a model of the same name are left as they are.

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
    progress: Callable[[int], None] | None = None,
) -> tuple[list[Path], list[Failure]]:
    """Predict the images of a plan and write the results. Arguments, answers and errors as in :func:`predict_files`.

    Args:
        sparse: makes metres of each map by the points that come with its picture.
        progress: called with the number of images that were finished, read or not, since the last call.
    """
    if any(set(work.formats) & set(CLOUDS) for work in plan.images):
        check_cloud(model.spec.space if sparse is None else Space.METRIC, lens or Lens())
    written: list[Path] = []
    failures: list[Failure] = []

    def write(work: Work[Job], image: Tensor, prediction: Prediction, index: int) -> list[Path]:
        place = plan.output / work.name
        return write_one(place, image, prediction, index, formats=work.formats, model=name, lens=lens)

    def settle(work: Work[Job], writing: Future[list[Path]]) -> None:
        written.extend(writing.result())
        plan.results.finish(work.name, work.fingerprint, work.files)
        if progress is not None:
            progress(1)

    threads = max(2, os.cpu_count() or 1)
    pending: deque[tuple[Work[Job], Future[list[Path]]]] = deque()
    with ThreadPoolExecutor(threads) as readers, ThreadPoolExecutor(threads) as writers:
        try:
            for batch in _batches(_read(plan.images, readers, threads, failures, progress), batch_size):
                prediction = model.predict([image for _, image in batch], batch_size=batch_size)
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
    return written, failures


def _read(
    work: Iterable[Work[Job]],
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
            running.append((one, readers.submit(_decode, one)))

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


def _decode(work: Work[Job]) -> Tensor:
    return decode(work.job.read())


def _batches(images: Iterable[tuple[Work[Job], Tensor]], size: int) -> Iterator[list[tuple[Work[Job], Tensor]]]:
    batch: list[tuple[Work[Job], Tensor]] = []
    for work, image in images:
        if batch and (len(batch) == size or image.shape != batch[0][1].shape):
            yield batch
            batch = []
        batch.append((work, image))
    if batch:
        yield batch
