"""Depth completion: dense metres from a picture, a relative map and sparse metres."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass

from torch import Tensor, nn

from dadkit.interfaces.hints import Hints
from dadkit.interfaces.model import ParamGroup
from dadkit.interfaces.prediction import Prediction
from dadkit.spaces import Space

__all__ = ["Completer", "CompleterSpec"]


@dataclass(frozen=True)
class CompleterSpec:
    """What a completer declares.

    Attributes:
        name: short name.
        needs_relative: it takes the map of a depth model; otherwise it is given None.
        min_hints: fewest points with which it answers.
        license: SPDX identifier, or a text, of the licence of the *weights*; ``"none"`` without weights.
    """

    name: str
    _: KW_ONLY
    needs_relative: bool = True
    min_hints: int = 1
    license: str = "none"

    @property
    def space(self) -> Space:
        """Metres."""
        return Space.METRIC


class Completer(nn.Module):
    """What turns sparse metres into dense ones. To write one, set ``self.spec`` and implement :meth:`complete`."""

    spec: CompleterSpec

    def param_groups(self) -> list[ParamGroup]:
        """Every trainable parameter, as what an optimiser calls the decoder; empty if nothing is learned."""
        params = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [ParamGroup(name="decoder", params=params)] if params else []

    def forward(
        self, images: Tensor, hints: Hints, relative: Prediction | None = None, intrinsics: Tensor | None = None
    ) -> Prediction:
        """The same as :meth:`complete`."""
        return self.complete(images, hints, relative, intrinsics)

    @abstractmethod
    def complete(
        self, images: Tensor, hints: Hints, relative: Prediction | None = None, intrinsics: Tensor | None = None
    ) -> Prediction:
        """Dense metres.

        The answer follows the unit of the hints: ten times the hints' depth gives ten times the answer. Each image is
        answered by itself. Values of the hints outside their mask are never read.

        Args:
            images: (B, 3, H, W) RGB in [0, 1].
            hints: (B, 1, H, W) metres at some pixels.
            relative: a depth model's answer for the images, if ``spec.needs_relative``.
            intrinsics: (B, 3, 3) cameras in pixels of the images, NaN or None = unknown.

        Returns:
            A metric Prediction, positive and finite where valid. ``features`` may hold ``"support"``, (B, 1, H, W) float32
            distance in pixels to the nearest point that was kept, and ``"used"``, (B, 1, H, W) bool, the points kept.

        Raises:
            dadkit.errors.DadkitError: an image has fewer than ``spec.min_hints`` usable points.
        """
