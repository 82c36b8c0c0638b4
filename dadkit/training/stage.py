"""One stage, built: what its configuration names, as objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dadkit.config.schema import StageConfig
from dadkit.interfaces import Student
from dadkit.spaces import Space
from dadkit.training.batches import StageData
from dadkit.training.shard import Rounds
from dadkit.training.step import DistillationStep

__all__ = ["Outcome", "Stage"]


@dataclass(frozen=True, eq=False)
class Stage:
    """Everything that the loop needs for one stage.

    Attributes:
        config: the stage's configuration.
        seed: the run's seed.
        device: where the models are.
        student: the model that is trained, with its initial weights.
        step: the terms and the teachers.
        data: the iterations.
        iterations: how many there are.
        student_is_trained: its head came with trained weights, so the anchor keeps the student's own magnitude.
        licenses: of all weights that go into the result.
        conversions: how the answers of teachers in other spaces become the student's, a text a teacher.
        unsound: combinations that ``allow_unsound`` permits.
        rounds: how the processes ask teachers that are spread over them; None if there are none.
    """

    config: StageConfig
    seed: int
    device: torch.device
    student: Student
    step: DistillationStep
    data: StageData
    iterations: int
    student_is_trained: bool = False
    licenses: Sequence[str] = ()
    conversions: Sequence[str] = ()
    unsound: Sequence[str] = ()
    rounds: Rounds | None = None

    @property
    def needs_scales(self) -> bool:
        """True if the sources' typical magnitudes must be measured before the first step; metric students have theirs."""
        return "scale" in self.step.needs and self.step.space is not Space.METRIC

    def finish_asking(self) -> None:
        """Wait until no process asks a teacher any more, where teachers are spread over them; before all go on together."""
        if self.rounds is not None:
            self.rounds.close()

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.config.name


@dataclass(frozen=True)
class Outcome:
    """How a stage ended: the trained weights, the iteration they are from, iterations skipped, time taken, samples that could
    not be read (name -> reason).
    """

    weights: dict[str, Tensor]
    step: int
    nonfinite: int
    seconds: float
    unreadable: Mapping[str, str] = field(default_factory=dict)
