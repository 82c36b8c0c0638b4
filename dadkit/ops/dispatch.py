"""Which implementation runs: the fused operators of ``csrc/`` or the pure-PyTorch reference."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor

from dadkit.ops import fused

__all__ = ["Backend", "choose", "preferred", "reads_half", "resolve"]

Backend = Literal["auto", "fused", "reference"]
Operation = TypeVar("Operation", bound=Callable[..., Any])

_preferred: Backend = "auto"


@contextlib.contextmanager
def preferred(backend: Backend) -> Iterator[None]:
    """Sets what ``"auto"`` means, in the whole process, until the block ends.

    A training run sets its ``backend`` once by it, so that no operation is left out: losses, scales, statistics, and whatever
    plugins call.
    """
    global _preferred
    check_backend(backend)
    before, _preferred = _preferred, backend
    try:
        yield
    finally:
        _preferred = before


def resolve(backend: str, *tensors: Tensor) -> Literal["fused", "reference"]:
    """Returns what ``backend`` means for these tensors.

    Args:
        backend: ``"auto"`` is the one that :func:`preferred` names; without it, fused where that is built and fits, else the
            reference. ``"fused"`` never falls back.
        tensors: the inputs; their device and dtype decide.

    Raises:
        ValueError: no such backend.
        RuntimeError: ``"fused"`` was asked for and cannot run; the message says why and what to do.
    """
    backend = effective(backend)
    if backend == "reference":
        return "reference"
    reason = fused.why_not(*tensors)
    if reason is None and (backend == "fused" or fused.proven(*tensors)):
        return "fused"
    if backend == "fused":
        raise cannot_run(reason)
    return "reference"


def choose(backend: str, compiled: Operation | None, reference: Operation, *tensors: Tensor) -> Operation:
    """Returns the implementation of one operation that ``backend`` means for these tensors.

    Args:
        backend: as in :func:`resolve`.
        compiled: the fused implementation; None if there is none.
        reference: the function that specifies it, with the same parameters.
        tensors: the inputs.

    Raises:
        ValueError, RuntimeError: as in :func:`resolve`.
    """
    if compiled is not None:
        return compiled if resolve(backend, *tensors) == "fused" else reference
    if effective(backend) == "fused":
        raise cannot_run(fused.why_not(*tensors) or f"there is no fused {reference.__name__}")
    return reference


def reads_half(backend: str, *maps: Tensor) -> bool:
    """Returns True if what ``backend`` means for these maps of a loss reads float16 and bfloat16 with no copy in float32.

    That is what the fused operators do on CUDA. Everything else is given float32.
    """
    halves = any(x.dtype in fused.HALF for x in maps) and all(x.is_cuda and x.dtype != torch.float64 for x in maps)
    return halves and resolve(backend, *maps) == "fused"


def effective(backend: str) -> str:
    """Returns ``backend``, checked, or what :func:`preferred` says in place of ``"auto"``."""
    check_backend(backend)
    return _preferred if backend == "auto" else backend


def check_backend(backend: str) -> None:
    """Raises ValueError unless ``backend`` is one."""
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {', '.join(map(repr, get_args(Backend)))}; got {backend!r}")


def cannot_run(reason: str | None) -> RuntimeError:
    """Returns the error for ``backend="fused"`` where it cannot run."""
    return RuntimeError(
        f"backend='fused' cannot run here: {reason}. `dadkit doctor` says what is built and how to get the rest; "
        "backend='auto' uses the reference where nothing faster fits."
    )
