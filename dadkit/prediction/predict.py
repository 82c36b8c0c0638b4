"""Predict depth for images on disk, in batches, skipping what cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from dadkit.data.folders import EXTENSIONS, scan, stem
from dadkit.data.images import decode
from dadkit.data.sample import SampleError
from dadkit.errors import DataError
from dadkit.interfaces import DepthModel
from dadkit.prediction.camera import Lens, check_cloud
from dadkit.prediction.outputs import CLOUDS, DEFAULT, write_one

__all__ = ["Failure", "find_images", "predict_files"]


@dataclass(frozen=True)
class Failure:
    """An image that could not be read, and why."""

    path: Path
    reason: str


def find_images(paths: Sequence[str | Path]) -> list[tuple[Path, Path]]:
    """Images to predict, each with the relative stem of its outputs.

    Args:
        paths: image files, and folders that are searched recursively.

    Returns:
        ``(file, stem)`` pairs, sorted within a folder; a folder's structure is kept in the stems. Files that differ only in
        their suffix keep it in the stem: ``a.jpg`` and ``a.png`` become ``a.jpg.npy`` and ``a.png.npy``.

    Raises:
        DataError: a path does not exist, or there is no image at all.
    """
    found: list[tuple[Path, Path]] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += [(path / name, Path(stem(name))) for name in scan(path, EXTENSIONS)[0]]
        elif path.is_file():
            found.append((path, Path(path.stem)))
        else:
            raise DataError(f"{path} does not exist; give image files or folders of images")
    if not found:
        raise DataError(f"no images in {', '.join(map(str, paths))}; looked for {', '.join(EXTENSIONS)}")
    counts = Counter(place for _, place in found)
    unique = [(file, place if counts[place] == 1 else place.with_name(file.name)) for file, place in found]
    if len({place for _, place in unique}) < len(unique):
        raise DataError("two images of the same name would write the same outputs; predict their folders separately")
    return unique


def predict_files(
    model: DepthModel,
    paths: Sequence[str | Path],
    output: Path,
    *,
    name: str,
    formats: Sequence[str] = DEFAULT,
    batch_size: int = 1,
    lens: Lens | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Path], list[Failure]]:
    """Predict every image and write the outputs below ``output``.

    Args:
        model: its own resizing policy is applied; answers have the images' sizes.
        paths: image files and folders.
        output: folder of the outputs.
        name: the model's name, stored in the PNG.
        formats: what to write, out of ``FORMATS``.
        batch_size: consecutive images of one size share a forward pass.
        lens: focal length and scale, for point clouds.
        progress: called with (done, total).

    Returns:
        The written files and the images that could not be read.

    Raises:
        dadkit.prediction.camera.CloudError: points are wanted, but the model's maps hold none; before anything is predicted.
    """
    if set(formats) & set(CLOUDS):
        check_cloud(model.spec.space, lens or Lens())
    jobs = find_images(paths)
    written: list[Path] = []
    failures: list[Failure] = []
    for batch in _batches(jobs, batch_size, failures):
        prediction = model.predict([image.float() / 255 for _, image in batch], batch_size=batch_size)
        for index, (place, image) in enumerate(batch):
            written += write_one(output / place, image, prediction, index, formats=formats, model=name, lens=lens)
        if progress is not None:
            progress(len(written) // max(1, len(formats)) + len(failures), len(jobs))
    return written, failures


def _batches(jobs: list[tuple[Path, Path]], size: int, failures: list[Failure]) -> Iterator[list[tuple[Path, Tensor]]]:
    batch: list[tuple[Path, Tensor]] = []
    for file, place in jobs:
        try:
            image = decode(file)
        except SampleError as error:
            failures.append(Failure(file, str(error)))
            continue
        if batch and (len(batch) == size or image.shape != batch[0][1].shape):
            yield batch
            batch = []
        batch.append((place, image))
    if batch:
        yield batch
