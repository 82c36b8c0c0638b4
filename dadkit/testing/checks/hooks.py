"""What a hook owes to training: calls that exist, and a state that a checkpoint can keep."""

from __future__ import annotations

import io
from typing import Any

import torch

from dadkit.errors import did_you_mean
from dadkit.testing.check import check, fail
from dadkit.testing.subject import Subject
from dadkit.training import Hook


@check("hook", since=1)
def builds(subject: Subject) -> None:
    """Its options build a Hook."""
    if not isinstance(subject.shared, Hook):
        fail(f"it built a {type(subject.shared).__qualname__}", "Derive it from dadkit.training.Hook")


@check("hook", since=1, needs=["builds"])
def calls_exist(subject: Subject) -> None:
    """Each of its methods on_… is one that training calls."""
    known = [name for name in dir(Hook) if name.startswith("on_")]
    for name in dir(subject.shared):
        if name.startswith("on_") and name not in known:
            fail(f"nothing calls {name}{did_you_mean(name, known)}", "Rename it")


@check("hook", since=1, needs=["builds"])
def state(subject: Subject) -> None:
    """What state_dict returns survives a checkpoint (``weights_only=True``), and a new hook takes it over."""
    buffer = io.BytesIO()
    torch.save(subject.shared.state_dict(), buffer)
    buffer.seek(0)
    try:
        kept = torch.load(buffer, weights_only=True)
    except Exception as error:  # torch raises several types
        fail(f"its state cannot be read back: {error}", "Keep tensors and plain data only")
    new = subject.fresh(seed=1)
    new.load_state_dict(kept)
    if _plain(new.state_dict()) != _plain(kept):
        fail("a new hook with its state has another one", "Put everything back in load_state_dict")


def _plain(state: Any) -> Any:
    """Returns a state with lists in place of tensors."""
    if isinstance(state, torch.Tensor):
        return state.tolist()
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    return [_plain(value) for value in state] if isinstance(state, list | tuple) else state
