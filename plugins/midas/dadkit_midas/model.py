"""MiDaS as a dadkit model: student as it is, teacher once dadkit freezes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from dadkit.interfaces import ModelSpec, Student
from dadkit.spaces import Space
from dadkit.weights import Fit, load_family
from dadkit_midas.beit import Beit
from dadkit_midas.decoder import Decoder, Reassemble
from dadkit_midas.hierarchical import LeViT, Lite, Next, ResNeXt
from dadkit_midas.keys import BACKBONE, layout, looks_like, to_model
from dadkit_midas.sizes import SIZES, STRIDE
from dadkit_midas.swin import Swin, Swin2
from dadkit_midas.vit import PATCH, Hybrid, ViT

__all__ = ["Midas"]

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_BACKBONES: Mapping[str, type[nn.Module]] = {
    "vit": ViT,
    "hybrid": Hybrid,
    "beit": Beit,
    "swin": Swin,
    "swin2": Swin2,
    "next-vit": Next,
    "levit": LeViT,
    "resnext": ResNeXt,
    "lite": Lite,
}
_STATISTICS = {"imagenet": _IMAGENET, "halves": _HALVES}
_MADE_FOR_A_SIZE = ("swin", "swin2", "levit")
_HEAD = ("reassemble.", "decoder.")


class Midas(Student):
    """MiDaS v2.1, v3.0 or v3.1: relative disparity, never negative, larger = nearer.

    What official files hold without using it is neither kept nor trained: classifiers, final norms, the coarsest fusion block's
    first unit, LeViT's last blocks.

    Args:
        size: a key of :data:`dadkit_midas.sizes.SIZES`.
        weights: file or folder, None for random weights; see :mod:`dadkit_midas.options` for this and the rest.
        init: ``"all"``, ``"encoder"`` or ``"none"`` of the weights.
        native_size: side that ``predict`` aims at; None = the model's own.
        statistics: mean and standard deviation of the input, ``"imagenet"`` or ``"halves"``; None = the official model's.

    Raises:
        WeightsError: the file cannot be read, or is not this model's; the message says which model it looks like.

    Source: Ranftl et al., Towards Robust Monocular Depth Estimation (TPAMI 2022) and Vision Transformers for Dense Prediction
    (ICCV 2021); Birkl et al., MiDaS v3.1 (arXiv 2307.14460).
    """

    encoder_prefixes = (BACKBONE,)

    def __init__(
        self,
        size: str,
        *,
        weights: str | Path | None = None,
        init: Literal["all", "encoder", "none"] = "all",
        native_size: int | None = None,
        statistics: Literal["imagenet", "halves"] | None = None,
    ) -> None:
        super().__init__()
        architecture = SIZES[size]
        self.channels_last = architecture.family == "lite"
        mean, std = _STATISTICS[statistics or ("imagenet" if architecture.generation_one else "halves")]
        self.spec = ModelSpec(
            name=f"midas-{size}",
            space=Space.DISPARITY,
            size_multiple=STRIDE,
            native=architecture.policy(native_size),
            mean=mean,
            std=std,
            range=(0.0, None),
            features={"tokens": architecture.backbone["width"] if architecture.reassembled else architecture.channels[-1]},
            upsampling="bicubic",
            exportable="one size" if architecture.family in _MADE_FOR_A_SIZE else "any size",
            # Random weights are nobody's: only the licence of this code is left.
            license="MIT" if weights is not None else "Apache-2.0",
        )
        made_for = {"native": architecture.native} if architecture.family in _MADE_FOR_A_SIZE else {}
        self.backbone = _BACKBONES[architecture.family](**architecture.backbone, **made_for)
        self.reassemble = nn.ModuleDict(
            {
                str(level): Reassemble(architecture.backbone["width"], architecture.channels[level], level)
                for level in architecture.reassembled
            }
        )
        self.decoder = Decoder(
            architecture.channels,
            architecture.widths,
            architecture.hidden,
            rectified=architecture.family == "resnext",
            project=architecture.family != "resnext",
            align_corners=not architecture.generation_one,
            transposed=architecture.family == "levit",
        )
        if weights is not None and init != "none":
            self._load(size, weights, init)

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """(B, 3, 32 h, 32 w) -> disparity (B, 1, 32 h, 32 w) (LeViT: of its one size), and the tap of the last stage.

        The tap ``tokens`` is (B, 4 h w, C) of plain transformers and the hybrid, each token brought to mean 0 and variance 1
        since raw ones have a few huge channels; of the others it is a map (B, C, h, w).
        """
        rows, columns = x.shape[-2] // PATCH, x.shape[-1] // PATCH
        taps: list[Tensor] = self.backbone(x)
        maps = [
            self.reassemble[str(level)](tap, rows, columns) if str(level) in self.reassemble else tap
            for level, tap in enumerate(taps)
        ]
        last = taps[-1]
        tokens = last if last.ndim == 4 else F.layer_norm(last[:, 1:], last.shape[-1:])
        return self.decoder(maps), {"tokens": tokens}

    def _load(self, size: str, weights: str | Path, init: str) -> None:
        fit = load_family(
            self,
            weights,
            component=f"midas/{size}",
            to_model=lambda file: to_model(file, SIZES[size]),
            looks_like=lambda file, _: looks_like(file),
            hint=lambda fit: _hint(fit, size, init),
            unlike="It does not look like a MiDaS model.",
            init=init,
            head=_HEAD,
        )
        self.head_is_trained = init == "all"
        if layout(fit.file.tensors) == "backbone":  # not MiDaS' own, and the file does not say whose
            self.spec = replace(self.spec, license="unknown")


def _hint(fit: Fit, size: str, init: str) -> str:
    if fit.size is None:
        return ""
    if fit.size != size:
        return f"It looks like {SIZES[fit.size].official or f'MiDaS {fit.size}'}: use midas/{fit.size}."
    if init == "all" and layout(fit.file.tensors) == "backbone":
        return "It holds the backbone alone: a student takes it with init: encoder."
    return f"It has the backbone of midas/{size}, but something else differs."
