"""What a run would do, without doing it: stages built without memory, two batches read, memory estimated."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from dadkit.config.schema import RunConfig, StageConfig
from dadkit.config.sections import ReferenceConfig, StudentConfig
from dadkit.loading import ModelCard, rebuild_options
from dadkit.training.build import build_stage
from dadkit.training.memory import Memory, estimate_memory
from dadkit.training.micro import Iteration, micro_batches
from dadkit.training.stage import Stage

__all__ = ["Memory", "ModelSize", "StagePlan", "plan_run"]

BATCHES = 2
_META = torch.device("meta")


@dataclass(frozen=True)
class ModelSize:
    """A model of a stage: its role, its name, numbers of all and of trained parameters."""

    role: str
    name: str
    space: str
    parameters: int
    trained: int = 0


@dataclass(frozen=True)
class StagePlan:
    """What a stage would do.

    Attributes:
        name: of the stage.
        iterations: optimiser steps.
        models: student first.
        terms: name -> weight of every term that is on.
        shapes: name of each tensor of the first iteration that is not empty -> its shape.
        images: unlabelled and labelled images of an iteration.
        micro: images of the largest micro-batch.
        seconds: reading of each of the first iterations, in this process.
        unreadable: name -> reason of samples among them that could not be read.
        memory: the estimate.
        licenses: of all weights.
        conversions: how the answers of teachers in other spaces become the student's.
        unsound: what ``allow_unsound`` permits.
    """

    name: str
    iterations: int
    models: list[ModelSize]
    terms: Mapping[str, float]
    shapes: Mapping[str, tuple[int, ...]]
    images: tuple[int, int]
    micro: int
    seconds: list[float]
    unreadable: Mapping[str, str]
    memory: Memory
    licenses: list[str] = field(default_factory=list)
    conversions: list[str] = field(default_factory=list)
    unsound: list[str] = field(default_factory=list)


def plan_run(run: RunConfig) -> Iterator[StagePlan]:
    """The plan of every stage, one by one.

    Raises:
        DadkitError: whatever training would stop at before its first iteration: a file that is missing, parts that do not fit.
    """
    cards: dict[str, ModelCard] = {}
    for config in run.stages:
        here = config.model_copy(update={"data": config.data.model_copy(update={"workers": 0})})
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*meta parameter.*no-op")  # weights are read, and have nowhere to go
            stage = build_stage(run, here, cards, _META)
        yield _plan(run, stage)
        cards[config.name] = _card(config, stage, cards)


def _plan(run: RunConfig, stage: Stage) -> StagePlan:
    batches, seconds = stage.data.iterations(0), list[float]()
    first: Iteration | None = None
    for _ in range(BATCHES):
        begun = time.monotonic()
        read = next(batches)
        seconds.append(time.monotonic() - begun)
        first = first or read
    assert first is not None
    models = _models(stage)
    parts = list(micro_batches(first, stage.config.optim.accumulate))
    largest = max(parts, key=lambda part: sum(part.here))
    kinds = (("unlabelled", first.unlabelled), ("labelled", first.labelled))
    return StagePlan(
        name=stage.name,
        iterations=stage.iterations,
        models=models,
        terms=_terms(stage, first),
        shapes={
            f"{kind}.{name}": tuple(t.shape)
            for kind, batch in kinds
            if batch is not None
            for name, t in batch.tensors()
            if t.numel()
        },
        images=first.counts,
        micro=sum(largest.here),
        seconds=seconds,
        unreadable=stage.data.unreadable,
        memory=estimate_memory(stage, largest, _device(run.device), trained=models[0].trained),
        licenses=list(stage.licenses),
        conversions=list(stage.conversions),
        unsound=list(stage.unsound),
    )


def _device(name: str) -> torch.device:
    """The kind of device whose rules the estimate follows. The machine that plans need not have it."""
    return torch.device("cuda" if name.startswith("cuda") or (name == "auto" and torch.cuda.is_available()) else "cpu")


def _card(config: StageConfig, stage: Stage, cards: Mapping[str, ModelCard]) -> ModelCard:
    """What later stages build on."""
    assert config.student is not None
    if config.student.stage is not None:
        earlier = cards[config.student.stage]
        component, options = earlier.component, dict(earlier.options)
    else:
        component, options = str(config.student.name), rebuild_options(config.student.options)
    return ModelCard(component, options, str(stage.student.spec.space), list(stage.licenses), {}, "", config.name, 0, "")


def _models(stage: Stage) -> list[ModelSize]:
    student = stage.student
    trained = {id(p) for group in student.param_groups() for p in group["params"]}
    if stage.config.optim.encoder_lr == 0:
        trained -= {id(p) for group in student.param_groups() if group["name"] == "encoder" for p in group["params"]}
    number = sum(p.numel() for p in student.parameters() if id(p) in trained)
    config = stage.config
    found = [ModelSize("student", _called(config.student), str(student.spec.space), _count(student), number)]
    found += [ModelSize("teacher", t.name, str(t.model.spec.space), _count(t.model)) for t in stage.step.teachers]
    reference = stage.step.reference
    if reference is not None:
        follows = config.losses.feature.reference
        called = reference.spec.name if isinstance(follows, str) else _called(follows)
        found.append(ModelSize("reference", called, "features", _count(reference)))
    return found


def _called(config: StudentConfig | ReferenceConfig | None) -> str:
    """As the configuration calls a model: its registered name, or the stage that it comes from."""
    assert config is not None
    return config.name or f"stage:{config.stage}"


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _terms(stage: Stage, data: Iteration) -> dict[str, float]:
    """Name -> weight of the terms that have something to look at."""
    given = {"labels"} if data.labelled is not None else set[str]()
    if data.unlabelled is not None:
        given |= {"features"} | ({"regions", "patches", "teachers"} if stage.step.teachers else set())
    return {name: weight for name, weight, term, _ in stage.step.terms if term.needs & given}
