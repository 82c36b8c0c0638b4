"""Networks that take images: they check them, resize them to a size that they can take, and normalise them.

:class:`FeatureEncoder` is one of them: a frozen network with features that a student follows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from dadkit.interfaces.resizing import nearest_multiple, resize
from dadkit.interfaces.spec import NetworkSpec

__all__ = [
    "FeatureEncoder",
    "Frozen",
    "ImageNetwork",
]


class ImageNetwork(nn.Module, ABC):
    """Takes RGB in [0, 1] and owns everything else about its input. The base of depth models and feature encoders."""

    spec: NetworkSpec

    channels_last: bool = False
    """Set this where convolutions do most of the work: on a CPU, :meth:`normalized` then lays the channels of a pixel side by
    side, and so they are in every map that follows. Depthwise convolutions gain most: the gradient of the weights of a 5 x 5
    one takes two parallel regions, and otherwise one for each channel of each image. A network that calls ``view`` on such a
    map cannot have it."""

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
        if self.channels_last and images.device.type == "cpu":
            images = images.contiguous(memory_format=torch.channels_last)
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


class FeatureEncoder(Frozen, ImageNetwork):
    """A frozen network that answers with features and no depth: the reference of feature alignment (DINOv2, say).

    To write one, set ``self.spec``, a :class:`NetworkSpec` with ``features`` that name the taps, and implement :meth:`encode`.
    The base class checks the input, resizes it to a legal size and normalises it. It is always in eval mode, its parameters
    require no gradient, and calling it builds no graph.
    """

    @abstractmethod
    def encode(self, x: Tensor) -> Mapping[str, Tensor]:
        """Returns the network itself.

        Args:
            x: (B, 3, h, w) normalised by ``spec.mean`` and ``spec.std``; h and w are multiples of ``spec.size_multiple``.

        Returns:
            The taps that ``spec.features`` names: patch tokens (B, N, C), row by row and without a class token, or maps
            (B, C, h', w').
        """

    def forward(self, images: Tensor) -> Mapping[str, Tensor]:
        """Features of the images at the given size, or the nearest legal multiple.

        Args:
            images: (B, 3, H, W) RGB in [0, 1], floating point.

        Returns:
            Name of each tap -> tokens (B, N, C) or a map (B, C, h, w), without gradient.

        Raises:
            ValueError: wrong shape or dtype; the message says what came.
        """
        self.check(images)
        self.freeze()
        with torch.no_grad():
            return self.encode(self.normalized(self.to_legal_size(images)))
