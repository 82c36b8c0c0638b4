"""Tiny models, batches and stages: enough to see every rule of the engine at work within milliseconds."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from dadkit.config.schema import AnchorLossConfig, LossConfig, OptimConfig, StageConfig, StudentConfig
from dadkit.data.sample import Batch
from dadkit.interfaces import ModelSpec, Prediction, Student, Teacher
from dadkit.spaces import Space
from dadkit.training.batches import Iteration
from dadkit.training.folder import RunFolder
from dadkit.training.labels import Labeller
from dadkit.training.loop import Trainer
from dadkit.training.soundness import StageTerm
from dadkit.training.stage import Stage
from dadkit.training.step import DistillationStep


class ToyStudent(Student):
    """Two convolutions and a softplus; offers ``tokens`` of width 6 on a grid of 4-pixel cells."""

    def __init__(self, space: Space = Space.DISPARITY, *, norm: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)  # all toy students begin alike
        self.spec = ModelSpec(name="toy-student", space=space, range=(0, None), features={"tokens": 6})
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 6, 4, stride=4), nn.BatchNorm2d(6) if norm else nn.Identity(), nn.Dropout(dropout), nn.GELU()
        )
        self.head = nn.Conv2d(6, 1, 3, padding=1)

    def estimate(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        features = self.encoder(x)
        depth = nn.functional.softplus(self.head(features) + 1)
        return depth, {"tokens": features.flatten(2).transpose(1, 2)}


class ToyTeacher(Teacher):
    """Answers with ``scale * brightness + shift``, which any student can learn; counts its calls and images."""

    def __init__(self, space: Space = Space.DISPARITY, *, scale: float = 5.0, shift: float = 1.0, width: int = 6) -> None:
        super().__init__()
        self.spec = ModelSpec(name="toy-teacher", space=space, license=f"toy-{scale:g}", features={"tokens": width})
        self.scale, self.shift, self.width = scale, shift, width
        self.calls: list[tuple[int, ...]] = []
        self.weight = nn.Parameter(torch.ones(()))

    def estimate(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        raise AssertionError("forward is overridden")

    def forward(self, images: Tensor) -> Prediction:
        self.calls.append(tuple(images.shape))
        depth = self.scale * images.mean(1, keepdim=True) + self.shift
        cells = nn.functional.adaptive_avg_pool2d(images, 2).mean(1)
        tokens = cells.flatten(1)[..., None] * torch.linspace(-1, 1, self.width) + 0.1
        return Prediction(depth.detach(), self.spec.space, features={"tokens": tokens})


def make_batch(
    size: int = 4, *, seed: int = 0, view: int = 16, patches: int = 2, patch: int = 16, depth: bool = False
) -> Batch:
    """Random smooth pictures; with ``depth`` a metric map too, its first row sky."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(size, 3, 5, 5, generator=generator)
    images = (nn.functional.interpolate(small, (view, view), mode="bicubic") * 255).clamp(0, 255).to(torch.uint8)
    pieces = torch.randint(0, 256, (size, patches, 3, patch, patch), generator=generator, dtype=torch.uint8)
    corner = torch.rand(size, patches, 2, generator=generator) * view / 2
    boxes = torch.cat([corner, corner + view / 2], dim=-1)
    keys = tuple(f"{seed}-{index}" for index in range(size))
    if not depth:
        return Batch(keys, images, images, pieces, boxes)
    metres = 1 + 9 * torch.rand(size, 1, view, view, generator=generator)
    metres[..., 0, :] = torch.inf
    return Batch(
        keys, images, images, pieces[:, :0], boxes[:, :0], metres, torch.ones_like(metres, dtype=torch.bool), Space.METRIC
    )


class ToyData:
    """Iterations that depend on the step alone, as the real ones do; ``before`` is called with each step that is read."""

    def __init__(self, size: int = 4, *, labelled: int = 0, before: Callable[[int], None] | None = None, **shape: Any) -> None:
        self.size, self.labelled, self.before, self.shape = size, labelled, before, shape
        self.unreadable: dict[str, str] = {}
        self.closed = False

    def read(self, step: int) -> Iteration:
        if self.before is not None:
            self.before(step)
        unlabelled = make_batch(self.size, seed=step, **self.shape) if self.size else None
        labelled = make_batch(self.labelled, seed=10_000 + step, depth=True, **self.shape) if self.labelled else None
        return Iteration(unlabelled, labelled)

    def iterations(self, start: int) -> Iterator[Iteration]:
        step = start
        while True:
            yield self.read(step)
            step += 1

    def preview(self) -> Iteration:
        return self.read(0)

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def make_stage(
    terms: Sequence[StageTerm],
    *,
    student: Student | None = None,
    teachers: tuple[Labeller, ...] = (Labeller("toy", ToyTeacher()),),
    data: Any = None,
    iterations: int = 6,
    seed: int = 0,
    optim: dict[str, Any] | None = None,
    autocast: torch.dtype | None = None,
    warmup_maps: int = 4,
    **config: Any,
) -> Stage:
    """A stage out of toy parts."""
    student = student or ToyStudent()
    options = {"log_every": 1, "sample_every": 1000, "checkpoint_every": 1000, **config}
    return Stage(
        config=StageConfig(
            student=StudentConfig(name="toy/student"),
            iterations=iterations,
            losses=LossConfig(anchor=AnchorLossConfig(warmup_maps=warmup_maps)),
            optim=OptimConfig(**{"lr": 1e-2, "encoder_lr": 1e-2, "schedule": "constant", **(optim or {})}),
            **options,
        ),
        seed=seed,
        device=torch.device("cpu"),
        student=student,
        step=DistillationStep(terms, space=student.spec.space, teachers=teachers, autocast=autocast),
        data=data or ToyData(),
        iterations=iterations,
        licenses=("toy",),
    )


@pytest.fixture
def console() -> Console:
    """A console that is no terminal; its text is in ``console.file``."""
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def toys() -> Any:
    """The helpers of this file, since test modules cannot import it."""

    class Toys:
        Student, Teacher, Data = ToyStudent, ToyTeacher, ToyData
        batch, stage = staticmethod(make_batch), staticmethod(make_stage)

    return Toys


@pytest.fixture
def run_stage(tmp_path: Path, console: Console) -> Callable[..., Any]:
    """``run_stage(stage, at="a")`` trains in a folder of its own and answers with the outcome."""

    def train(stage: Stage, at: str = "run", validate: Any = None) -> Any:
        return Trainer(stage, RunFolder(tmp_path / at), console, validate).train()

    return train


@pytest.fixture
def unequal() -> Callable[[dict[str, Tensor], dict[str, Tensor]], list[str]]:
    """The names whose tensors are not the same bit for bit."""

    def find(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[str]:
        return [name for name in sorted({*a, *b}) if name not in a or name not in b or not torch.equal(a[name], b[name])]

    return find


@pytest.fixture
def replaced() -> Callable[..., Any]:
    """``dataclasses.replace``."""
    return dataclasses.replace
