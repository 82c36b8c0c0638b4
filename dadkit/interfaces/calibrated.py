"""A relative model with fixed numbers that make its maps metric."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from dadkit.interfaces.model import DepthModel, Teacher
from dadkit.interfaces.prediction import Estimate, Prediction
from dadkit.spaces import Metres, Space

if TYPE_CHECKING:
    from dadkit.interfaces.model import Deployable

__all__ = ["CalibratedModel"]


class CalibratedModel(Teacher):
    """A depth model that answers in metres, by a pair that was fitted to known distances.

    Args:
        model: the relative model.
        metres: the pair.

    What lies beyond the pair's limits is held there and marked as not valid. The exported graph answers metres too.
    """

    def __init__(self, model: DepthModel, metres: Metres) -> None:
        super().__init__()
        self.model, self.metres = model, metres
        self.spec = replace(
            model.spec,
            space=Space.METRIC,
            range=(metres.nearest, metres.farthest),
            canonical_focal=None,
        )
        self.freeze()

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]] | Estimate:
        """Returns the relative model's answer; :meth:`brought_to` makes metres of it at the final size."""
        return self.model.estimate(x)

    def to_legal_size(self, images: Tensor) -> Tensor:
        """As the relative model does."""
        return self.model.to_legal_size(images)

    def predict_batch(self, images: Tensor, cameras: Tensor | None = None) -> Prediction:
        """Returns the relative model's answer, by its own policy, in metres."""
        given = {"cameras": cameras} if self.model.spec.takes_camera else {}
        return self._metric(self.model.predict_batch(images, **given))

    def seen_size(self, height: int, width: int) -> tuple[int, int] | None:
        """As the relative model does."""
        return self.model.seen_size(height, width)

    def brought_to(self, depth: Tensor, size: tuple[int, int]) -> Tensor:
        """Metres at ``size``."""
        return self.metres(self.model.brought_to(depth, size))

    def deployable(self, size: tuple[int, int] | None = None) -> Deployable:
        """Returns the relative model's own, with the pair in the graph."""
        network = self.model.deployable(size)
        outer = copy.copy(self)
        outer._modules = {"model": network.model}
        network.model = outer
        return network

    def _run(self, legal: Tensor, answer_size: tuple[int, int], cameras: Tensor | None = None) -> Prediction:
        given = {"cameras": cameras} if self.model.spec.takes_camera else {}
        return self._metric(self.model._run(legal, answer_size, **given))

    def _metric(self, prediction: Prediction) -> Prediction:
        inside = self.metres.inside(prediction.depth)
        valid = inside if prediction.valid is None else prediction.valid & inside
        return replace(prediction, depth=self.metres(prediction.depth), space=Space.METRIC, valid=valid)
