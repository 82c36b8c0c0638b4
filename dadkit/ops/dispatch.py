"""Which implementation runs: the fused operators of ``csrc/`` or the pure-PyTorch reference.

``dadkit.ops.fused`` offers functions of the names and signatures of ``dadkit.ops.reference``,
``why_not(*tensors, name) -> str | None``: why the operator ``name`` cannot take these tensors, or None if it can, and
``proven(*tensors) -> bool``: whether ``"auto"`` may take it. It imports without the compiled library, and says then that there
is none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from torch import Tensor

from dadkit.ops import reference

try:
    import dadkit.ops.fused as fused
except ModuleNotFoundError as missing:
    if missing.name != "dadkit.ops.fused":
        raise
    fused = None

__all__ = ["Backend", "operator", "resolve"]

Backend = Literal["auto", "fused", "reference"]


def resolve(backend: str, *tensors: Tensor, name: str | None = None) -> Literal["fused", "reference"]:
    """What ``backend`` means for these tensors.

    Args:
        backend: ``"auto"`` is fused where that is built and fits, else the reference; ``"fused"`` never falls back.
        tensors: the inputs; their device and dtype decide.
        name: the operator; None asks for the library as a whole.

    Raises:
        ValueError: no such backend.
        RuntimeError: ``"fused"`` was asked for and cannot run; the message says why and what to do.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {', '.join(map(repr, get_args(Backend)))}; got {backend!r}")
    if backend == "reference":
        return "reference"
    reason = _why_not(name, *tensors)
    if reason is None and (backend == "fused" or fused.proven(*tensors)):
        return "fused"
    if backend == "fused":
        raise RuntimeError(
            f"backend='fused' cannot run here: {reason}. `dadkit doctor` says what is built and how to get the rest; "
            "backend='auto' uses the reference where nothing faster fits."
        )
    return "reference"


def operator(name: str, backend: str, *tensors: Tensor) -> Callable[..., Any]:
    """The implementation of the reference's function ``name`` that ``backend`` means for these tensors."""
    module = fused if resolve(backend, *tensors, name=name) == "fused" else reference
    return getattr(module, name)


def _why_not(name: str | None, *tensors: Tensor) -> str | None:
    if fused is None:
        return "the fused operators are not built into this installation"
    if name is not None and not hasattr(fused, name):
        return f"there is no fused {name}"
    return fused.why_not(*tensors, name=name)
