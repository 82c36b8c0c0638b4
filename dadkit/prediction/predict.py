"""Predict depth for images on disk, in batches, skipping what cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from dadkit.data.images import decode
from dadkit.data.sample import SampleError
from dadkit.errors import DataError
from dadkit.interfaces import DepthModel
from dadkit.prediction.outputs import FORMATS, write_prediction

__all__ = ["Failure", "find_images", "predict_files"]

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


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
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
            found += [(p, p.relative_to(path).with_suffix("")) for p in inside]
        elif path.is_file():
            found.append((path, Path(path.stem)))
        else:
            raise DataError(f"{path} does not exist; give image files or folders of images")
    if not found:
        raise DataError(f"no images in {', '.join(map(str, paths))}; looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    stems = [stem for _, stem in found]
    unique = [(file, stem if stems.count(stem) == 1 else stem.with_name(file.name)) for file, stem in found]
    if len({stem for _, stem in unique}) < len(unique):
        raise DataError("two images of the same name would write the same outputs; predict their folders separately")
    return unique


def predict_files(
    model: DepthModel,
    paths: Sequence[str | Path],
    output: Path,
    *,
    name: str,
    formats: Sequence[str] = tuple(FORMATS),
    batch_size: int = 1,
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
        progress: called with (done, total).

    Returns:
        The written files and the images that could not be read.
    """
    jobs = find_images(paths)
    written: list[Path] = []
    failures: list[Failure] = []
    for batch in _batches(jobs, batch_size, failures):
        prediction = model.predict([image.float() / 255 for _, image in batch], batch_size=batch_size)
        for index, (stem, image) in enumerate(batch):
            written += write_prediction(
                output / stem,
                image,
                prediction.depth[index],
                space=prediction.space,
                valid=None if prediction.valid is None else prediction.valid[index],
                formats=formats,
                model=name,
            )
        if progress is not None:
            progress(len(written) // max(1, len(formats)) + len(failures), len(jobs))
    return written, failures


def _batches(jobs: list[tuple[Path, Path]], size: int, failures: list[Failure]) -> Iterator[list[tuple[Path, Tensor]]]:
    batch: list[tuple[Path, Tensor]] = []
    for file, stem in jobs:
        try:
            image = decode(file)
        except SampleError as error:
            failures.append(Failure(file, str(error)))
            continue
        if batch and (len(batch) == size or image.shape != batch[0][1].shape):
            yield batch
            batch = []
        batch.append((stem, image))
    if batch:
        yield batch
