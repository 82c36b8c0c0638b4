"""MoGe as a dadkit teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dadkit.interfaces import Estimate, ModelSpec, Prediction, SizePolicy, Teacher, camera_from_fov, known_cameras
from dadkit.spaces import Space
from dadkit.weights import Fit, WeightFile, WeightsError, load_family
from dadkit_moge.keys import looks_like, to_model
from dadkit_moge.network import Version1, Version2
from dadkit_moge.sizes import MODELS, PATCH, Model
from dadkit_moge.solve import focal_and_shift

__all__ = ["MoGe"]


class MoGe(Teacher):
    """MoGe 1 or 2: points, from which depth, camera and validity follow. MoGe 2 answers metres, MoGe 1 depth up to one factor.

    The network's depth lacks a shift; it is solved for together with the focal length, or alone where the camera is given,
    which makes the answer better. What the model calls invalid (sky, but blurred and mirroring places too) is invalid, not sky.
    Normals of MoGe 2 are ignored.

    Args:
        name: a key of :data:`dadkit_moge.sizes.MODELS`.
        weights: file, None for random weights; see :class:`dadkit_moge.options.Options` for this and the rest.
        tokens: patches that ``predict`` cuts an image into, about; None = the most of the model's training.
        fov: horizontal field of view in degrees to assume where the camera is unknown.

    Raises:
        WeightsError: the file cannot be read, is not this model's, or says that its taps or its points are others.

    Source: Wang et al., MoGe (CVPR 2025) and MoGe-2 (2025).
    """

    def __init__(
        self, name: str, *, weights: str | Path | None = None, tokens: int | None = None, fov: float | None = None
    ) -> None:
        super().__init__()
        model = MODELS[name]
        self.tokens, self.fov = tokens or model.tokens[1], fov
        self.second = bool(model.neck)
        self.spec = ModelSpec(
            name=f"moge-{name}",
            space=Space.METRIC if self.second else Space.SCALE,
            size_multiple=PATCH,
            native=SizePolicy(None, "lower_bound", PATCH, "bilinear", antialias=True),
            range=(0.0, None),
            takes_camera=True,
            exportable="no",  # the solve for focal length and shift is no part of a graph
            # Random weights are nobody's: only the licence of this code is left.
            license="MIT" if weights is not None else "Apache-2.0",
        )
        self.net = Version2(model) if self.second else Version1(model)
        if weights is not None:
            load_family(
                self.net,
                weights,
                component=f"moge/{name}",
                to_model=to_model,
                looks_like=lambda _, state: looks_like(state),
                hint=lambda fit: _hint(fit, name),
                unlike="It does not look like MoGe.",
                check=lambda file: _check_config(file, name, model),
                containers=("model", "state_dict"),
            )
        self.freeze()

    def estimate(self, x: Tensor) -> Estimate:
        """(B, 3, 14 h, 14 w) -> depth (B, 1, 14 h, 14 w), validity and cameras."""
        return self._answer(x, (x.shape[-2], x.shape[-1]), None, None)

    def predict_batch(self, images: Tensor, cameras: Tensor | None = None) -> Prediction:
        """Predicts after the official preprocessing: about ``tokens`` patches, at the picture's aspect."""
        height, width = images.shape[-2:]
        if self.second:
            grid = (round((self.tokens * height / width) ** 0.5), round((self.tokens * width / height) ** 0.5))
            size = (max(1, grid[0]) * PATCH, max(1, grid[1]) * PATCH)
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
            return self._predicted(self.normalized(images), (height, width), cameras, None)
        factor = (self.tokens * PATCH**2 / (height * width)) ** 0.5
        inner = (max(PATCH, int(height * factor)), max(PATCH, int(width * factor)))
        images = self.normalized(F.interpolate(images, inner, mode="bicubic", antialias=True))
        x = F.interpolate(images, tuple(side // PATCH * PATCH for side in inner), mode="bilinear", antialias=True)
        return self._predicted(x, (height, width), cameras, inner)

    def _run(self, legal: Tensor, answer_size: tuple[int, int], cameras: Tensor | None = None) -> Prediction:
        return self._predicted(self.normalized(legal), answer_size, cameras, None)

    def _predicted(self, x: Tensor, size: tuple[int, int], cameras: Tensor | None, inner: tuple[int, int] | None) -> Prediction:
        answer = self._answer(x, size, cameras, inner)
        return Prediction(answer.depth, self.spec.space, answer.valid, answer.features, answer.intrinsics)

    def _answer(self, x: Tensor, size: tuple[int, int], cameras: Tensor | None, inner: tuple[int, int] | None) -> Estimate:
        """Everything at ``size``, whose pixels the cameras are in; ``inner`` is MoGe 1's size before cutting to patches."""
        height, width = size
        if self.second:
            points, mask, log_scale = self.net(x, size, width / height)
        else:
            inner = inner or size
            points, mask, log_scale = self.net(x, inner, inner[1] / inner[0])
            points, mask = (F.interpolate(raw, size, mode="bilinear", align_corners=False) for raw in (points, mask))
        z = points[:, 2:].float().exp()
        points, valid = torch.cat([points[:, :2].float() * z, z], 1), mask > 0.5
        # In units of half the diagonal of the picture, as the points are.
        half = (height**2 + width**2) ** 0.5 / 2
        given = self._cameras(cameras, size, len(x))
        focal, shift = focal_and_shift(points, valid, None if given is None else given.to(x.device) / half)
        depth = z + shift.float().view(-1, 1, 1, 1)
        valid = valid & (depth > 0)
        if log_scale is not None:
            depth = depth * log_scale.float().exp().view(-1, 1, 1, 1)
        camera = torch.zeros(len(x), 3, 3, device=x.device)
        camera[:, 0, 0] = camera[:, 1, 1] = (focal * half).float()
        camera[:, 0, 2], camera[:, 1, 2], camera[:, 2, 2] = width / 2, height / 2, 1.0
        return Estimate(depth.clamp(min=0), valid=valid, intrinsics=camera)

    def _cameras(self, cameras: Tensor | None, size: tuple[int, int], count: int) -> Tensor | None:
        """(B,) horizontal focal lengths in pixels, NaN = to be found; None = all are."""
        assumed = torch.nan if self.fov is None else float(camera_from_fov(self.fov, size)[0, 0])
        if cameras is None:
            return None if self.fov is None else torch.full((count,), assumed)
        return cameras[:, 0, 0].where(known_cameras(cameras), assumed)


def _hint(fit: Fit, name: str) -> str:
    if fit.size is None:
        return ""
    return f"It looks like MoGe {fit.size}: use moge/{fit.size}." if fit.size != name else f"It has the encoder of moge/{name}."


def _check_config(file: WeightFile, name: str, model: Model) -> None:
    """The taps and the form of the points are in the file's ``model_config`` only: no tensor tells them."""
    config: Any = file.beside.get("model_config")
    if not isinstance(config, dict):
        return
    encoder = config.get("encoder")
    taps = (encoder if isinstance(encoder, dict) else config).get("intermediate_layers")
    if isinstance(taps, int):
        taps = range(model.encoder.depth - taps, model.encoder.depth)
    if taps is not None and tuple(taps) != model.taps:
        raise WeightsError(
            f"moge/{name}: {file.path} says intermediate_layers {list(taps)}, and dadkit knows {list(model.taps)}"
        )
    remap = config.get("remap_output", "exp")
    if remap != "exp":
        raise WeightsError(f"moge/{name}: {file.path} says remap_output '{remap}', and dadkit knows 'exp' only")
