"""The tensors of a weight file, and what the configuration beside them says."""

from __future__ import annotations

import argparse
import json
import logging
import math
import pickle
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dadkit.errors import WeightsError, first_line
from dadkit.files import really
from dadkit.weights import hub
from dadkit.weights.renaming import open_containers, strip_wrappers
from dadkit.weights.sources import WEIGHT_NAMES, checksum_problem, find_file, note_file, shards_of

__all__ = ["WeightFile", "read_config", "read_file", "read_weights", "some"]

_log = logging.getLogger(__name__)
_CARD = "dadkit"  # the key of dadkit.loading.ModelCard

_SHOWN = 8

_INERT: list[Any] = [
    argparse.Namespace,
    PosixPath,
    np.ndarray,
    np.dtype,
    *{type(np.dtype(letter)) for letter in np.typecodes["All"]},
    *(
        (function, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")  # NumPy 1, NumPy 2
        for name, function in {"scalar": np.float64(0).__reduce__()[0], "_reconstruct": np.zeros(0).__reduce__()[0]}.items()
    ),
]
"""What trainers keep beside tensors and what runs no code when it is read, besides what torch itself knows."""


@dataclass(frozen=True)
class WeightFile:
    """What a weight file holds.

    Attributes:
        path: the file on this machine.
        tensors: name -> tensor on the CPU, names as in the file but for what training code wraps around them.
        beside: what is beside the tensors: the rest of a ``torch.save`` file, or the metadata of a safetensors file.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    beside: Mapping[str, Any]

    @property
    def card(self) -> Mapping[str, Any]:
        """What dadkit wrote into the metadata of its own result (``component``, ``options``, ``space``, …); else empty."""
        try:
            found = json.loads(self.beside[_CARD])
        except (KeyError, ValueError, TypeError):
            return {}
        return found if isinstance(found, dict) else {}


def read_weights(path: str | Path, *, containers: Sequence[str] = ("state_dict", "model")) -> dict[str, Tensor]:
    """Returns the tensors of :func:`read_file`; arguments and errors are the same."""
    return dict(read_file(path, containers=containers).tensors)


def read_file(path: str | Path, *, containers: Sequence[str] = ("state_dict", "model")) -> WeightFile:
    """Read a ``.safetensors`` or ``torch.save`` file, given as a file, a folder or a Hugging Face address.

    An index (``model.safetensors.index.json``) stands for all files that it names.

    Nothing in the file is executed: pickles are read with ``weights_only=True``, to which parsed arguments and NumPy's numbers
    and arrays are known. Where the file's name or its publisher states
    a checksum, a file that has another one gives a warning.

    Files as trainers save them are unwrapped: nested containers (``state_dict``, ``model``, ``ema``, …), and the words that
    wrappers put before names, ``module.`` and ``_orig_mod.``. Averaged weights are preferred to the others. The log says what
    was taken off or chosen. Other words before all names (``model.``, ``student.``) may be a model's own, so they are taken
    off by :func:`~dadkit.weights.load_strict`, where the model is known.

    Args:
        path: file; folder with a ``model.safetensors`` or the like; or ``hf://ORG/NAME[@REVISION][/FILE]``. ``~`` is the home
            folder.
        containers: keys under which training code hides the state dict, in order of preference; the first that the file
            has is opened. A file without any of them is searched for the usual ones, or is the state dict itself.

    Raises:
        WeightsError: no such file, an unreadable one, or one without tensors; or a download that failed.
    """
    file = find_file(path)
    problem = checksum_problem(file)
    try:
        saved, metadata = _open(file)
    except WeightsError as error:
        raise WeightsError("\n  ".join(filter(None, [str(error), problem]))) from error
    if problem:
        warnings.warn(problem, stacklevel=2)
    tensors, notes = open_containers(saved, containers)
    if not tensors:
        keys = f"its top level has the keys {some(map(str, saved))}" if saved else "it is an empty mapping"
        raise WeightsError(f"{file} holds no tensors; {keys}")
    if empty := [name for name, value in tensors.items() if value.is_meta]:
        raise WeightsError(f"{file} holds names and shapes without numbers (device 'meta'): {some(empty)}; save the model anew")
    tensors, more = strip_wrappers(tensors)
    broken = [name for name, value in tensors.items() if value.is_floating_point() and _overflowed(value)]
    if broken:
        warnings.warn(f"{file} holds NaN or infinity in {some(broken)}: a model of it answers NaN", stacklevel=2)
    for note in (*notes, *more):
        _log.warning("%s: %s", file, note)
    beside = metadata or {name: value for name, value in saved.items() if not isinstance(value, Tensor)}
    return WeightFile(file, tensors, beside)


def read_config(path: str | Path) -> Mapping[str, Any] | None:
    """Returns the ``config.json`` that belongs to weights given as to :func:`read_weights`; None where there is none.

    It is that of the folder or the repository, or is beside a file of one of a folder's usual names.

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


def _overflowed(value: Tensor) -> bool:
    """True if there is NaN or infinity; minus infinity alone is how masks are stored."""
    return value.numel() > 0 and not float(value.float().max()) < math.inf


def _joined(index: Path, names: Sequence[str]) -> dict[str, Any]:
    """Returns what the files hold that an index names, together."""
    saved: dict[str, Any] = {}
    for name in names:
        file = index.parent / name
        if not file.is_file():
            raise WeightsError(f"{index} names {name}, which is not beside it; fetch it too")
        note_file(file, file)
        saved |= _open(file)[0]
    return saved


def _is_safetensors(file: Path) -> bool:
    """By what the file begins with, since names are changed; by its name where that tells neither format."""
    with file.open("rb") as handle:
        head = handle.read(9)
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") < file.stat().st_size:
        return True
    return file.suffix == ".safetensors" and not head.startswith((b"PK\3\4", b"\x80"))


def _open(file: Path) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """Returns what was saved, and the metadata of a safetensors file."""
    if shards := shards_of(file):
        return _joined(file, shards), {}
    safe = False
    try:
        safe = _is_safetensors(file)
        if safe:
            from safetensors import safe_open
            from safetensors.torch import load_file

            with safe_open(file, framework="pt") as handle:
                metadata = handle.metadata() or {}
            return load_file(file), metadata
        # an open file, since torch.load goes by the name of another one
        with file.open("rb") as opened, torch.serialization.safe_globals(_INERT):
            state = torch.load(opened, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise whatever their reader stumbles over: zip, EOF, key, JSON errors
        words = really(file)
        if words is not None and (safe or words not in ("a zip archive", "a pickle")):
            raise WeightsError(f"cannot read {file}: the file is {words}") from error
        if "PytorchStreamReader" in str(error) or "incomplete metadata" in str(error):
            raise WeightsError(f"cannot read {file}: it is cut short or damaged; fetch it again") from error
        if "hasRecord" in str(error) or "not in a subdirectory" in str(error):
            raise WeightsError(f"cannot read {file}: it is a zip archive, but not one of torch.save; unpack it") from error
        if safe:
            raise WeightsError(f"cannot read {file}: no safetensors file, or a damaged one: {first_line(error)}") from error
        if file.suffix == ".onnx":
            raise WeightsError(f"{file} is an exported graph, not weights: it is a model itself, --model {file}") from error
        if isinstance(error, pickle.UnpicklingError) or "TorchScript" in str(error):
            kind = re.search(r"GLOBAL ([\w.]+)", str(error))
            what = f"it asks for {kind[1]}" if kind else "TorchScript" if "TorchScript" in str(error) else "no torch.save file?"
            raise WeightsError(
                f"{file} holds more than tensors ({what}), and dadkit runs no code from weight files. If you trust it, read it "
                "once with torch.load(…, weights_only=False) and save its state dict alone"
            ) from error
        raise WeightsError(f"cannot read {file}: {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(state, Mapping):
        raise WeightsError(f"{file} holds a {type(state).__name__}, not a state dict")
    return state, {}
