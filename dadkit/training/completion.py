"""The step of a stage that trains a completer: points are simulated, a frozen model's map is completed, metres are compared.

The truth of a photograph without depth is a mix of the stage's teachers, as in PacGDC: each map becomes a depth, the depths are
mixed with random weights, and the result gets a random size in metres. Points are drawn from it, and the map that is completed
comes from a model outside the mix: trained on the map that it is given, a completer would learn to ignore the points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from dadkit.config.schema import CompletionConfig
from dadkit.data.patterns import simulate
from dadkit.data.sample import Batch
from dadkit.interfaces import Hints, Prediction, Teacher
from dadkit.spaces import Space
from dadkit.training.labels import Drawn, Labeller, to_float
from dadkit.training.soundness import StageTerm
from dadkit.training.step import DistillationStep, StepResult, StudentForward

__all__ = ["CompletionStep", "mixed_depth"]

FEWEST = 5
"""Points without which nothing is spread over the map; with fewer, the completer answers and learns nothing."""


class CompletionStep(DistillationStep):
    """Computes the loss of a batch whose points are simulated.

    Everything that is drawn comes from torch's global generator, which the loop seeds by stage, step and micro-batch.

    Args:
        terms: those that look at true depth are called.
        config: which points, and how wrong they are.
        inputs: the frozen models whose maps are completed, in the order of ``config.inputs``.
        mix: the teachers whose maps make the truth of photographs.
        autocast: dtype of the models' forward passes; None = float32.
    """

    def __init__(
        self,
        terms: Sequence[StageTerm],
        config: CompletionConfig,
        inputs: Sequence[Teacher],
        mix: Sequence[Labeller] = (),
        *,
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__(terms, space=Space.METRIC, autocast=autocast)
        self.config, self.inputs, self.mix = config, tuple(inputs), tuple(mix)

    def forward(
        self,
        student: StudentForward,
        unlabelled: Batch | None,
        labelled: Batch | None = None,
        *,
        teacher: Drawn = 0,
        images: tuple[int, int] | None = None,
        with_stats: bool = False,
    ) -> StepResult:
        """Returns the loss of a (micro-)batch; see :meth:`DistillationStep.forward`. ``teacher`` is not looked at: all take
        part.
        """
        batches = [batch for batch in (labelled, self._with_truth(unlabelled)) if batch is not None]
        total = sum(images) if images is not None else sum(map(len, batches))
        results = [
            super(CompletionStep, self).forward(student, None, batch, images=(0, total), with_stats=with_stats)
            for batch in batches
        ]
        first, *rest = results
        for result in rest:
            first.total = first.total + result.total
            for own, other in ((first.terms, result.terms), (first.stats, result.stats)):
                own.update({name: own[name] + value if name in own else value for name, value in other.items()})
        return first

    def predict(self, student: StudentForward, batches: list[Batch]) -> list[Prediction]:
        """Runs the completer on each batch, with points drawn from its truth."""
        answers = []
        for batch in batches:
            images = to_float(batch.images)
            with torch.no_grad(), self._autocast(images.device):
                given = _draw([part.probability for part in self.config.inputs])
                model = self.inputs[given]
                answer = model(images, *((batch.cameras(),) if model.spec.takes_camera else ()))
                relative = replace(answer, depth=self._bent(answer.depth.float()), features={})
            hints = self._hints(batch)
            with self._autocast(images.device):
                answers.append(student(to_float(batch.student_images), hints, relative))
        return answers

    def _labelled(self, student: Prediction, batch: Batch):  # type: ignore[no-untyped-def]
        """Sky and what is farther than ``max_depth`` is not looked at, nor is a picture with too few points."""
        assert batch.depth is not None
        used = student.features["used"].flatten(1).sum(1) >= FEWEST
        valid = (batch.depth < self.config.max_depth) & used.view(-1, 1, 1, 1)
        return super()._labelled(replace(student, valid=valid), batch)

    def _hints(self, batch: Batch) -> Hints:
        assert batch.depth is not None
        config, parts = self.config, []
        names = list(config.patterns)
        for index in range(len(batch)):
            depth = batch.depth[index, 0].cpu()
            known = (depth > 0) & (depth < config.max_depth)
            known &= True if batch.valid is None else batch.valid[index, 0].cpu()
            if not bool(known.any()):  # a picture of sky alone: one point far away, which teaches nothing
                depth, known = torch.full_like(depth, config.max_depth), torch.ones_like(known)
                known[1:] = False
                known[:, 1:] = False
            parts.append(
                simulate(
                    depth,
                    known,
                    batch.images[index].cpu(),
                    pattern=names[_draw(list(config.patterns.values()))],
                    points=round(math.exp(_between(*map(math.log, config.points)))),
                    generator=torch.Generator().manual_seed(int(torch.randint(2**62, ()))),
                    noise=_between(*config.noise),
                    outliers=_between(0, config.outliers) if _between(0, 1) < 0.5 else 0.0,
                    see_through=_between(0, config.see_through) if _between(0, 1) < 0.3 else 0.0,
                )
            )
        device = batch.images.device
        return Hints(torch.cat([part.depth for part in parts]).to(device), torch.cat([part.valid for part in parts]).to(device))

    def _bent(self, maps: Tensor) -> Tensor:
        """Returns the maps, half of them with smooth random errors, so that more than these models' own errors are seen."""
        field = self.config.bend * F.interpolate(torch.randn(len(maps), 1, 3, 4), maps.shape[-2:], mode="bicubic")
        chosen = torch.rand(len(maps)) < 0.5
        field = torch.where(chosen.view(-1, 1, 1, 1), field, torch.zeros_like(field)).to(maps.device)
        return maps * field.exp()

    def _with_truth(self, batch: Batch | None) -> Batch | None:
        """Photographs with the mix of the teachers' maps as truth."""
        if batch is None:
            return None
        with torch.no_grad(), self._autocast(batch.images.device):
            answers = [
                teacher.model(to_float(batch.images), *((batch.cameras(),) if teacher.model.spec.takes_camera else ()))
                for teacher in self.mix
            ]
        depth = mixed_depth([replace(answer, depth=answer.depth.float()) for answer in answers])
        return replace(batch, depth=depth, valid=depth.isfinite(), space=Space.METRIC)


