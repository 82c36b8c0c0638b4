"""Depth Anything as a dadkit model: student as it is, teacher once dadkit freezes it.

The tensors of V1 and V2, relative and metric, are alike, so a mistake would only show in wrong numbers. Three things may tell
which a file is (:func:`stated`): the ``config.json`` of a Hugging Face folder, the names that the authors gave their files, and
what training code saves beside the tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dadkit_dinov2.keys import looks_like as looks_like_dinov2
from dadkit_dinov2.keys import to_encoder
from dadkit_dinov2.network import Encoder
from torch import Tensor, nn

from dadkit.interfaces import Export, ModelSpec, SizePolicy, Student
from dadkit.spaces import Space, depth_of
from dadkit.weights import Fit, WeightFile, WeightsError, load_family, read_config
from dadkit_dav2.head import DPTHead
from dadkit_dav2.keys import ENCODER, HEAD, LAYOUTS, encoder, hugging_face, looks_like, official, to_model
from dadkit_dav2.sizes import PATCH, SIZES, Size, Variant

__all__ = [
    "DepthAnything",
    "Stated",
    "check_stated",
    "stated",
]


_DEPTHS = {"hypersim": 20.0, "vkitti": 80.0}


@dataclass(frozen=True)
class Stated:
    """What is said about a file; None = nothing.

    Attributes:
        by: what says it, for messages.
        version: ``"v1"`` or ``"v2"``.
        metric: whether the answers are metres.
        max_depth: metres at which they end.
    """

    by: str
    version: str | None = None
    metric: bool | None = None
    max_depth: float | None = None


def stated(weights: str | Path, file: WeightFile, size: Size) -> Stated | None:
    """Returns what dadkit's own metadata say, or the ``config.json`` beside the weights, or their name; None if
    nothing does.
    """
    if str(file.card.get("component", "")).startswith("dav2/"):
        options, space = file.card.get("options", {}), file.card.get("space")
        return Stated("its own metadata", options.get("version", "v2"), space == "metric", options.get("max_depth"))
    if "d1" in (file.beside.get("previous_best") or {}):
        # The official training code, which trains metric models only.
        return Stated("the metrics in metres that its training saved beside it", metric=True)
    config = read_config(weights)
    if config is not None and config.get("model_type") == "depth_anything":
        return _by_config(config, size)
    name = re.split(r"[/\\]", str(weights))[-1]
    if match := re.fullmatch(r"depth_anything_v2_metric_(hypersim|vkitti)_vit[sbl]\.pth", name):
        return Stated(f"the name {name}", "v2", True, _DEPTHS[match[1]])
    if re.fullmatch(r"depth_anything_v2_vit[sblg]\.pth", name):
        return Stated(f"the name {name}", "v2", False)
    if re.fullmatch(r"depth_anything_vit[sbl]14\.pth", name):
        return Stated(f"the name {name}", "v1", False)
    return None


def check_stated(said: Stated | None, variant: Variant) -> None:
    """Refuse options that contradict what is said about the file.

    Args:
        said: from :func:`stated`.
        variant: what the options say.

    Raises:
        WeightsError: they contradict it; the message says what to write instead.
    """
    if said is None:
        return
    name, version, max_depth = variant.name, variant.version, variant.max_depth
    base = name.removesuffix("-metric")
    wrong = []
    if said.version not in (None, version):
        wrong.append(f"it is {said.version.upper()}: write version: {said.version}")
    if said.metric is True and max_depth is None:
        far = "that of its training" if said.max_depth is None else f"{said.max_depth:g}"
        wrong.append(f"it answers in metres: use {base}-metric with max_depth: {far}")
    if said.metric is False and max_depth is not None:
        wrong.append(f"its answers are relative, not metres: use {base}, or init: encoder to train a metric head")
    if said.metric and max_depth is not None and said.max_depth not in (None, max_depth):
        wrong.append(f"it was made with max_depth: {said.max_depth:g}, not {max_depth:g}")
    if wrong:
        raise WeightsError(f"{name}: by {said.by}, {'; '.join(wrong)}")


def _by_config(config: Mapping[str, Any], size: Size) -> Stated:
    backbone = config.get("backbone_config") or {}
    taps = backbone.get("out_indices") or [_stage(name) for name in backbone.get("out_features") or []]
    metric = config.get("depth_estimation_type", "relative") == "metric"
    return Stated("its config.json", _version(taps, size), metric, float(config["max_depth"]) if metric else None)


def _version(taps: Sequence[int], size: Size) -> str | None:
    """transformers counts the stem as 0."""
    found = tuple(tap - 1 for tap in taps)
    return next((version for version in ("v2", "v1") if found == size.tapped(version)), None)


def _stage(name: str) -> int:
    return int(name.removeprefix("stage")) if name.removeprefix("stage").isdigit() else -1


class DepthAnything(Student):
    """Depth Anything V1 or V2: relative disparity, never negative, larger = nearer; or metres, larger = farther.

    As a student it may also answer with affine depth (unbounded) or with depth up to a factor (the exponential of the head).

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
        max_depth: None: relative. A number: metres up to this.
        space: of a relative student: ``"disparity"``, ``"scale"`` or ``"depth"``.
        canonical_focal, fov: of metres for any camera; see :class:`dadkit.options.CanonicalOptions`.

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
        space: Literal["disparity", "scale", "depth"] = "disparity",
        canonical_focal: float | None = None,
        fov: float | None = None,
    ) -> None:
        super().__init__()
        self.fov = fov
        self.variant = Variant(size, version, pos_embed, max_depth, space)
        architecture = self.variant.architecture
        self.spec = ModelSpec(
            name=f"depth-anything-{version}-{size}" + ("" if max_depth is None else "-metric"),
            space=Space(space) if max_depth is None else Space.METRIC,
            size_multiple=PATCH,
            native=SizePolicy(native_size or architecture.native, "lower_bound", PATCH, "bicubic"),
            range=(None, None) if space == "depth" else (0.0, None if canonical_focal else max_depth),
            canonical_focal=canonical_focal,
            features={"tokens": architecture.width},
            # V2's infer_image upsamples with aligned corners, V1's without.
            align_corners=version == "v2",
            # Random weights are nobody's: only the licence of this code is left. DINOv2's own weights have the same.
            license=architecture.license if weights is not None and init in ("all", "encoder") else "Apache-2.0",
        )
        if space != "disparity" or canonical_focal is not None:  # no other code applies these
            self.layouts = {"encoder": LAYOUTS["encoder"]}
        self.pretrained = Encoder(architecture.encoder, taps=architecture.tapped(version), pos_embed=pos_embed)
        official = {"last": nn.Identity, "start": 1.0 if space == "scale" else 3.0} if space != "disparity" else {}
        self.depth_head = DPTHead(architecture, max_depth, **official)
        if weights is not None and init == "dinov2":
            self._load_dinov2(weights)
        elif weights is not None and init != "none":
            self._load(weights, init)

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """(B, 3, 14 h, 14 w) -> map (B, 1, 14 h, 14 w); ``tokens`` (B, h w, C) of the last tapped block, normalised."""
        tokens = self.pretrained(x)
        depth = self.depth_head(tokens, x.shape[-2] // PATCH, x.shape[-1] // PATCH)
        return depth_of(depth) if self.spec.space is Space.SCALE else depth, {"tokens": tokens[-1]}

    def export(self, layout: str) -> Export:
        """Returns the model in the official layout (``dav2``) or in transformers' (``hf``), or its ``encoder`` for timm."""
        write = {"dav2": official, "hf": hugging_face, "encoder": encoder}[layout]
        return write(self.variant, self.spec, self.state_dict())

    def _load(self, weights: str | Path, init: str) -> None:
        variant = self.variant
        fit = load_family(
            self,
            weights,
            component=variant.name,
            to_model=to_model,
            looks_like=lambda _, state: looks_like(state),
            hint=lambda fit: _hint(fit, variant),
            unlike="It does not look like Depth Anything.",
            check=lambda file: check_stated(stated(weights, file, variant.architecture), variant),
            init=init,
            head=(HEAD,),
        )
        self.head_is_trained = fit.has(HEAD)

    def _load_dinov2(self, weights: str | Path) -> None:
        def hint(fit: Fit) -> str:
            if looks_like(to_model(fit.file.tensors)) is not None:
                return "It looks like Depth Anything, not DINOv2: say init: encoder."
            return f"It looks like DINOv2 {fit.size}." if fit.size not in (None, self.variant.size) else ""

        encoders = {name: size.encoder for name, size in SIZES.items()}
        load_family(
            self.pretrained,
            weights,
            component=self.variant.name,
            to_model=to_encoder,
            looks_like=lambda _, state: looks_like_dinov2(state, encoders),
            hint=hint,
        )


def _hint(fit: Fit, variant: Variant) -> str:
    if fit.size is None:
        return ""
    if fit.size != variant.size:
        return f"It looks like Depth Anything {fit.size}: use {variant.name.replace(variant.size, fit.size)}."
    return f"It has the encoder of Depth Anything {variant.size}, but another head."
