"""Depth Anything as a dadkit model: student as it is, teacher once dadkit freezes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor

from dadkit.interfaces import ModelSpec, SizePolicy, Student
from dadkit.spaces import Space
from dadkit.weights import WeightsError, load_strict, read_weights
from dadkit_dav2.encoder import Encoder
from dadkit_dav2.head import DPTHead
from dadkit_dav2.keys import ENCODER, HEAD, looks_like, to_model
from dadkit_dav2.sizes import PATCH, SIZES

__all__ = ["DepthAnything"]


class DepthAnything(Student):
    """Depth Anything V1 or V2: relative disparity, never negative, larger = nearer.

    Modules and parameters bear the official names, so that a trained student's state dict is an official one but for DINOv2's
    unused mask token (and giant's MLP, where the names are timm's).
    ``refinenet4.resConfUnit1`` is in every released file but takes no part in the function; it is kept, and not trained.

    Args:
        size: a key of :data:`dadkit_dav2.sizes.SIZES`.
        weights: file or folder, None for random weights; see :class:`dadkit_dav2.options.Options` for this and the rest.
        init: ``"all"``, ``"encoder"`` or ``"none"`` of the weights.
        version: ``"v1"`` or ``"v2"``.
        pos_embed: ``"official"`` or ``"hf"``.
        native_size: shorter side at which ``predict`` runs; None = the size's own.

    Raises:
        WeightsError: the file cannot be read, or is not this model's; the message says which size it looks like.

    Source: Yang et al., Depth Anything (CVPR 2024) and Depth Anything V2 (NeurIPS 2024).
    """

    encoder_prefixes = (ENCODER,)

    def __init__(
        self,
        size: str,
        *,
        weights: str | Path | None = None,
        init: Literal["all", "encoder", "none"] = "all",
        version: Literal["v1", "v2"] = "v2",
        pos_embed: Literal["official", "hf"] = "official",
        native_size: int | None = None,
    ) -> None:
        super().__init__()
        architecture = SIZES[size]
        self.spec = ModelSpec(
            name=f"depth-anything-{version}-{size}",
            space=Space.DISPARITY,
            size_multiple=PATCH,
            native=SizePolicy(native_size or architecture.native, "lower_bound", PATCH, "bicubic"),
            range=(0.0, None),
            features={"tokens": architecture.width},
            # V2's infer_image upsamples with aligned corners, V1's without.
            align_corners=version == "v2",
            # Random weights are nobody's: only the licence of this code is left.
            license=architecture.license if weights is not None else "Apache-2.0",
        )
        self.pretrained = Encoder(architecture, version=version, pos_embed=pos_embed)
        self.depth_head = DPTHead(architecture)
        if weights is not None and init != "none":
            self._load(size, weights, init)

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """(B, 3, 14 h, 14 w) -> disparity (B, 1, 14 h, 14 w); ``tokens`` (B, h w, C) of the last tapped block, normalised."""
        tokens = self.pretrained(x)
        depth = self.depth_head(tokens, x.shape[-2] // PATCH, x.shape[-1] // PATCH)
        return depth, {"tokens": tokens[-1]}

    def _load(self, size: str, weights: str | Path, init: str) -> None:
        try:
            state = to_model(read_weights(weights))
        except WeightsError as error:
            raise WeightsError(f"dav2/{size}: {error}") from error
        found = looks_like(state)
        if found is None:
            hint = "It does not look like Depth Anything: there is no DINOv2 encoder of a known size in it."
        elif found != size:
            hint = f"It looks like Depth Anything {found}: use dav2/{found}."
        else:
            hint = f"It has the encoder of Depth Anything {size}, but another head."
        if init == "encoder":
            state = {name: tensor for name, tensor in state.items() if not name.startswith(HEAD)}
        load_strict(self, state, source=weights, optional=lambda name: init == "encoder" and name.startswith(HEAD), hint=hint)
        self.head_is_trained = init == "all"
