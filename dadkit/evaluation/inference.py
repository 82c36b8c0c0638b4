"""Ask a model as the protocol says: input made smaller, mirrored image averaged, answers at the truth's size."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from dadkit.evaluation.protocol import Protocol
from dadkit.interfaces import DepthModel, Prediction

__all__ = ["predict_under"]


def predict_under(protocol: Protocol, model: DepthModel, images: list[Tensor], *, batch_size: int) -> Prediction:
    """The model's answer at the images' own size.

    Args:
        protocol: its ``resize`` and ``flip`` are applied.
        model: its own size policy is applied (``predict``).
        images: (3, H, W) float RGB in [0, 1], all of one size.
        batch_size: images per forward pass.
    """
    height, width = images[0].shape[-2:]
    seen = [_at_most(image, protocol.resize) for image in images]
    prediction = _answer_at(model.predict(seen, batch_size=batch_size), (height, width))
    if protocol.flip:
        mirrored = _answer_at(model.predict([image.flip(-1) for image in seen], batch_size=batch_size), (height, width))
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
