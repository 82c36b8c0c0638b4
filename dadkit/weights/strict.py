"""Loading a state dict whole, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from dadkit.weights.errors import WeightsError
from dadkit.weights.families import recognise
from dadkit.weights.reading import some

__all__ = ["load_strict"]


def load_strict(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    source: str | Path,
    optional: Callable[[str], bool] = lambda name: False,
    hint: str = "",
    names: Iterable[str] = (),
) -> None:
    """Copy ``state`` into ``module``, all of it, or raise and copy nothing.

    Args:
        module: gets the values, in its own dtype and on its own device.
        state: name -> tensor, names as in ``module.state_dict()``.
        source: the file, for the message.
        optional: whether a name of ``module`` may be missing from ``state``; it then keeps its value.
        hint: what the caller knows about the file, for the message: which model it looks like, what to do.
        names: the file's own names where ``state``'s are changed: they tell which model of which plugin it is. Default:
            ``state``'s, among which unknown names usually stand unchanged.

    Raises:
        WeightsError: names are missing or unexpected, or shapes differ; the message counts and lists them, and says which
            model the file looks like if its names are those of a family that dadkit knows.
    """
    own = module.state_dict()
    problems = [
        _listed("missing", [name for name in own if name not in state and not optional(name)]),
        _listed("unexpected", [name for name in state if name not in own]),
        _listed(
            "of another shape",
            [
                f"{name} (file {tuple(state[name].shape)}, model {tuple(own[name].shape)})"
                for name in own
                if name in state and state[name].shape != own[name].shape
            ],
        ),
    ]
    problems = [problem for problem in problems if problem]
    if problems:
        more = [hint, _looks_like(tuple(names) or tuple(state), hint)]
        first = f"the weights in {source} do not fit {type(module).__name__}"
        raise WeightsError("\n  ".join([first, *problems, *filter(None, more)]))
    # Only names allowed by ``optional`` can still be missing here.
    module.load_state_dict(state, strict=False)


def _looks_like(names: Sequence[str], hint: str) -> str:
    family = recognise(names)
    # A caller that names its own components knows more than the names tell.
    if family is None or f"{family.plugin}/" in hint:
        return ""
    return f"Its names are those of {family.words}: {family.advice}."


def _listed(what: str, names: Sequence[str]) -> str:
    return f"{len(names)} {what}: {some(names)}" if names else ""
