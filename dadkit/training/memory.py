"""How much memory a stage's models need, estimated without any: the networks run on tensors that have shapes and no values.

Autocast and the choice of kernels depend on the device, so the tensors say that they are on the device of the run
(``torch._subclasses.FakeTensorMode``), which the ``meta`` device cannot.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

from dadkit.errors import DadkitError
from dadkit.interfaces import Prediction
from dadkit.training.batch_norm import explained_batch_norm
from dadkit.training.label_cache import CachedTeacher
from dadkit.training.micro import Iteration
from dadkit.training.shard import find_blocks
from dadkit.training.stage import Stage

__all__ = ["Memory", "estimate_memory"]


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
        teacher.model.model if isinstance(teacher.model, CachedTeacher) else teacher.model for teacher in stage.step.teachers
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
    """What a process holds of a frozen model while it runs: all of it; or, where its ``blocks`` are spread, its part, what
    belongs to no block, and the two largest blocks (one runs, the next is being gathered).
    """
    whole, parts = _bytes(model), sorted(_bytes(block) for block in blocks)
    if processes == 1 or not parts:
        return whole
    return whole // processes + whole - sum(parts) + sum(parts[-2:])


def _views(stage: Stage, part: Iteration) -> list[Tensor]:
    """What a teacher sees of a micro-batch: regions and patches in one forward pass where they have one size."""
    batch, needs = part.unlabelled, stage.step.needs
    if batch is None:
        return []
    views = [batch.images] if needs & {"regions", "teachers"} else []
    views += [batch.patches.flatten(0, 1)] if "patches" in needs and batch.patches is not None else []
    return [torch.cat(views)] if len(views) == 2 and views[0].shape[1:] == views[1].shape[1:] else views


def _peak(
    model: nn.Module, images: Tensor, device: torch.device, autocast: torch.dtype | None, *, backward: bool = False
) -> int:
    """The most bytes that a forward pass (and a backward pass) of uint8 ``images`` holds, weights and gradients apart."""
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
