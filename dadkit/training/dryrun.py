"""What a run would do, without doing it: stages built without memory, two batches read, memory estimated.

The estimate runs the networks on tensors that have shapes and no values. Autocast and the choice of kernels depend on the
device, so the tensors say that they are on the device of the run (``torch._subclasses.FakeTensorMode``), which the ``meta``
device cannot.
"""

from __future__ import annotations

import os
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

from dadkit.config.schema import RunConfig, StageConfig
from dadkit.config.sections import ReferenceConfig, StudentConfig
from dadkit.errors import DadkitError
from dadkit.interfaces import Prediction
from dadkit.loading import ModelCard, rebuild_options
from dadkit.training.batches import Iteration, explained_batch_norm, micro_batches
from dadkit.training.build import build_stage
from dadkit.training.label_cache import CachedTeacher
from dadkit.training.labels import StoredMaps
from dadkit.training.shard import find_blocks
from dadkit.training.stage import Stage

__all__ = [
    "Memory",
    "ModelSize",
    "StagePlan",
    "estimate_memory",
    "plan_run",
]


@dataclass(frozen=True)
class Memory:
    """An estimate, in bytes, of what a stage needs on its device. Losses, labels, the feature reference's forward pass and the
    libraries themselves come on top.

    Attributes:
        models: weights of student, teachers and reference; with ``shard_teachers`` what this process holds of the last two.
        optimiser: gradients, Adam's two moments, and the averaged weights if there are some.
        student: the most that forward and backward pass of one micro-batch hold at a time; None if the model cannot be run
            without values.
        teachers: the most that a teacher's forward pass on the views of one micro-batch holds; 0 without teachers, None as
            above. It is over before the student's begins.
        reason: why one of the two is None.
        processes: over how many the weights of frozen models are spread; more than 1 under ``torchrun`` only.
        spread: bytes of these weights that ``shard_teachers`` spreads; 0 without it.
    """

    models: int
    optimiser: int
    student: int | None
    teachers: int | None = 0
    reason: str = ""
    processes: int = 1
    spread: int = 0

    @property
    def total(self) -> int:
        """Everything known, at the time at which it is the most."""
        return self.models + self.optimiser + max(self.student or 0, self.teachers or 0)


def estimate_memory(stage: Stage, part: Iteration, device: torch.device, *, trained: int) -> Memory:
    """Estimate the memory of a stage that was built on ``meta``.

    Args:
        stage: the stage.
        part: its largest micro-batch.
        device: where it will run.
        trained: number of trained parameters.
    """
    teachers: list[nn.Module] = [
        teacher.model.model if isinstance(teacher.model, CachedTeacher) else teacher.model
        for teacher in stage.step.teachers
        if not isinstance(teacher.model, StoredMaps)
    ]
    frozen = [*teachers, *([stage.step.reference] if stage.step.reference is not None else [])]
    blocks = {model: find_blocks(model) if stage.config.shard_teachers else [] for model in frozen}
    processes = int(os.environ.get("WORLD_SIZE", "1")) if stage.config.shard_teachers else 1
    weights = _bytes(stage.student) + sum(_held(model, parts, processes) for model, parts in blocks.items())
    spread = sum(_bytes(model) for model, parts in blocks.items() if parts)
    averaged = 0 if stage.config.ema is None else 4 * sum(p.numel() for p in stage.student.parameters())
    autocast = torch.bfloat16 if stage.config.precision == "bf16" else None
    reasons: list[str] = []

    def known(peak: Callable[[], int]) -> int | None:
        try:
            return peak()
        except DadkitError:
            raise
        except Exception as error:  # whatever a model stumbles over that looks at values
            reasons.append(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}")
            return None

    seen = [batch.student_images for batch in (part.unlabelled, part.labelled) if batch is not None]

    def of_student() -> int:
        with explained_batch_norm(part, stage.config):
            return _peak(stage.student, torch.cat(seen), device, autocast, backward=True)

    student = known(of_student)
    asked = [known(partial(_peak, model, view, device, autocast)) for model in teachers for view in _views(stage, part)]
    found = [peak for peak in asked if peak is not None]
    at_most = max(found, default=0) if len(found) == len(asked) else None
    return Memory(weights, 12 * trained + averaged, student, at_most, "; ".join(dict.fromkeys(reasons)), processes, spread)


def _bytes(model: nn.Module) -> int:
    return sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])


def _held(model: nn.Module, blocks: Sequence[nn.Module], processes: int) -> int:
    """Returns what a process holds of a frozen model while it runs: all of it; or, where its ``blocks`` are spread, its part,
    what belongs to no block, and the two largest blocks (one runs, the next is being gathered).
    """
    whole, parts = _bytes(model), sorted(_bytes(block) for block in blocks)
    if processes == 1 or not parts:
        return whole
    return whole // processes + whole - sum(parts) + sum(parts[-2:])


def _views(stage: Stage, part: Iteration) -> list[Tensor]:
    """Returns what a teacher sees of a micro-batch: regions and patches in one forward pass where they have one size."""
    batch, needs = part.unlabelled, stage.step.needs
    if batch is None:
        return []
    views = [batch.images] if needs & {"regions", "teachers"} else []
    views += [batch.patches.flatten(0, 1)] if "patches" in needs and batch.patches is not None else []
    return [torch.cat(views)] if len(views) == 2 and views[0].shape[1:] == views[1].shape[1:] else views


def _peak(
    model: nn.Module, images: Tensor, device: torch.device, autocast: torch.dtype | None, *, backward: bool = False
) -> int:
    """Returns the most bytes that a forward pass (and a backward pass) of uint8 ``images`` holds, weights and
    gradients apart.
    """
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:

        def empty(like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
            return FakeTensor(mode, torch.empty_like(like, dtype=dtype, device="meta"), device)

        tensors = {name: empty(p).requires_grad_(backward and p.requires_grad) for name, p in model.named_parameters()}
        for parameter in tensors.values():
            parameter.grad = empty(parameter) if parameter.requires_grad else None
        tensors |= {name: empty(buffer) for name, buffer in model.named_buffers()}
        x = empty(images, torch.float32)
        own = [x, *tensors.values(), *(t.grad for t in tensors.values() if t.grad is not None)]
        half = torch.autocast(device.type, dtype=autocast) if autocast is not None else nullcontext()
        with _Meter(own) as meter, torch.set_grad_enabled(backward):
            with half:
                answer = functional_call(model.train(backward), tensors, (x,))
            if backward:
                assert isinstance(answer, Prediction)
                answer.depth.sum().backward()
        return meter.peak


class _Meter(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, for as long as they live.

    Attributes:
        peak: the most at a time.
    """

    def __init__(self, own: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._now = 0
        self._known: Any = WeakIdKeyDictionary()
        for tensor in own:
            self._known[tensor.untyped_storage()] = True

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = function(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._note, answer)
        return answer

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self._known[storage] = True
        weakref.finalize(storage, self._free, storage.nbytes())
        self._now += storage.nbytes()
        self.peak = max(self.peak, self._now)

    def _free(self, size: int) -> None:
        self._now -= size


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
    """Returns the kind of device whose rules the estimate follows. The machine that plans need not have it."""
    return torch.device("cuda" if name.startswith("cuda") or (name == "auto" and torch.cuda.is_available()) else "cpu")


def _card(config: StageConfig, stage: Stage, cards: Mapping[str, ModelCard]) -> ModelCard:
    """Returns what later stages build on."""
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