def mixed_depth(answers: Sequence[Prediction]) -> Tensor:
    """Returns a random depth (B, 1, H, W) with the shapes that several models see.

    Relative maps are scaled to [0, 1] and become exp(-k d) with k from 1 to 5; metric ones stay. All are divided by their
    median, mixed with random weights that add up to 1, and multiplied by 1 to 20 metres.
    """
    depths = []
    for answer in answers:
        depth = answer.depth
        if answer.space in (Space.DISPARITY, Space.DEPTH):
            low, high = depth.amin((1, 2, 3), keepdim=True), depth.amax((1, 2, 3), keepdim=True)
            unit = (depth - low) / (high - low).clamp(min=1e-12)
            nearness = unit if answer.space is Space.DISPARITY else 1 - unit
            depth = torch.exp(-(1 + 4 * torch.rand(len(depth), 1, 1, 1).to(depth)) * nearness)
        depths.append(depth / depth.flatten(1).median(1).values.view(-1, 1, 1, 1))
    shares = torch.rand(len(depths), len(depths[0]), 1, 1, 1).to(depths[0]).clamp(min=1e-3)
    mixed = (torch.stack(depths) * shares / shares.sum(0)).sum(0)
    return mixed * torch.exp(torch.rand(len(mixed), 1, 1, 1).to(mixed) * math.log(20))


def _between(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def _draw(weights: Sequence[float]) -> int:
    return int(torch.multinomial(torch.tensor(weights, dtype=torch.float64), 1))
