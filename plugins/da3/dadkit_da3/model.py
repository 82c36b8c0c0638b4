"""Depth Anything 3 as a dadkit model: student as it is, teacher once dadkit freezes it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from dadkit.interfaces import (
    Estimate,
    ModelSpec,
    Prediction,
    SizePolicy,
    Student,
    nearest_multiple,
    resize,
)
from dadkit.spaces import Space
from dadkit.weights import Fit, WeightsError, load_family, read_config
from dadkit_da3.keys import ENCODER, HEADS, looks_like, to_model
from dadkit_da3.network import AnyViewEncoder, CameraHead, DPTHead, PlainEncoder
from dadkit_da3.sizes import CANONICAL_FOCAL, MODELS, PATCH

__all__ = ["DepthAnything3"]

# Above this score a pixel is sky: the official threshold of what counts as scenery.
_SKY = 0.3
_OFFICIAL = {name: f"da3{name}" if name.endswith("-large") else f"da3-{name}" for name in MODELS}
_WORDS = "It is no file of Depth Anything 3."


class DepthAnything3(Student):
    """Depth Anything 3 on one picture: depth, larger = farther, always positive.

    * ``mono-large`` (and ``tiny``): affine depth and sky. Its reciprocal is no disparity, since its shift is unknown.
    * ``metric-large``: sky, and metres by ``f / 300``, f being the focal length in pixels of the network's input; without a
      camera depth up to one factor.
    * ``small`` to ``giant``: the any-view models. Depth up to one factor, and the picture's camera in ``intrinsics``.

    The official code fills the sky with a quantile of the batch's depths, from a random sample; here ``Prediction.sky`` says
    where the sky is. Rays, poses and Gaussians are not part of this model.

    Args:
        name: a key of :data:`dadkit_da3.sizes.MODELS`.
        weights: file, folder or ``hf://ORG/NAME``, None for random weights; see :class:`dadkit_da3.options.Options`.
        init: ``"all"``, ``"encoder"`` or ``"none"`` of the weights.
        native_size: longer side at which ``predict`` runs; None = 504, and 126 for tiny.
        space: of metric-large: ``"metric"`` or ``"scale"``.
        fov: of metric-large: horizontal field of view in degrees to assume where the camera is unknown.

    Raises:
        WeightsError: the file cannot be read, or is not this model's; the message says which model it looks like.

    Source: Lin et al., Depth Anything 3: Recovering the Visual Space from Any Views (2025).
    """

    encoder_prefixes = (ENCODER,)

    def __init__(
        self,
        name: str,
        *,
        weights: str | Path | None = None,
        init: Literal["all", "encoder", "none"] = "all",
        native_size: int | None = None,
        space: Literal["metric", "scale"] = "metric",
        fov: float | None = None,
    ) -> None:
        super().__init__()
        architecture = MODELS[name]
        any_view, metric = architecture.rotary_from is not None, name == "metric-large"
        self.fov = fov
        self.spec = ModelSpec(
            name=f"depth-anything-3-{name}",
            space=Space(space) if metric else Space.SCALE if any_view else Space.DEPTH,
            size_multiple=PATCH,
            native=SizePolicy(native_size or min(504, architecture.encoder.native), "upper_bound", PATCH, "area"),
            range=(0.0, None),
            features={"tokens": architecture.tapped_width},
            # The head itself ends with aligned corners; official answers stay at the network's size.
            align_corners=True,
            canonical_focal=CANONICAL_FOCAL if metric else None,
            # Random weights are nobody's: only the licence of this code is left.
            license=architecture.license if weights is not None and init != "none" else "Apache-2.0",
        )
        self.encoder: nn.Module = AnyViewEncoder(architecture) if any_view else PlainEncoder(architecture)
        self.head = DPTHead(architecture)
        self.camera = CameraHead(architecture.tapped_width) if any_view else None
        if weights is not None and init != "none":
            self._load(name, weights, init)

    def estimate(self, x: Tensor) -> Estimate:
        """(B, 3, 14 h, 14 w) -> depth (B, 1, 14 h, 14 w), sky or cameras; ``tokens`` (B, h w, C) of the last tapped block."""
        rows, columns = x.shape[-2] // PATCH, x.shape[-1] // PATCH
        if self.camera is None:
            tokens = self.encoder(x)
            depth, score = self.head(tokens, rows, columns)
            return Estimate(depth, {"tokens": tokens[-1]}, sky=score >= _SKY)
        tokens, camera = self.encoder(x)
        depth, _ = self.head(tokens, rows, columns)
        return Estimate(depth, {"tokens": tokens[-1]}, intrinsics=self.camera(camera, *x.shape[-2:]))

    def predict_batch(self, images: Tensor, cameras: Tensor | None = None) -> Prediction:
        """Predicts after the official preprocessing: longer side to its size, both sides to multiples of 14, 8 bits between."""
        height, width = images.shape[-2:]
        scale = (self.spec.native.size or max(height, width)) / max(height, width)
        first = (max(1, round(height * scale)), max(1, round(width * scale)))
        for size in (first, tuple(nearest_multiple(side, PATCH) for side in first)):
            images = (resize(images, size, self.spec.native).clamp(0, 1) * 255).round() / 255
        return self._run(images, (height, width), cameras)

    def _load(self, name: str, weights: str | Path, init: str) -> None:
        def hint(fit: Fit) -> str:
            if fit.size is None:
                return ""
            if fit.size != name and not (fit.size == "mono-large" and name == "metric-large"):
                return f"It looks like Depth Anything 3 {fit.size}: use da3/{fit.size}."
            return f"It has the encoder of da3/{name}."

        fit = load_family(
            self,
            weights,
            component=f"da3/{name}",
            to_model=to_model,
            looks_like=lambda _, state: looks_like(state),
            hint=hint,
            unlike=_WORDS,
            check=lambda file: _check_stated(_stated(weights, file.card.get("component")), name, weights),
            init=init,
            head=HEADS,
        )
        self.head_is_trained = fit.has("head.")


def _stated(weights: str | Path, component: object) -> str | None:
    """Returns the model that the file's makers say it is: by dadkit's metadata, the ``config.json`` beside it, or its name."""
    if isinstance(component, str) and component.startswith("da3/"):
        return component.removeprefix("da3/")
    config = read_config(weights)
    said = str((config or {}).get("model_name", ""))
    by_config = next((name for name, official in _OFFICIAL.items() if official == said), None)
    if by_config is not None:
        return by_config
    # DA3METRIC-LARGE and the mirrors' da3_metric_large.safetensors; not the folders above.
    words: Sequence[str] = [part for part in re.split(r"[/\\]", str(weights)) if part not in ("", "model.safetensors")]
    text = re.sub(r"[^a-z0-9]", "", "".join(words[-2:] if str(weights).startswith("hf:") else words[-1:]).lower())
    if "da3metric" in text or "depthanything3metric" in text:
        return "metric-large"
    return "mono-large" if "da3mono" in text or "depthanything3mono" in text else None


def _check_stated(said: str | None, name: str, weights: str | Path) -> None:
    """Mono and metric have the same tensors: only what is said beside them tells, and nothing said is refused too."""
    twins = ("mono-large", "metric-large")
    if name in twins and said in twins and said != name:
        raise WeightsError(f"da3/{name}: {weights} is said to be {said}: use da3/{said}, or the file of {name}")
    if name in twins and said is None:
        raise WeightsError(
            f"da3/{name}: nothing says whether {weights} is mono-large or metric-large, whose tensors are alike. Put its "
            "config.json beside model.safetensors, or keep a name with DA3MONO or DA3METRIC in it"
        )
