"""Images without labels: folders, list files, tar shards."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from dadkit.data.folders import normalise_extensions, stem
from dadkit.data.images import MAX_PIXELS, decode, exif_camera
from dadkit.data.packed import ComputedStrings
from dadkit.data.pairs import Cameras
from dadkit.data.sample import Sample
from dadkit.data.sources import Source, keys_with_suffix, open_root
from dadkit.errors import DataError, SampleError

__all__ = ["Images"]


class Images:
    """Photographs in folders, list files and tar shards.

    Keys are relative paths without extension: below a folder, in a list as written there, in a tar shard after the shard's own
    path (``shards/0001/photo``). Where two would be equal, both keep their extension. With several roots each key begins with
    its root's name. The order is that of the sorted paths, of the list's lines, of the shard's members. A photograph that
    ``intrinsics`` does not name has the camera that its EXIF data state, if they do (:func:`dadkit.data.images.exif_camera`).

    Args:
        root: a folder (recursive, symlinked folders followed, tar shards in it read too), a list file (``.txt``: one path a
            line, relative to the list's folder; ``#`` begins a comment line), a tar shard (``.tar``, not compressed), a pattern
            of tar shards (``"photos-{000..099}.tar"``), the address of images in a bucket (``s3://…``, ``gs://…``), or several
            of these.
        extensions: file name extensions that count as images in folders and shards; None is the usual ones.
        min_size: images with a shorter side are skipped and counted: icons teach nothing.
        max_pixels: images with more pixels are skipped and counted before they are decoded.
        min_side: JPEGs may be decoded at 1/2, 1/4 or 1/8 of their size down to this shorter side. Faster; only for contexts
            that need no native detail (``whole``).
        bits: what 16-bit greyscale holds: 16, 12, …, or ``"percentile"``; see :func:`dadkit.data.images.decode`.
        intrinsics: file with the cameras, by key or one for all; see :class:`dadkit.data.pairs.Cameras`.

    Raises:
        DataError: a root is missing or holds no image; the message says what was looked for. Or the cameras cannot be read.
    """

    def __init__(
        self,
        root: str | Path | list[str | Path],
        *,
        extensions: list[str] | None = None,
        min_size: int = 64,
        max_pixels: int = MAX_PIXELS,
        min_side: int | None = None,
        bits: int | Literal["percentile"] = 16,
        intrinsics: str | Path | None = None,
    ) -> None:
        roots = [root] if isinstance(root, str | Path) else list(root)
        if not roots:
            raise DataError("no images: the list of roots is empty")
        if min_size < 1 or max_pixels < 1 or (min_side is not None and min_side < 1):
            raise ValueError(f"min_size, max_pixels and min_side must be positive, got {min_size}, {max_pixels}, {min_side}")
        self._decoding: dict[str, Any] = {"min_size": min_size, "max_pixels": max_pixels, "min_side": min_side, "bits": bits}
        if intrinsics is not None and min_side is not None:
            raise ValueError("intrinsics are in pixels of the whole picture, and min_side decodes fewer: leave one out")
        self._cameras = None if intrinsics is None else Cameras(Path(intrinsics).expanduser(), None)
        prefixes = _prefixes(roots)
        self._sources: list[tuple[str, Source]] = [
            (prefix, source)
            for prefix, one in zip(prefixes, roots, strict=True)
            for source in open_root(one, normalise_extensions(extensions))
        ]
        self._ends = list(accumulate(len(source) for _, source in self._sources))
        self._keep_suffix = keys_with_suffix(ComputedStrings(len(self), self._name))

    def __len__(self) -> int:
        return self._ends[-1]

    def _name(self, index: int) -> str:
        """Returns the key with its extension."""
        prefix, source, inside = self._find(index)
        return prefix + source.name(inside)

    def key(self, index: int) -> str:
        """Returns the key of a sample, without reading it."""
        name = self._name(index)
        return name if self._keep_suffix[index] else stem(name)

    def place(self, index: int) -> tuple[Path | str, int, int]:
        """Returns the file or address, where in it the image begins, and its number of bytes; (0, 0): the file is the image."""
        _, source, inside = self._find(index)
        return source.place(inside)

    def __getitem__(self, index: int) -> Sample:
        _, source, inside = self._find(index)
        try:
            file = source.read(inside)
            image = decode(file, **self._decoding)
        except SampleError as error:
            raise SampleError(f"{source.location(inside)}: {error}") from error
        key = self.key(index)
        given = None if self._cameras is None else self._cameras.get(key)
        if given is not None:
            return Sample(image=image, key=key, intrinsics=given)
        camera = exif_camera(file, (image.shape[-2], image.shape[-1]))
        return Sample(image=image, key=key, intrinsics=camera, camera_from="exif")

    def _find(self, index: int) -> tuple[str, Source, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        number = bisect_right(self._ends, index)
        prefix, source = self._sources[number]
        return prefix, source, index - self._ends[number] + len(source)


def _prefixes(roots: list[str | Path]) -> list[str]:
    """Returns what keys begin with: nothing for one root, else the root's name, numbered from the second time on."""
    if len(roots) == 1:
        return [""]
    names: list[str] = []
    for root in roots:
        path = Path(root).expanduser().absolute()
        plain = path.stem if path.suffix in (".txt", ".tar") else path.name
        name, number = plain, 1
        while name in names:
            number += 1
            name = f"{plain}-{number}"
        names.append(name)
    return [name + "/" for name in names]
