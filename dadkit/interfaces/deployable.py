"""A depth model as one function from a tensor to a tensor, which is what exporters can write."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dadkit.interfaces.prediction import Estimate

if TYPE_CHECKING:
    from dadkit.interfaces.model import DepthModel

__all__ = ["Deployable"]


class Deployable(nn.Module):
    """What :meth:`dadkit.interfaces.DepthModel.deployable` returns.

    It holds a copy of the model in eval mode, without gradients, and the normalisation of the input as two constants.

    Args:
        model: the depth model; it is copied.

    Attributes:
        model: the copy. A plugin's ``deployable`` may change it.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, model: DepthModel) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (model.spec.mean, model.spec.std))
        self.register_buffer("scale", (1 / std).float())
        self.register_buffer("shift", (-mean / std).float())

    def forward(self, images: Tensor) -> Tensor:
        """The depth map of each image.

        Args:
            images: (B, 3, h, w) RGB in [0, 1]; h and w are multiples of ``model.spec.size_multiple``. Other sizes are not
                refused here, since a graph has no way to do so: the program that runs the file checks them.

        Returns:
            (B, 1, h, w) float32 in ``model.spec.space``.
        """
        answer = self.model.estimate(images * self.scale + self.shift)
        depth = answer.depth if isinstance(answer, Estimate) else answer[0]
        return self.model.brought_to(depth, (images.shape[-2], images.shape[-1]))
