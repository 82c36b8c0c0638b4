"""Feature encoders: frozen networks with features that a student follows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from dadkit.interfaces.network import Frozen, ImageNetwork

__all__ = ["FeatureEncoder"]


class FeatureEncoder(Frozen, ImageNetwork):
    """A frozen network that answers with features and no depth: the reference of feature alignment (DINOv2, say).

    To write one, set ``self.spec``, a :class:`NetworkSpec` with ``features`` that name the taps, and implement :meth:`encode`.
    The base class checks the input, resizes it to a legal size and normalises it. It is always in eval mode, its parameters
    require no gradient, and calling it builds no graph.
    """

    @abstractmethod
    def encode(self, x: Tensor) -> Mapping[str, Tensor]:
        """The network itself.

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
