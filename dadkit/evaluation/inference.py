"""Ask a model as the protocol says: input made smaller, mirrored image averaged, answers at the truth's size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from dadkit.data import Sample
from dadkit.evaluation.protocol import Protocol
from dadkit.interfaces import DepthModel, Prediction, flip_camera, resize_camera

__all__ = ["known_cameras_of", "predict_under"]


def known_cameras_of(samples: Sequence[Sample]) -> Tensor | None:
    """(B, 3, 3) of the samples, NaN where a camera is not known; None if none is."""
    known = [sample.intrinsics for sample in samples]
    if all(camera is None for camera in known):
        return None
    return torch.stack([torch.full((3, 3), torch.nan) if camera is None else camera for camera in known])


def predict_under(
    protocol: Protocol, model: DepthModel, images: list[Tensor], *, batch_size: int, cameras: Tensor | None = None
) -> Prediction:
    """The model's answer at the images' own size.

    Args:
        protocol: its ``resize`` and ``flip`` are applied.
        model: its own size policy is applied (``predict``).
        images: (3, H, W) float RGB in [0, 1], all of one size.
        batch_size: images per forward pass.
        cameras: (B, 3, 3) in pixels of the images, NaN = unknown; they follow both.
    """
    height, width = images[0].shape[-2:]
    seen = [_at_most(image, protocol.resize) for image in images]
    if cameras is not None:
        cameras = resize_camera(cameras, (height, width), seen[0].shape[-2:])
    prediction = _answer_at(model.predict(seen, cameras=cameras, batch_size=batch_size), (height, width))
    if protocol.flip:
        turned = [image.flip(-1) for image in seen]
        moved = None if cameras is None else flip_camera(cameras, seen[0].shape[-1])
        mirrored = _answer_at(model.predict(turned, cameras=moved, batch_size=batch_size), (height, width))
        both = prediction.valid
        if both is not None and mirrored.valid is not None:
            both = both & mirrored.valid.flip(-1)
        prediction = replace(prediction, depth=(prediction.depth + mirrored.depth.flip(-1)) / 2, valid=both, features={})
    return prediction


def _at_most(image: Tensor, longer: int | None) -> Tensor:
    height, width = image.shape[-2:]
    if longer is None or max(height, width) <= longer:
        return image
    scale = longer / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)


def _answer_at(prediction: Prediction, size: tuple[int, int]) -> Prediction:
    if tuple(prediction.depth.shape[-2:]) == size:
        return prediction
    depth = F.interpolate(prediction.depth, size, mode="bilinear", align_corners=False)
    valid = prediction.valid
    if valid is not None:
        valid = F.interpolate(valid.to(torch.uint8), size, mode="nearest-exact").bool()
    return replace(prediction, depth=depth, valid=valid, features={}, intrinsics=None)
