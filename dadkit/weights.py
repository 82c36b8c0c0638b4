"""Reading weight files, and loading them whole or not at all. For the authors of model plugins.

A checkpoint that fits only partly is the most expensive mistake of this field: the model runs, and its numbers are wrong.
So there is no ``strict=False`` here: what may be missing is named by the caller, and everything else is an error.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dadkit.errors import DadkitError

__all__ = ["WeightsError", "load_strict", "read_weights"]

_SHOWN = 8


class WeightsError(DadkitError):
    """A weight file cannot be read, or is not a file of this model."""

    exit_code = 2


def read_weights(path: str | Path, *, containers: Sequence[str] = ("state_dict", "model")) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file, of a ``torch.save`` file, or of a folder with a ``model.safetensors``.

    Nothing in the file is executed: pickles are read with ``weights_only=True``.

    Args:
        path: file or folder; ``~`` is the home folder.
        containers: keys under which training code hides the state dict, in order of preference; the first that the file
            has is opened. A file without any of them is the state dict itself.

    Returns:
        Name -> tensor on the CPU, names as in the file, without the ``module.`` that DataParallel puts before all of them.

    Raises:
        WeightsError: no such file, an unreadable one, or one without tensors.
    """
    path = Path(path).expanduser()
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise WeightsError(
            f"no weight file at {file}; give the path of a .safetensors or .pth file, or `none` for random weights"
        )
    state = _open(file)
    for container in containers:
        if isinstance(state.get(container), Mapping):
            state = state[container]
            break
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{file} holds no tensors; its top level has the keys {_some(map(str, state))}")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def load_strict(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    source: str | Path,
    optional: Callable[[str], bool] = lambda name: False,
    hint: str = "",
) -> None:
    """Copy ``state`` into ``module``, all of it, or raise and copy nothing.

    Args:
        module: gets the values, in its own dtype and on its own device.
        state: name -> tensor, names as in ``module.state_dict()``.
        source: the file, for the message.
        optional: whether a name of ``module`` may be missing from ``state``; it then keeps its value.
        hint: what the caller knows about the file, for the message: which model it looks like, what to do.

    Raises:
        WeightsError: names are missing or unexpected, or shapes differ; the message counts and lists them.
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
        raise WeightsError(
            "\n  ".join([f"the weights in {source} do not fit {type(module).__name__}", *problems, *([hint] if hint else [])])
        )
    # Only names allowed by ``optional`` can still be missing here.
    module.load_state_dict(state, strict=False)


def _open(file: Path) -> Mapping[str, Any]:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{file} holds more than tensors, or is no torch.save file; dadkit runs no code from weight files. If you trust "
            f"it, read it once with torch.load(…, weights_only=False) and save its state dict alone. ({_first_line(error)})"
        ) from error
    except Exception as error:  # damaged files raise whatever their reader stumbles over: zip, EOF, key, JSON errors
        raise WeightsError(f"cannot read {file}: {type(error).__name__}: {_first_line(error)}") from error
    if not isinstance(state, Mapping):
        raise WeightsError(f"{file} holds a {type(state).__name__}, not a state dict")
    return state


def _listed(what: str, names: Sequence[str]) -> str:
    return f"{len(names)} {what}: {_some(names)}" if names else ""


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (f", … and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]
