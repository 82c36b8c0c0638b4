"""From a random number generator to a scene worth a picture: build a draft, look for a good camera, add the camera's habits."""

from __future__ import annotations

import math

import numpy as np

from dadkit_procedural.cast import clearance, glance
from dadkit_procedural.palette import Palette
from dadkit_procedural.scene import Camera, Photo, Primitives, Scene
from dadkit_procedural.styles import STYLES

__all__ = ["compose", "is_worth_a_picture"]

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
