"""What is predicted: images and films out of files, folders, lists and tar shards, and what was left out."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path

from PIL import Image

from dadkit.data.folders import EXTENSIONS, LISTS, OWN, counted, scan, stem
from dadkit.data.sources import FileSource, Source, open_root
from dadkit.data.store import file_stamp
from dadkit.errors import DataError

__all__ = ["VIDEOS", "Film", "Inputs", "Job", "find_inputs"]

VIDEOS = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"),
)
"""File name extensions taken for videos."""


@dataclass(frozen=True)
class Job:
    """One image to predict.

    Attributes:
        source, index: where its bytes are.
        stem: relative path of its outputs, without ending.
    """

    source: Source
    index: int
    stem: Path

    @property
    def location(self) -> str:
        """Where a person finds it, for messages."""
        return self.source.location(self.index)

    def read(self) -> Path | bytes:
        """Returns the file, or its bytes. Raises :class:`dadkit.data.SampleError` if they cannot be had."""
        return self.source.read(self.index)

    def stamp(self) -> str:
        """Changes when the image's file changes."""
        return self.source.stamp(self.index)


@dataclass(frozen=True)
class Film:
    """One film or camera to predict.

    Attributes:
        path: its file, or the address of a film or a stream.
        stem: relative path of its outputs, without ending.
        live: it is a camera or a stream, which does not wait.
    """

    path: Path | str
    stem: Path
    live: bool = False

    def stamp(self) -> str:
        """Changes when the film's file changes."""
        return file_stamp(self.path) if isinstance(self.path, Path) else self.path


@dataclass
class Inputs:
    """What :func:`find_inputs` found.

    Attributes:
        images, films: what is predicted.
        left_out: kind -> how many files of searched folders and shards are not; kinds are extensions, and ``OWN`` for results.
    """

    images: list[Job] = field(default_factory=list)
    films: list[Film] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def all(self) -> list[Job | Film]:
        """Images, then films."""
        return [*self.images, *self.films]

    def summary(self) -> str:
        """``"left out: 8 .heic, 2 results of dadkit"``; empty if nothing was."""
        return f"left out: {counted(self.left_out)}" if self.left_out else ""


def find_inputs(paths: Sequence[str | Path]) -> Inputs:
    """Returns the images and films to predict, each with the relative stem of its outputs.

    Args:
        paths: image files, videos, folders (searched recursively for images, videos and tar shards), list files (``.txt``,
            ``.csv``, …: one path a line, relative to the list's folder), tar shards (``.tar``), addresses of films
            (``https://…``) and streams (``rtsp://…``), cameras (``/dev/video0``), patterns (``photos/*.jpg``; ``**`` stands
            for any folders). The results of a stream or camera are named after it and the time.

    Returns:
        Jobs, sorted within a folder; a folder's structure is kept in the stems. Files that differ only in their suffix keep it
        in the stem: ``a.jpg`` and ``a.png`` become ``a.jpg.npy`` and ``a.png.npy``. dadkit's own results are left out. A file
        that is named twice (``photos photos/a.jpg``) is one.

    Raises:
        DataError: a path does not exist, two inputs would write the same outputs, or there is no input at all.
    """
    found = Inputs()
    for given in _expanded(paths):
        path = Path(given)
        if (film := _address(str(given))) is not None:
            found.films.append(film)
        elif path.is_dir():
            _search(path, found)
        elif path.suffix.lower() in VIDEOS and path.is_file():
            found.films.append(Film(path, Path(path.stem)))
        elif path.suffix.lower() in (*LISTS, ".tar") or ("{" in str(path) and not path.exists()):
            for source in open_root(path, EXTENSIONS):
                _add(found, source)
        elif path.is_file():
            _add(found, FileSource(path.parent, [path.name]))
        else:
            raise DataError(
                f"{path} does not exist; give image files, videos, folders, lists ({', '.join(LISTS[:4])}), tar shards (.tar), "
                "or addresses"
            )
    if not found.images and not found.films:
        looked = f"looked for {', '.join(EXTENSIONS)}, videos and tar shards"
        raise DataError("; ".join(filter(None, (f"no images in {', '.join(map(str, paths))}", looked, found.summary()))))
    _name_apart(found)
    return found


