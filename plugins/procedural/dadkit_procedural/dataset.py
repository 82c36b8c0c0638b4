"""The dataset: procedural scenes with exact depth, each composed from a random number generator.

Composing builds a draft, looks for a good camera, and adds the camera's habits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Literal

import numpy as np
import torch

from dadkit.data import Sample
from dadkit.errors import DataError
from dadkit.spaces import Space
from dadkit_procedural.cast import clearance, glance
from dadkit_procedural.palette import Palette
from dadkit_procedural.render import Picture, render
from dadkit_procedural.scene import Camera, Photo, Primitives, Scene
from dadkit_procedural.styles import STYLES

__all__ = [
    "ProceduralScenes",
    "compose",
    "is_worth_a_picture",
]


_DRAFTS, _CAMERAS = 50, 10
_CLEARANCE = 0.1  # metres between the camera and every surface, at least


def compose(style: str, rng: np.random.Generator, photo_noise: float) -> Scene:
    """A scene of ``style``: drafts and cameras are drawn until a view is worth a picture. Depends on ``rng`` alone."""
    palette = Palette(rng)
    for _ in range(_DRAFTS):
        draft = STYLES[style](palette)
        primitives = draft.parts.primitives()
        for _ in range(_CAMERAS):
            camera = draft.view()
            if is_worth_a_picture(camera, primitives, draft.contrast):
                photo = _photo(palette, photo_noise)
                materials = tuple(draft.parts.materials)
                return Scene(style, camera, primitives, materials, draft.lights, draft.sky, photo, draft.reach)
    raise RuntimeError(f"no good view of a {style!r} scene in {_DRAFTS} drafts with {_CAMERAS} cameras each")


def is_worth_a_picture(camera: Camera, primitives: Primitives, contrast: float) -> bool:
    """True if the camera is free, and sees several solids over a range of depths up to ``contrast``, none filling the image."""
    if clearance(primitives, camera.position) < _CLEARANCE:
        return False
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        depth, index = glance(camera, primitives)
    solid = np.isfinite(depth)
    if solid.mean() < 0.4:
        return False
    low, middle, high = np.quantile(depth[solid], (0.05, 0.5, 0.95))
    counts = np.sort(np.bincount(index[solid]))[::-1] / index.size
    several = np.count_nonzero(counts) >= 4 and counts[0] < 0.72
    return bool(several and 1.8 * low < high < contrast * low and middle > 0.2)


def _photo(palette: Palette, photo_noise: float) -> Photo:
    """Exposure, white balance, vignette, contrast and noise; ``photo_noise`` 0 turns all variation off."""
    warm, green = (float(palette.rng.normal(0, 0.07 * photo_noise)) for _ in range(2))
    return Photo(
        exposure=math.exp(float(palette.rng.normal(0, 0.25 * photo_noise))),
        balance=(math.exp(warm), math.exp(0.4 * green), math.exp(-warm)),
        vignette=palette.between(0, 0.35) * min(photo_noise, 2.0),
        noise=photo_noise * (palette.between(0.3, 2.0) if palette.chance(0.8) else palette.between(2.0, 6.0)),
        contrast=math.exp(float(palette.rng.normal(0, 0.08 * photo_noise))),
    )


_SPLITS = {"train": 0, "test": 1}


class ProceduralScenes:
    """Rendered scenes with exact depth, intrinsics and textures: no download, no file.

    ``dataset[i]`` is a :class:`~dadkit.data.sample.Sample` whose ``depth`` is metres along the optical axis (planar depth, not
    the ray's length), infinity for sky, sampled at pixel centres; colour is antialiased, depth is not averaged across edges.

    The scene depends on ``(seed, split, index)`` and the options alone: not on ``count``, the process, the number of workers
    or any global random state. The same index at another ``size`` shows the same scene at that resolution. Splits never share a
    scene, whatever the seed.

    Args:
        count: number of scenes.
        size: height and width in pixels, or one number for a square.
        seed: chooses the family of scenes.
        split: ``"train"`` or ``"test"``.
        styles: which kinds: ``room``, ``corridor``, ``hall``, ``street``, ``land``, ``objects``; None = all, equally often.
        photo_noise: strength of what a camera does to light: noise, exposure, white balance, contrast, vignette. 0 = none.
        cache: keep rendered scenes in this process's memory (9 bytes a pixel), for runs that see the same scenes many times.

    Raises:
        DataError: an option is out of range; the message says which.

    Example::

        sample = ProceduralScenes(count=1000, size=(192, 256))[0]
        sample.image.shape, sample.depth.shape     # (3, 192, 256) uint8, (1, 192, 256) float32
    """

    def __init__(
        self,
        count: int = 1000,
        size: int | Sequence[int] = (160, 160),
        seed: int = 0,
        split: Literal["train", "test"] = "train",
        styles: Sequence[str] | None = None,
        photo_noise: float = 1.0,
        cache: bool = False,
    ) -> None:
        self.count = count
        self.size: tuple[int, ...] = (size, size) if isinstance(size, int) else tuple(size)
        self.seed = seed
        self.split = split
        self.styles = tuple(STYLES) if styles is None else tuple(styles)
        self.photo_noise = photo_noise
        self.cache = cache
        self._pictures: dict[int, Picture] = {}
        self._check()

    def _check(self) -> None:
        if self.count < 1:
            raise DataError(f"procedural: count must be at least 1, got {self.count}")
        if len(self.size) != 2 or min(self.size) < 8:
            raise DataError(f"procedural: size must be a height and a width of at least 8 pixels, got {self.size}")
        if self.seed < 0:
            raise DataError(f"procedural: seed must not be negative, got {self.seed}")
        if self.split not in _SPLITS:
            raise DataError(f"procedural: split must be one of {', '.join(_SPLITS)}, got {self.split!r}")
        if not self.styles:
            raise DataError(f"procedural: styles is empty; leave it out for all of {', '.join(STYLES)}")
        for style in self.styles:
            if style not in STYLES:
                near = get_close_matches(style, STYLES, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise DataError(f"procedural: unknown style {style!r}; {hint}Known styles: {', '.join(STYLES)}")
        if not 0 <= self.photo_noise <= 10:
            raise DataError(f"procedural: photo_noise must be in [0, 10], got {self.photo_noise}")

    def __len__(self) -> int:
        return self.count

    def scene(self, index: int) -> Scene:
        """The description of scene ``index``: camera, solids, materials, lights."""
        rng = self._rng(index, 0)
        style = self.styles[int(rng.random() * len(self.styles))]
        return compose(style, rng, self.photo_noise)

    def picture(self, index: int) -> Picture:
        """Scene ``index`` as numpy arrays, with the index of the solid at each pixel."""
        height, width = self.size
        return render(self.scene(index), height, width, self._rng(index, 1))

    def __getitem__(self, index: int) -> Sample:
        index = range(self.count)[index]  # negative indices count from the end, others raise IndexError
        picture = self._pictures.get(index)
        if picture is None:
            picture = self.picture(index)
            if self.cache:
                self._pictures[index] = picture
        return Sample(  # copies, so that nobody writes into the cache
            image=torch.tensor(picture.image),
            key=f"procedural/{self.split}/{self.seed}/{index:06d}",
            depth=torch.tensor(picture.depth)[None],
            valid=torch.ones(1, *self.size, dtype=torch.bool),
            space=Space.METRIC,
            intrinsics=torch.tensor(picture.intrinsics),
        )

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_pictures": {}}

    def _rng(self, index: int, stream: int) -> np.random.Generator:
        """Random numbers of one scene; ``stream`` 0 composes it, 1 is the sensor's noise."""
        return np.random.default_rng([self.seed, _SPLITS[self.split], range(self.count)[index], stream])
