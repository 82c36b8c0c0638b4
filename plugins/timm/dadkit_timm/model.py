"""An encoder of timm with a light decoder, as a dadkit student."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Literal

import timm
import timm.utils
from torch import Tensor, nn
from torch.nn import functional as F

from dadkit.errors import DadkitError
from dadkit.interfaces import ModelSpec, SizePolicy, Student
from dadkit.spaces import Space, depth_of
from dadkit.weights import load_strict, read_weights
from dadkit_timm.decoder import Decoder, widths
from dadkit_timm.pretrained import find, load

__all__ = ["EncoderError", "TimmStudent"]

STRIDE = 32
# A random head starts well above zero, in the units to which training brings a map (its mean absolute deviation is about 1).
_START = {Space.DISPARITY: 3.0, Space.DEPTH: 1.0, Space.SCALE: 1.0, Space.METRIC: 1.0}
_DETAIL = 16


class EncoderError(DadkitError):
    """timm has no such encoder, or it has no maps of several sizes."""


class TimmStudent(Student):
    """Maps of an encoder at strides 2 (or 4) to 32, fused by depthwise-separable convolutions; answers at half size.

    An encoder whose finest map has stride 4 gets two small convolutions of the image beside it, so that edges stay sharp.
    Disparity passes through softplus, which never dies; depth is the exponential of a clamped logarithm.

    Args:
        encoder: timm's name, with or without a tag.
        weights: a whole trained student: file or folder; None for random weights.
        init: ``"all"``, ``"encoder"`` or ``"none"`` of ``weights``.
        pretrained: ImageNet weights of the encoder; see :class:`dadkit_timm.options.StudentOptions` for this and the rest.

    Raises:
        EncoderError: timm does not know the encoder, or it has no maps of several sizes.
        WeightsError: weights are not found, or they are another model's.

    Source: the encoders are timm's (Wightman, PyTorch Image Models); the decoder follows the fusion of Ranftl et al., Towards
    Robust Monocular Depth Estimation (TPAMI 2022), with separable convolutions.
    """

    channels_last = True

    def __init__(
        self,
        encoder: str,
        *,
        weights: str | Path | None = None,
        init: Literal["all", "encoder", "none"] = "all",
        pretrained: bool | str | Path = False,
        decoder: Literal["fusion", "light"] = "fusion",
        channels: int = 32,
        levels: int | None = None,
        space: Literal["disparity", "scale", "depth", "metric"] = "disparity",
        canonical_focal: float | None = None,
        fov: float | None = None,
        native_size: int = 256,
    ) -> None:
        super().__init__()
        self.fov = fov
        config = timm.models.get_pretrained_cfg(encoder) if timm.is_model(encoder) else None
        if config is None:
            close = timm.list_models(f"*{encoder.split('.')[0][:12]}*")[:5]
            raise EncoderError(f"timm has no model '{encoder}'" + (f"; near it are {', '.join(close)}" if close else ""))
        name = f"{config.architecture}.{config.tag}" if config.tag else str(config.architecture)
        self.encoder, given, strides = _encoder(name, levels)
        self._taps = list(range(len(given)))
        detail = strides[0] > 2
        self.detail = _detail() if detail else None
        if detail:
            given, strides = [_DETAIL, *given], [2, *strides]
        light = decoder == "light"
        path = widths(channels // 2 if light else channels, strides)
        self.decoder = Decoder(given, path, units=1 if light else 2, hidden=max(8, path[0] // 2), start=_START[Space(space)])
        self.spec = ModelSpec(
            name=f"timm-{config.architecture}",
            space=Space(space),
            size_multiple=STRIDE,
            native=SizePolicy(native_size, mode="lower_bound", multiple=STRIDE, antialias=True),
            mean=tuple(config.mean),
            std=tuple(config.std),
            range=(0.0, None),
            canonical_focal=canonical_focal,
            features={"tokens": given[-1]},
            # Random weights are nobody's: only the licence of this code is left.
            license=(config.license or "unknown") if pretrained else "Apache-2.0" if weights is None else "unknown",
        )
        if pretrained and weights is None:
            load(self.encoder, name, find(name, config.hf_hub_id) if pretrained is True else pretrained)
        if weights is not None and init != "none":
            self._load(weights, init)

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """(B, 3, 32 h, 32 w) -> a map (B, 1, 16 h, 16 w), and the coarsest map of the encoder as the tap ``tokens``."""
        maps: list[Tensor] = self.encoder.forward_intermediates(x, indices=self._taps, intermediates_only=True)
        last = maps[-1]
        if self.detail is not None:
            maps = [self.detail(x), *maps]
        raw = self.decoder(maps)
        if self.spec.space is Space.DISPARITY:
            return F.softplus(raw), {"tokens": last}
        return depth_of(raw), {"tokens": last}

    def fuse(self) -> TimmStudent:
        """Returns a copy for deployment: the same function in eval mode, what the encoder can re-parameterise re-parameterised.

        Equal up to rounding. The copy's state dict is no longer that of this class, and it should not be trained.
        """
        fused = copy.deepcopy(self).eval().requires_grad_(False)
        fused.encoder = timm.utils.reparameterize_model(fused.encoder, inplace=True)
        return fused

    def _load(self, weights: str | Path, init: str) -> None:
        state = read_weights(weights)
        if init == "encoder":
            state = {name: tensor for name, tensor in state.items() if name.startswith("encoder.")}
        load_strict(
            self,
            state,
            source=weights,
            optional=lambda name: init == "encoder" and not name.startswith("encoder."),
            hint="It should be a trained student of the same encoder, decoder, channels and levels.",
        )
        self.head_is_trained = init == "all"


def _encoder(name: str, levels: int | None) -> tuple[nn.Module, list[int], list[int]]:
    """timm's model without what comes after the last map that is used, and channels and strides of its maps."""
    model = timm.create_model(name, pretrained=False, num_classes=0)
    info = getattr(model, "feature_info", None)
    strides = [level["reduction"] for level in info] if info else []
    if not strides or strides != sorted(set(strides)) or not hasattr(model, "prune_intermediate_layers"):
        raise EncoderError(f"{name} has no maps of several sizes; a transformer with one stride is no encoder for this decoder")
    if strides[0] not in (2, 4) or any(fine * 2 != coarse for fine, coarse in pairwise(strides)):
        raise EncoderError(f"{name} has maps of the strides {strides}; this decoder needs 2 or 4, each twice the one before")
    if levels is not None and levels > len(strides):
        raise EncoderError(f"{name} has {len(strides)} maps, at strides {strides}; levels: {levels} is more")
    levels = levels or len(strides)
    model.prune_intermediate_layers(list(range(levels)))
    return model, [level["num_chs"] for level in info][:levels], strides[:levels]


def _detail() -> nn.Module:
    """(B, 3, h, w) -> (B, 16, h/2, w/2)"""
    return nn.Sequential(
        nn.Conv2d(3, _DETAIL, 3, 2, 1, bias=False),
        nn.BatchNorm2d(_DETAIL),
        nn.ReLU(),
        nn.Conv2d(_DETAIL, _DETAIL, 3, padding=1, groups=_DETAIL, bias=False, padding_mode="replicate"),
        nn.BatchNorm2d(_DETAIL),
        nn.ReLU(),
    )
