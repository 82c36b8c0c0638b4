"""LeReS as a dadkit model: student as it is, teacher once dadkit freezes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from dadkit.interfaces import ModelSpec, SizePolicy, Student
from dadkit.spaces import Space
from dadkit.weights import Fit, load_family
from dadkit_leres import LICENSE
from dadkit_leres.keys import CONTAINERS, DECODER, is_official, looks_like, to_model
from dadkit_leres.network import ENCODERS, Decoder, Encoder

__all__ = ["LeReS"]

_MULTIPLE = 32
# Random weights are nobody's: only the licence of this code is left. A file that is not LeReS's own does not say its licence.
_OWN, _UNKNOWN = "Apache-2.0", "unknown (not an official LeReS file)"


class LeReS(Student):
    """LeReS: affine-invariant depth, larger = farther, of unknown scale and shift, so it may be negative.

    The official ``inference`` subtracts the smallest value and adds 0.01. That is within the unknown shift, and would make an
    image's answer depend on its farthest corner, so it is left out. The shift and focal-length networks of the paper (sparse
    point-voxel convolutions) are not part of this model.

    Args:
        encoder: ``"resnet50"`` or ``"resnext101"``.
        weights: file, None for random weights; see :class:`dadkit_leres.options.Options` for this and the rest.
        init: ``"all"``, ``"encoder"`` or ``"none"`` of the weights.
        native_size: side of the square at which ``predict`` runs.

    Raises:
        WeightsError: the file cannot be read, or is not this model's; the message says which encoder it has.

    Source: Yin et al., Learning to Recover 3D Scene Shape from a Single Image (CVPR 2021).
    """

    def __init__(
        self,
        encoder: str,
        *,
        weights: str | Path | None = None,
        init: Literal["all", "encoder", "none"] = "all",
        native_size: int = 448,
    ) -> None:
        super().__init__()
        net = ENCODERS[encoder]
        self.spec = ModelSpec(
            name=f"leres-{encoder}",
            space=Space.DEPTH,
            size_multiple=_MULTIPLE,
            native=SizePolicy(native_size, "exact", _MULTIPLE, "bilinear"),
            features={f"layer{index}": channels for index, channels in enumerate(net.levels, start=1)},
            license=_OWN,
        )
        self.encoder = Encoder(net)
        self.decoder = Decoder(net)
        if weights is not None and init != "none":
            self._load(encoder, weights, init)

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """(B, 3, 32 h, 32 w) -> depth (B, 1, 32 h, 32 w); ``layer1`` to ``layer4``, the encoder's maps at strides 4 to 32."""
        levels = self.encoder(x)
        depth = self.decoder(levels, (x.shape[-2], x.shape[-1]))
        return depth, {f"layer{index}": level for index, level in enumerate(levels, start=1)}

    def _load(self, encoder: str, weights: str | Path, init: str) -> None:
        fit = load_family(
            self,
            weights,
            component=f"leres/{encoder}",
            to_model=to_model,
            looks_like=lambda _, state: looks_like(state),
            hint=lambda fit: _hint(fit, encoder, init),
            unlike="It does not look like LeReS: there is no residual network of a known size in it.",
            init=init,
            head=(DECODER,),
            containers=CONTAINERS,
        )
        self.head_is_trained = fit.has(DECODER)
        self.spec = replace(self.spec, license=LICENSE if is_official(fit.file.tensors) else _UNKNOWN)


def _hint(fit: Fit, encoder: str, init: str) -> str:
    if fit.size is None:
        return ""
    if fit.size != encoder:
        return f"It has the encoder of leres/{fit.size}: use that."
    if init == "all" and not fit.has(DECODER):
        return f"It holds a {fit.size} alone, no depth decoder: take it with init: encoder."
    return f"It has the encoder {fit.size}, but another decoder."
