"""Whether a file of lower precision still does what the model does: one verdict, from pictures that it was not made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from dadkit.evaluation import Evaluation, EvaluationPlan, compare
from dadkit.evaluation.evaluate import evaluate
from dadkit.interfaces import DeployedModel, DepthModel, Exporter
from dadkit.interfaces.exporter import as_input

if TYPE_CHECKING:
    import numpy as np

__all__ = ["MAX_ABS_REL", "MAX_DROP", "MAX_WORST", "MIN_DELTA1", "Drop", "Truth", "Untranslated", "Verdict", "judge"]

MAX_ABS_REL, MIN_DELTA1, MAX_WORST = 0.03, 0.99, 0.06
"""A file passes with at most this mean AbsRel to the model's own maps, at least this delta1, and no image above the last."""
MAX_DROP = 0.01
"""Against true depth: AbsRel may grow by this part of the model's own, at the upper end of the 95 % interval."""


@dataclass(frozen=True)
class Drop:
    """What a file loses against true depth, on the same images as the model.

    Attributes:
        dataset, protocol: what it was measured on, and how.
        images: how many.
        abs_rel, delta1: of the model, means over the images.
        abs_rel_change, delta1_change: the file's minus the model's.
        low, high: 95 % interval of ``abs_rel_change``, by resampling images.
        limit: largest ``high`` that passes, in parts of ``abs_rel``.
    """

    dataset: str
    protocol: str
    images: int
    abs_rel: float
    delta1: float
    abs_rel_change: float
    delta1_change: float
    low: float
    high: float
    limit: float

    @property
    def passes(self) -> bool:
        """True if the images exclude a larger loss than the limit."""
        return self.high <= self.limit * self.abs_rel


class Untranslated(DeployedModel):
    """The network in torch, which sees pictures as its file does: at the file's size. What it loses is lost by the size.

    Args:
        network: what is written.
        exporter, path, facts: of the file.
    """

    def __init__(self, network: nn.Module, exporter: Exporter, path: Path, facts: Mapping[str, Any]) -> None:
        super().__init__(exporter, path, facts)
        self.network = network

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """(B, 3, h, w) in [0, 1] -> the network's map (B, 1, h, w)."""
        return torch.cat([self.network(torch.from_numpy(as_input(part, self.facts["input"]))) for part in x.split(1)]), {}


class Truth:
    """Images with true depth, and the model's own errors on them, which are measured once.

    Args:
        model: the model that is exported; it sees the images at the file's size.
        plan: dataset and protocol; the protocol has the metrics ``abs_rel`` and ``delta1``.
        limit: see :class:`Drop`.
    """

    def __init__(self, model: DepthModel, plan: EvaluationPlan, limit: float) -> None:
        self._plan, self._limit, self._dataset = plan, limit, plan.open()
        self._own = self._measure(model)

    def drop(self, file: DepthModel) -> Drop:
        """Returns what ``file`` loses."""
        changes, theirs = {}, self._measure(file)
        for metric in ("abs_rel", "delta1"):
            found, own = ({image.key: image.metrics[metric] for image in rows.images} for rows in (theirs, self._own))
            changes[metric] = compare(found, own)
        abs_rel, delta1, mean = changes["abs_rel"], changes["delta1"], self._own.mean
        assert abs_rel is not None
        assert delta1 is not None
        return Drop(
            dataset=self._plan.dataset,
            protocol=self._plan.protocol.name,
            images=abs_rel.images,
            abs_rel=mean["abs_rel"],
            delta1=mean["delta1"],
            abs_rel_change=abs_rel.difference,
            delta1_change=delta1.difference,
            low=abs_rel.interval.low,
            high=abs_rel.interval.high,
            limit=self._limit,
        )

    def _measure(self, model: DepthModel) -> Evaluation:
        plan = self._plan
        return evaluate(model, self._dataset, plan.protocol, name="file", batch_size=plan.batch_size, limit=plan.limit)


@dataclass(frozen=True)
class Verdict:
    """How far a file of lower precision is from the model.

    The file's map is fitted to the model's by scale and shift (a model in metres: not at all), both are read as inverse depths
    that span 1 to 10, and compared as an evaluation does.

    Attributes:
        variant: what was kept in float, and how.
        abs_rel: mean over the pictures.
        delta1: mean over the pictures.
        worst: largest AbsRel of a picture.
        megabytes: size of the file.
        pictures: how many.
        kept: nodes that stay in float, and the error that each alone would bring, largest first; where they were measured.
        drop: what it loses against true depth; None where there was none.
    """

    variant: str
    abs_rel: float
    delta1: float
    worst: float
    megabytes: float
    pictures: int
    kept: Sequence[tuple[str, float]] = ()
    drop: Drop | None = None

    @property
    def passes(self) -> bool:
        """True if the file may get its name."""
        keeps = self.abs_rel <= MAX_ABS_REL and self.delta1 >= MIN_DELTA1 and self.worst <= MAX_WORST
        return keeps and (self.drop is None or self.drop.passes)


def judge(
    model: DepthModel,
    run: Callable[[np.ndarray], np.ndarray],
    images: Sequence[Tensor],
    *,
    input: Literal["float", "uint8"] = "float",
    **row: Any,
) -> Verdict:
    """Compare file and model on ``images``, (1, 3, h, w) uint8 each; ``row`` is the rest of the verdict."""
    errors, shares = [], []
    for image in images:
        with torch.inference_mode():
            wanted = model(image.float() / 255).depth.double()
        found = torch.from_numpy(run(as_input(image.float() / 255, input))).double()
        if model.spec.space != "metric":
            found = fitted(found, wanted)
        low, high = (wanted.flatten().quantile(torch.tensor(q, dtype=torch.float64)) for q in (0.01, 0.99))
        one, other = (0.1 + 0.9 * ((x - low) / (high - low).clamp(min=1e-12)).clamp(0, 1) for x in (wanted, found))
        ratio = one / other  # of depths, which are the inverses
        errors.append(float((ratio - 1).abs().mean()))
        shares.append(float((torch.maximum(ratio, 1 / ratio) < 1.25).double().mean()))
    return Verdict(abs_rel=_mean(errors), delta1=_mean(shares), worst=max(errors), pictures=len(images), **row)


def fitted(found: Tensor, wanted: Tensor) -> Tensor:
    """``found`` with the scale and the shift that bring it nearest to ``wanted`` in the least-squares sense."""
    x, y = found - found.mean(), wanted - wanted.mean()
    return x * ((x * y).sum() / (x * x).sum().clamp(min=1e-24)) + wanted.mean()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