_FILES = ("http", "https", "file")  # schemes of films that wait


def _address(text: str) -> Film | None:
    """Returns the film, stream or camera that is not a file of its own, or None."""
    match = re.match(r"([a-z][a-z0-9+.-]+)://(?:[^/@]*@)?([^?#]*)", text)
    if match is None and not text.startswith("/dev/video"):
        return None
    scheme, place = match.groups() if match else ("", text.removeprefix("/dev/"))
    if scheme in _FILES and Path(place).suffix.lower() in EXTENSIONS:
        raise DataError(f"{text} is the address of a picture; download it, and give the file")
    if scheme in _FILES:
        return Film(text, Path(re.sub(r"[^\w.-]+", "-", stem(place.rstrip("/").rpartition("/")[2])) or "film"))
    name = re.sub(r"[^\w.-]+", "-", place).strip("-.") or scheme
    return Film(text, Path(f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"), live=True)


def _expanded(paths: Sequence[str | Path]) -> Iterator[str | Path]:
    """Yields the paths, and for a pattern that a shell left alone (quotes, Windows) what it matches."""
    for given in paths:
        matches = sorted(glob(os.path.expanduser(given), recursive=True)) if has_magic(str(given)) else []
        yield from [given] if not matches or os.path.lexists(given) else matches


def _search(folder: Path, found: Inputs) -> None:
    names, others = scan(folder, {*EXTENSIONS, *VIDEOS, ".tar"})
    kinds: dict[str, list[str]] = {"film": [], "shard": [], "image": []}
    for name in names:
        suffix = Path(name).suffix.lower()
        kinds["film" if suffix in VIDEOS else "shard" if suffix == ".tar" else "image"].append(name)
    found.left_out += others
    _add(found, FileSource(folder, kinds["image"]))
    found.films += [Film(folder / name, Path(stem(name))) for name in kinds["film"]]
    for name in kinds["shard"]:
        for source in open_root(folder / name, EXTENSIONS):
            _add(found, source, Path(name).parent)


def _add(found: Inputs, source: Source, below: Path = Path()) -> None:
    for index in range(len(source)):
        if _is_result(source, index):
            found.left_out[OWN] += 1
        elif isinstance(source, FileSource) and source.name(index).lower().endswith(VIDEOS):  # lists may name films too
            found.films.append(Film(source.read(index), below / stem(source.name(index))))
        else:
            found.images.append(Job(source, index, below / stem(source.name(index))))


def _is_result(source: Source, index: int) -> bool:
    """True if the file carries dadkit's mark: a result that was moved away from the list beside it."""
    if not (isinstance(source, FileSource) and source.name(index).lower().endswith(".png")):
        return False
    try:
        with Image.open(source.read(index)) as picture:
            return "dadkit:space" in picture.info
    except Exception:  # whatever is wrong with it is said when it is decoded
        return False


def _place(job: Job) -> tuple[object, ...]:
    """Tells images apart: their files, or where they are in their shard."""
    if isinstance(job.source, FileSource):
        return job.stem, os.path.abspath(job.source.read(job.index))
    return job.stem, id(job.source), job.index


def _name_apart(found: Inputs) -> None:
    found.images = list({_place(job): job for job in found.images}.values())
    found.films = list({(film.stem, os.path.abspath(film.path)): film for film in found.films}.values())
    counts = Counter(job.stem for job in found.images)
    found.images = [
        job if counts[job.stem] == 1 else Job(job.source, job.index, job.stem.with_name(Path(job.source.name(job.index)).name))
        for job in found.images
    ]
    films = Counter(film.stem for film in found.films)
    found.films = [
        film if films[film.stem] == 1 else Film(film.path, film.stem.with_name(Path(film.path).name)) for film in found.films
    ]
    for stems in ([job.stem for job in found.images], [film.stem for film in found.films]):
        if len(set(stems)) < len(stems):
            twice = Counter(stems).most_common(1)[0][0]
            raise DataError(
                f"two inputs of the same name would write the same outputs ({twice}); predict their folders separately"
            )
