"""The tensors of a weight file, and what the configuration beside them says."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dadkit.weights import hub
from dadkit.weights.checksums import checksum_problem
from dadkit.weights.errors import WeightsError, first_line
from dadkit.weights.sources import WEIGHT_NAMES, find_file

__all__ = ["read_config", "read_weights", "some"]

_SHOWN = 8


def read_weights(path: str | Path, *, containers: Sequence[str] = ("state_dict", "model")) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` or ``torch.save`` file, given as a file, a folder or a Hugging Face address.

    Nothing in the file is executed: pickles are read with ``weights_only=True``. Where the file's name or its publisher states
    a checksum, a file that has another one gives a warning.

    Args:
        path: file; folder with a ``model.safetensors`` or the like; or ``hf://ORG/NAME[@REVISION][/FILE]``. ``~`` is the home
            folder.
        containers: keys under which training code hides the state dict, in order of preference; the first that the file
            has is opened. A file without any of them is the state dict itself.

    Returns:
        Name -> tensor on the CPU, names as in the file, without the ``module.`` that DataParallel puts before all of them.

    Raises:
        WeightsError: no such file, an unreadable one, or one without tensors; or a download that failed.
    """
    file = find_file(path)
    problem = checksum_problem(file)
    try:
        state = _open(file)
    except WeightsError as error:
        raise WeightsError("\n  ".join(filter(None, [str(error), problem]))) from error
    if problem:
        warnings.warn(problem, stacklevel=2)
    for container in containers:
        if isinstance(state.get(container), Mapping):
            state = state[container]
            break
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{file} holds no tensors; its top level has the keys {some(map(str, state))}")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def read_config(path: str | Path) -> Mapping[str, Any] | None:
    """The ``config.json`` that belongs to weights given as to :func:`read_weights`; None where there is none.

    It is that of the folder or the repository, or stands beside a file of one of a folder's usual names.

    Raises:
        WeightsError: it is no JSON mapping.
    """
    address = hub.parse(path)
    if address is not None:
        if address.file is not None and address.file not in WEIGHT_NAMES:
            return None
        try:
            file = hub.download(hub.Address(address.repo, "config.json", address.revision), ())
        except WeightsError:
            return None  # whatever is the matter, the weights themselves will tell
    else:
        path = Path(path).expanduser()
        if path.is_file() and path.name not in WEIGHT_NAMES:
            return None
        file = (path if path.is_dir() else path.parent) / "config.json"
        if not file.is_file():
            return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"cannot read {file}: {error}") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{file} holds a {type(found).__name__}, not a mapping")
    return found


def some(names: Iterable[str]) -> str:
    """``"a, b, c"``, cut short where there are many."""
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (f", … and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _open(file: Path) -> Mapping[str, Any]:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{file} holds more than tensors, or is no torch.save file; dadkit runs no code from weight files. If you trust "
            f"it, read it once with torch.load(…, weights_only=False) and save its state dict alone. ({first_line(error)})"
        ) from error
    except Exception as error:  # damaged files raise whatever their reader stumbles over: zip, EOF, key, JSON errors
        raise WeightsError(f"cannot read {file}: {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(state, Mapping):
        raise WeightsError(f"{file} holds a {type(state).__name__}, not a state dict")
    return state
