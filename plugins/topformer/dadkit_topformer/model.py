"""TopFormer encoder and feature-fusion decoder as a dadkit student."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from dadkit.interfaces import Deployable, ModelSpec, SizePolicy, Student
from dadkit.spaces import Space, depth_of
from dadkit.weights import Fit, load_family
from dadkit_topformer.keys import CONTAINERS, DECODER, ENCODER, INJECTION, looks_like, to_model
from dadkit_topformer.network import Decoder, TopFormer, fold_batch_norms
from dadkit_topformer.sizes import SIZES

__all__ = ["TopFormerDepth"]

_STRIDE = 32
_LEVELS = ("stride4", "stride8", "stride16", "stride32")


class TopFormerDepth(Student):
    """A small student: TopFormer's encoder, LeReS-like decoder, one map at half resolution, upsampled to the input's size.

    ``predict`` keeps the aspect ratio with a shorter side of ``native_size`` (lower bound): students are trained on undistorted
    views, so a square of another aspect ratio would be a new distribution. 448 is the lightweight paper's size.

    Args:
        size: a key of :data:`dadkit_topformer.sizes.SIZES`.
        weights: file, None for random weights; see :class:`dadkit_topformer.options.Options` for this and the rest.
        init: ``"all"``, ``"encoder"`` (all but the decoder) or ``"none"`` of the weights.
        space: ``"disparity"`` (non-negative by a softplus, which unlike ReLU never loses its gradient), ``"depth"``
            (unbounded), ``"scale"`` or ``"metric"`` (exponential).
        canonical_focal, fov: of metres for any camera; see :class:`dadkit.options.SpaceOptions`.
        injection: ``"all"``, ``"official"`` or ``"none"``.
        widths: channels of the decoder at strides 4, 8, 16, 32; None = the size's own.
        drop_path: probability of skipping the last transformer block in training.
        native_size: shorter side at which ``predict`` runs.

    Raises:
        WeightsError: the file cannot be read, or is not this model's; the message says which size it looks like.
    """

    # The injection modules train with the decoder: ImageNet files lack them, so they usually start from random weights.
    encoder_prefixes = (f"{ENCODER}tpm.", f"{ENCODER}trans.")
    channels_last = True

    def __init__(
        self,
        size: str,
        *,
        weights: str | Path | None = None,
        init: Literal["all", "encoder", "none"] = "all",
        space: Literal["disparity", "scale", "depth", "metric"] = "disparity",
        canonical_focal: float | None = None,
        fov: float | None = None,
        injection: Literal["all", "official", "none"] = "all",
        widths: tuple[int, int, int, int] | None = None,
        drop_path: float = 0.0,
        native_size: int = 448,
    ) -> None:
        super().__init__()
        architecture = SIZES[size]
        self.fov = fov
        self.backbone = TopFormer(architecture, injection=injection, drop_path=drop_path)
        self.spec = ModelSpec(
            name=f"topformer-{size}",
            space=Space(space),
            size_multiple=_STRIDE,
            native=SizePolicy(native_size, "lower_bound", _STRIDE, "bicubic"),
            range=(None, None) if space == "depth" else (0.0, None),
            canonical_focal=canonical_focal,
            features=dict(zip(_LEVELS, self.backbone.outputs, strict=True)) | {"tokens": architecture.width},
            license="Apache-2.0",
        )
        start = 1.0 if space in ("scale", "metric") else 3.0
        self.decoder = Decoder(self.backbone.outputs, widths or architecture.widths, start)
        if weights is not None and init != "none":
            self._load(size, weights, init, injection)

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """(B, 3, 32 h, 32 w) -> map (B, 1, 16 h, 16 w), and the taps.

        ``tokens`` (B, ceil(h/2) ceil(w/2), C) is the transformer's answer at stride 64; ``stride4`` to ``stride32`` are what
        the decoder is given, maps (B, C, 32 h / stride, 32 w / stride).
        """
        levels, overall = self.backbone(x)
        depth = self.decoder(levels)
        match self.spec.space:
            case Space.DISPARITY:
                depth = F.softplus(depth)
            case Space.SCALE | Space.METRIC:
                depth = depth_of(depth)
        return depth, dict(zip(_LEVELS, levels, strict=True)) | {"tokens": overall.flatten(2).transpose(1, 2)}

    def fuse(self) -> TopFormerDepth:
        """Returns a copy for deployment: the same function in eval mode, with all batch norms folded into the convolutions.

        Exact up to rounding. The copy has fewer and larger steps, so it runs faster and exports to smaller graphs, but its
        state dict is no longer that of this class and it should not be trained.
        """
        fused = copy.deepcopy(self).eval().requires_grad_(False)
        fold_batch_norms(fused)
        return fused

    def deployable(self, size: tuple[int, int] | None = None) -> Deployable:
        """As in the base class, with the batch norms folded."""
        deployable = super().deployable(size)
        fold_batch_norms(deployable.model)
        return deployable

    def _load(self, size: str, weights: str | Path, init: str, injection: str) -> None:
        fit = load_family(
            self,
            weights,
            component=f"topformer/{size}",
            to_model=lambda file: to_model(file, injection=injection),
            looks_like=lambda _, state: looks_like(state),
            hint=lambda fit: _hint(fit, size),
            unlike="It does not look like a TopFormer: it has no transformer blocks of a known width.",
            init=init,
            head=(DECODER,),
            may_lack=(INJECTION, DECODER),
            containers=CONTAINERS,
        )
        self.head_is_trained = fit.has(DECODER)


def _hint(fit: Fit, size: str) -> str:
    if fit.size is None:
        return ""
    if fit.size != size:
        return f"It looks like TopFormer {fit.size}: use topformer/{fit.size}."
    return f"It has the transformer of TopFormer {size}; a trained student needs the options that it was trained with."
