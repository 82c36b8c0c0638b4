"""What every network that takes images shares: it checks them, brings them to a size it can take, and normalises them."""

from __future__ import annotations

from abc import ABC
from typing import Self

import torch
from torch import Tensor, nn

from dadkit.interfaces.resizing import nearest_multiple, resize
from dadkit.interfaces.spec import NetworkSpec

__all__ = ["Frozen", "ImageNetwork"]


class ImageNetwork(nn.Module, ABC):
    """Takes RGB in [0, 1] and owns everything else about its input. The base of depth models and feature encoders."""

    spec: NetworkSpec

    @property
    def dtype(self) -> torch.dtype | None:
        """That of the first floating-point parameter; None without one."""
        return next((parameter.dtype for parameter in self.parameters() if parameter.is_floating_point()), None)

    def check(self, images: Tensor) -> None:
        """Refuse what is no batch of RGB images.

        Raises:
            ValueError: wrong shape or dtype; the message says what came.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"{self.spec.name}: images must be (B, 3, H, W), got {tuple(images.shape)}")
        if not images.is_floating_point():
            raise ValueError(
                f"{self.spec.name}: images must be floating point RGB in [0, 1], got {images.dtype}; divide uint8 by 255"
            )

    def to_legal_size(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) at the multiple of ``spec.size_multiple`` nearest to its size: the images themselves, mostly."""
        height, width = (nearest_multiple(side, self.spec.size_multiple) for side in images.shape[-2:])
        return resize(images, (height, width), self.spec.native)

    def normalized(self, images: Tensor) -> Tensor:
        """(B, 3, h, w) in [0, 1] by ``spec.mean`` and ``spec.std``, in the parameters' dtype unless autocast decides it."""
        dtype = self.dtype
        if dtype is not None and dtype != images.dtype and not torch.is_autocast_enabled(images.device.type):
            images = images.to(dtype)
        mean = images.new_tensor(self.spec.mean).view(3, 1, 1)
        std = images.new_tensor(self.spec.std).view(3, 1, 1)
        return (images - mean) / std


class Frozen(nn.Module):
    """Mixed into a module that never trains: always in eval mode, no parameter requires a gradient."""

    def freeze(self) -> None:
        """Put the model into eval mode and take its parameters out of training. Idempotent and cheap."""
        if self.training:
            self.eval()
        for parameter in self.parameters():
            parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """It never trains: ``mode`` is ignored, the module stays in eval mode."""
        super().train(False)
        return self
