"""A protocol: every choice between a prediction and a number, as data under one name.

Published numbers differ by up to five times through unstated choices. Here each one is a field of a YAML file in
``dadkit/evaluation/protocols/``, and the protocol's name is printed beside every number.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from typing import Any, Literal

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from dadkit.errors import DadkitError
from dadkit.evaluation.alignment import Affine, fit_scale, fit_scale_shift
from dadkit.evaluation.metrics import depth_metrics
from dadkit.interfaces import Prediction
from dadkit.spaces import Space

__all__ = ["Protocol", "Scores", "load_protocol", "protocol_names"]


@dataclass(frozen=True, eq=False)
class Scores:
    """What a protocol says about B images.

    Attributes:
        metrics: name -> (B,) float64; NaN where an image has no valid pixel.
        valid_pixels: (B,) int64.
        depth: (B, H, W) float64, the aligned prediction in metres as it was measured.
        affine: what the alignment did, or None.
    """

    metrics: dict[str, Tensor]
    valid_pixels: Tensor
    depth: Tensor
    affine: Affine | None


class Protocol(BaseModel):
    """Turns predictions and metric truth into metrics.

    The order is fixed: truth outside (min_depth, max_depth) or infinite is masked; the prediction is brought to ``space``
    (refused if that needs a guess) and aligned there; aligned disparity is floored at ``1 / max_depth`` and inverted; depth
    is clipped to [min_depth, max_depth]; metrics are taken per image.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """Name under which the protocol is printed."""
    summary: str
    """The protocol in words."""
    space: Space
    """Space in which prediction and truth are aligned."""
    alignment: Literal["none", "scale", "scale-shift"]
    """none; ratio of medians; least-squares scale and shift."""
    min_depth: float = Field(gt=0)
    """Metres; truth nearer than this is masked, predictions are clipped to it."""
    max_depth: float = Field(gt=0)
    """Metres; truth farther than this is masked, predictions are clipped to it."""

    def score(self, prediction: Prediction, depth: Tensor, valid: Tensor) -> Scores:
        """Measure a batch.

        Args:
            prediction: ``depth`` (B, 1, H, W) in any space that converts to ``self.space``.
            depth: (B, 1, H, W) true metric depth in metres; infinity is sky.
            valid: (B, 1, H, W) bool, where truth is known.

        Raises:
            dadkit.spaces.SpaceError: the prediction's space does not convert; the message names a fitting protocol's space.
        """
        predicted = prediction.to_space(self.space)
        truth = depth[:, 0].double()
        # The comparison is False for NaN and for sky, which no finite metric can judge.
        keep = valid[:, 0] & (truth > self.min_depth) & (truth < self.max_depth)
        if prediction.valid is not None:
            keep = keep & prediction.valid[:, 0]
        in_metres = torch.where(keep, truth, 1.0)
        target = 1.0 / in_metres if self.space is Space.DISPARITY else in_metres
        source = predicted.depth[:, 0].double()
        affine = None
        if self.alignment != "none":
            affine = (fit_scale_shift if self.alignment == "scale-shift" else fit_scale)(source, target, keep)
            source = affine(source)
        metres = 1.0 / source.clamp_min(1.0 / self.max_depth) if self.space is Space.DISPARITY else source
        metres = metres.clamp(self.min_depth, self.max_depth)
        return Scores(depth_metrics(metres, truth, keep), keep.sum((1, 2)), metres, affine)


def protocol_names() -> list[str]:
    """The names of all protocols, sorted."""
    return sorted(item.name.removesuffix(".yaml") for item in _folder().iterdir() if item.name.endswith(".yaml"))


def load_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        DadkitError: there is none; the message lists near misses and all names.
    """
    names = protocol_names()
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        error = DadkitError(f"unknown protocol '{name}'; {hint}Known: {', '.join(names)}")
        error.exit_code = 2
        raise error
    return Protocol(name=name, **yaml.safe_load((_folder() / f"{name}.yaml").read_text()))


def _folder() -> Any:  # importlib moved the type Traversable between the Python versions we support
    return files("dadkit.evaluation") / "protocols"
