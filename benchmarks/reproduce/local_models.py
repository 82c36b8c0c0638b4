"""Models that no package registers, as a plugin of one file.

`local/trained` is a run's result as it is. `local/bounded` answers as GenPercept's disparity model does: each map is brought to
[0, 1] by its own quantiles at 2 % and 98 % and clipped there, so the nearest and the farthest parts are flat. `local/imagenet`
has the features of the encoder with which students on photographs begin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import dadkit
from dadkit.interfaces import FrozenTeacher
from dadkit.loading import load_result, load_student, result_path

QUANTILES = (0.02, 0.98)


@dadkit.hookimpl
def register_teachers(register):
    """Name both; a result's own metadata say its licence."""
    register("trained", "local_models:trained", api=1, summary="a run's result", space="disparity")
    register("trained-depth", "local_models:trained", api=1, summary="a run's result in affine depth", space="depth")
    register("bounded", "local_models:Bounded", api=1, summary="a run's result, clipped to [0, 1] per image", space="disparity")
    register("imagenet", "local_models:imagenet", api=1, summary="ImageNet's features, no depth", space="disparity")


def trained(weights: str) -> FrozenTeacher:
    """The result in a run's folder, frozen."""
    return FrozenTeacher(load_result(result_path(Path(weights))))


def imagenet() -> FrozenTeacher:
    """EfficientNet-Lite0 up to stride 16, as ImageNet taught it; its answers come from a random decoder."""
    return FrozenTeacher(
        load_student("timm/auto", encoder="tf_efficientnet_lite0.in1k", pretrained=True, channels=16, levels=4)
    )


class Bounded(FrozenTeacher):
    """The result in a run's folder, each map brought to [0, 1] by its quantiles and clipped."""

    def __init__(self, weights: str) -> None:
        super().__init__(load_result(result_path(Path(weights))))
        self.spec = replace(self.spec, name=f"{self.spec.name}-bounded", range=(0.0, 1.0))

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The clipped answer; a constant map becomes 0."""
        depth, features = super().estimate(x)
        low, high = torch.quantile(depth.float().flatten(1), depth.new_tensor(QUANTILES, dtype=torch.float32), dim=1)
        shape = (-1, *[1] * (depth.ndim - 1))
        width = (high - low).clamp_min(torch.finfo(torch.float32).tiny)
        return ((depth - low.view(shape)) / width.view(shape)).clamp(0, 1), features
