"""ZipDepth as a dadkit model: student as it is, teacher once dadkit freezes it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from dadkit.interfaces import ModelSpec, SizePolicy, Student
from dadkit.spaces import Space, depth_of
from dadkit.weights import Fit, load_family
from dadkit_zipdepth.keys import DECODER, looks_like, to_model
from dadkit_zipdepth.network import SIZES, Decoder, Encoder, fuse

__all__ = ["ZipDepth"]

_STRIDE = 32
_LEVELS = ("stride2", "stride4", "stride8", "stride16", "stride32")


class ZipDepth(Student):
    """ZipDepth: relative disparity, never negative, larger = nearer.

    As a student it may also answer with affine depth (unbounded, larger = farther), with depth up to a factor or with metres
    (the exponential of what the network answers, between 7 mm and 400 m).

    Args:
        size: a key of :data:`dadkit_zipdepth.network.SIZES`.
        weights: file, None for random weights; see :class:`dadkit_zipdepth.options.Options` for this and the rest.
        init: ``"all"``, ``"encoder"`` or ``"none"`` of the weights.
        upsampling: ``"convex"`` or ``"blend"``.
        space: ``"disparity"``, ``"depth"``, ``"scale"`` or ``"metric"``.
        canonical_focal, fov: of metres for any camera; see :class:`dadkit.options.SpaceOptions`.
        native_size: shorter side at which ``predict`` runs.

    Raises:
        WeightsError: the file cannot be read, or is not this model's; the message says what it looks like.

    Source: Tosi et al., ZipDepth: Bringing Lightweight Zero-Shot Monocular Depth Anywhere, on Any Device (ECCV 2026).
    """

    channels_last = True

    def __init__(
        self,
        size: str,
        *,
        weights: str | Path | None = None,
        init: Literal["all", "encoder", "none"] = "all",
        upsampling: Literal["convex", "blend"] = "convex",
        space: Literal["disparity", "scale", "depth", "metric"] = "disparity",
        canonical_focal: float | None = None,
        fov: float | None = None,
        native_size: int = 384,
    ) -> None:
        super().__init__()
        architecture = SIZES[size]
        self.fov = fov
        self.spec = ModelSpec(
            name=f"zipdepth-{size}",
            space=Space(space),
            size_multiple=_STRIDE,
            native=SizePolicy(native_size, "lower_bound", _STRIDE, "bilinear"),
            range=(None, None) if space == "depth" else (0.0, None),
            canonical_focal=canonical_focal,
            features=dict(zip(_LEVELS, (architecture.widths[0] // 2, *architecture.widths), strict=True)),
            align_corners=True,
            # Random weights are nobody's: only the licence of this code is left.
            license="MIT" if weights is not None and init != "none" else "Apache-2.0",
        )
        self.encoder = Encoder(architecture)
        self.decoder = Decoder(architecture, upsampling)
        self._start()
        if weights is not None and init != "none":
            self._load(size, weights, init, upsampling)

    def _start(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # Above zero, so that the last ReLU of a random head passes a gradient.
        assert self.decoder.head.bias is not None
        nn.init.constant_(self.decoder.head.bias, 0.5)

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """(B, 3, 32 h, 32 w) -> map (B, 1, 32 h, 32 w); ``stride2`` to ``stride32``, what the decoder is given."""
        maps = self.encoder(x)
        depth = self.decoder(maps)
        match self.spec.space:
            case Space.DISPARITY:
                depth = F.relu(depth)
            case Space.SCALE | Space.METRIC:
                depth = depth_of(depth)
        return depth, dict(zip(_LEVELS, maps, strict=True))

    def fuse(self) -> ZipDepth:
        """Returns a copy for deployment: the same function in eval mode, its blocks re-parameterised to one convolution each.

        Exact up to rounding. The copy's state dict is no longer that of this class, and it should not be trained.
        """
        fused = copy.deepcopy(self).eval().requires_grad_(False)
        fuse(fused)
        return fused

    def _load(self, size: str, weights: str | Path, init: str, upsampling: str) -> None:
        def hint(fit: Fit) -> str:
            if fit.size is None:
                return ""
            if fit.size != size:
                return f"It looks like ZipDepth {fit.size}: use zipdepth/{fit.size}."
            other = "blend" if "decoder.up.weigh.6.weight" in fit.state else "convex"
            return (
                f"It was made with upsampling: {other}." if other != upsampling else f"It has the encoder of zipdepth/{size}."
            )

        fit = load_family(
            self,
            weights,
            component=f"zipdepth/{size}",
            to_model=to_model,
            looks_like=lambda _, state: looks_like(state),
            hint=hint,
            unlike="It does not look like ZipDepth.",
            init=init,
            head=(DECODER,),
            containers=("model_state_dict", "state_dict", "model"),
        )
        self.head_is_trained = fit.has(DECODER)
