"""Depth Anything as a dadkit model: student as it is, teacher once dadkit freezes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from dadkit_dinov2.keys import looks_like as looks_like_dinov2
from dadkit_dinov2.keys import to_encoder
from dadkit_dinov2.network import Encoder
from torch import Tensor

from dadkit.interfaces import Export, ModelSpec, SizePolicy, Student
from dadkit.spaces import Space
from dadkit.weights import WeightsError, load_strict, read_weights
from dadkit_dav2.export import LAYOUTS, encoder, hugging_face, official
from dadkit_dav2.head import DPTHead
from dadkit_dav2.keys import ENCODER, HEAD, looks_like, to_model
from dadkit_dav2.sizes import PATCH, SIZES
from dadkit_dav2.stated import check_stated, stated

__all__ = ["DepthAnything"]


class DepthAnything(Student):
    """Depth Anything V1 or V2: relative disparity, never negative, larger = nearer; or metres, larger = farther.

    Modules and parameters bear the official names, so that a trained student's state dict is an official one but for DINOv2's
    unused mask token (and giant's MLP, where the names are timm's).
    ``refinenet4.resConfUnit1`` is in every released file but takes no part in the function; it is kept, and not trained.

    Args:
        size: a key of :data:`dadkit_dav2.sizes.SIZES`.
        weights: file, folder or ``hf://ORG/NAME``, None for random weights; see :class:`dadkit_dav2.options.Options` for this
            and the rest.
        init: ``"all"``, ``"encoder"``, ``"dinov2"`` or ``"none"``: what is taken from the weights.
        version: ``"v1"`` or ``"v2"``.
        pos_embed: ``"official"`` or ``"hf"``.
        native_size: shorter side at which ``predict`` runs; None = the size's own.
        max_depth: None: relative disparity. A number: metres up to this.

    Raises:
        WeightsError: the file cannot be read, or is not this model's; the message says which model it looks like.

    Source: Yang et al., Depth Anything (CVPR 2024) and Depth Anything V2 (NeurIPS 2024).
    """

    encoder_prefixes = (ENCODER,)
    layouts = LAYOUTS

    def __init__(
        self,
        size: str,
        *,
        weights: str | Path | None = None,
        init: Literal["all", "encoder", "dinov2", "none"] = "all",
        version: Literal["v1", "v2"] = "v2",
        pos_embed: Literal["official", "hf"] = "official",
        native_size: int | None = None,
        max_depth: float | None = None,
    ) -> None:
        super().__init__()
        self.architecture = architecture = SIZES[size]
        self.size, self.version, self.pos_embed, self.max_depth = size, version, pos_embed, max_depth
        self.name = f"dav2/{size}" if max_depth is None else f"dav2/{size}-metric"
        self.spec = ModelSpec(
            name=f"depth-anything-{version}-{size}" + ("" if max_depth is None else "-metric"),
            space=Space.DISPARITY if max_depth is None else Space.METRIC,
            size_multiple=PATCH,
            native=SizePolicy(native_size or architecture.native, "lower_bound", PATCH, "bicubic"),
            range=(0.0, max_depth),
            features={"tokens": architecture.width},
            # V2's infer_image upsamples with aligned corners, V1's without.
            align_corners=version == "v2",
            # Random weights are nobody's: only the licence of this code is left. DINOv2's own weights have the same.
            license=architecture.license if weights is not None and init in ("all", "encoder") else "Apache-2.0",
        )
        self.pretrained = Encoder(architecture.encoder, taps=architecture.tapped(version), pos_embed=pos_embed)
        self.depth_head = DPTHead(architecture, max_depth)
        if weights is not None and init == "dinov2":
            self._load_dinov2(weights)
        elif weights is not None and init != "none":
            self._load(weights, init)

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """(B, 3, 14 h, 14 w) -> map (B, 1, 14 h, 14 w); ``tokens`` (B, h w, C) of the last tapped block, normalised."""
        tokens = self.pretrained(x)
        depth = self.depth_head(tokens, x.shape[-2] // PATCH, x.shape[-1] // PATCH)
        return depth, {"tokens": tokens[-1]}

    def export(self, layout: str) -> Export:
        """The model in the official layout (``dav2``) or in transformers' (``hf``), or its ``encoder`` for timm."""
        return {"dav2": official, "hf": hugging_face, "encoder": encoder}[layout](self)

    def _load(self, weights: str | Path, init: str) -> None:
        with_head = init == "all"
        try:
            state = to_model(read_weights(weights))
        except WeightsError as error:
            raise WeightsError(f"{self.name}: {error}") from error
        if with_head:
            said = stated(weights, self.architecture)
            check_stated(said, name=self.name, version=self.version, max_depth=self.max_depth)
        found = looks_like(state)
        if found is None:
            hint = "It does not look like Depth Anything."
        elif found != self.size:
            hint = f"It looks like Depth Anything {found}: use {self.name.replace(self.size, found)}."
        else:
            hint = f"It has the encoder of Depth Anything {self.size}, but another head."
        if not with_head:
            state = {name: tensor for name, tensor in state.items() if not name.startswith(HEAD)}
        load_strict(self, state, source=weights, optional=lambda name: not with_head and name.startswith(HEAD), hint=hint)
        self.head_is_trained = with_head

    def _load_dinov2(self, weights: str | Path) -> None:
        try:
            state = to_encoder(read_weights(weights))
        except WeightsError as error:
            raise WeightsError(f"{self.name}: {error}") from error
        found = looks_like_dinov2(state, {name: size.encoder for name, size in SIZES.items()})
        if looks_like(to_model(state)) is not None:
            hint = "It looks like Depth Anything, not DINOv2: say init: encoder."
        else:
            hint = f"It looks like DINOv2 {found}." if found not in (None, self.size) else ""
        load_strict(self.pretrained, state, source=weights, hint=hint)
