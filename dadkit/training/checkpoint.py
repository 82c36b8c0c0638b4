"""Checkpoints: a folder per step, written whole or not at all, verified when read, pruned to the last k and the best.

``step-00000500/`` holds ``model.safetensors`` (the student's weights), ``state.pt`` (everything else that a resume needs, only
tensors and plain data: it loads with ``weights_only=True``) and ``manifest.json`` (sizes and SHA-256 of the two). The folder is
written under another name and renamed, so a process killed at any moment leaves the previous checkpoint in place.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dadkit.errors import DadkitError
from dadkit.files import write_text

__all__ = ["Checkpoint", "CheckpointError", "Checkpoints", "contiguous_state", "file_sha256"]

MODEL, STATE, MANIFEST, BEST = "model.safetensors", "state.pt", "manifest.json", "best.json"
CHUNK = 1 << 20
# What json, safetensors, zipfile and torch raise on files that are not what they should be.
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    EOFError,
    SafetensorError,
    pickle.UnpicklingError,
)


class CheckpointError(DadkitError):
    """A checkpoint cannot be written or read; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """What was saved: iterations done, the student's weights, and the rest of the training state."""

    step: int
    model: Mapping[str, Tensor]
    state: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one stage.

    Args:
        folder: where they lie.
        keep_last: how many of the newest to keep; the best one is kept besides.
    """

    def __init__(self, folder: Path, *, keep_last: int) -> None:
        self.folder = folder
        self.keep_last = keep_last

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, oldest first."""
        names = [path.name for path in self.folder.glob("step-*") if path.is_dir()]
        return sorted(int(name.removeprefix("step-")) for name in names if name.removeprefix("step-").isdigit())

    def save(self, step: int, model: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
        """Write a checkpoint and prune old ones. Raises CheckpointError if it cannot; earlier ones are then untouched."""
        final = self._path(step)
        temporary = self.folder / f".{final.name}.{os.getpid()}.tmp"
        try:
            self._sweep()
            temporary.mkdir(parents=True)
            save_file(contiguous_state(model), temporary / MODEL, metadata={"format": "pt", "step": str(step)})
            torch.save(dict(state), temporary / STATE)
            manifest = {name: _describe(temporary / name) for name in (MODEL, STATE)}
            (temporary / MANIFEST).write_text(json.dumps({"step": step, "files": manifest}))
            for path in (temporary / MODEL, temporary / STATE, temporary / MANIFEST, temporary):
                _fsync(path)
            if final.exists():  # saved twice at one step; the old one may go once the new one is complete
                shutil.rmtree(final)
            temporary.replace(final)
            _fsync(self.folder)
        except (
            OSError,
            RuntimeError,
            SafetensorError,
        ) as error:  # torch and safetensors wrap a full disk in errors of their own
            shutil.rmtree(temporary, ignore_errors=True)
            raise CheckpointError(
                f"cannot save checkpoint {final}: {error}. Training stops here; "
                f"{self._fallback()} Free some space or mend the permissions, then run the same command again."
            ) from error
        self._prune()
        return final

    def load_newest(self) -> tuple[Checkpoint | None, list[str]]:
        """Returns the newest readable checkpoint, or None; and what to tell the user about damaged ones, which are
        set aside.
        """
        self._sweep()
        messages: list[str] = []
        for step in reversed(self.steps()):
            try:
                return self.load(step), messages
            except CheckpointError as error:
                aside = self._path(step).with_suffix(".damaged")
                shutil.rmtree(aside, ignore_errors=True)
                self._path(step).replace(aside)
                messages.append(f"{error} It was set aside as {aside.name}; going on from what was saved before it.")
        return None, messages

    def load(self, step: int) -> Checkpoint:
        """Returns the checkpoint of a step; raises CheckpointError if a file is missing, torn or altered."""
        path = self._path(step)
        try:
            manifest = json.loads((path / MANIFEST).read_text())
            altered = [name for name, expected in manifest["files"].items() if _describe(path / name) != expected]
            model = {} if altered else load_file(path / MODEL)
            state = {} if altered else torch.load(path / STATE, map_location="cpu", weights_only=True)
        except _UNREADABLE as error:
            raise CheckpointError(f"checkpoint {path} is damaged: {error}.") from error
        if altered:
            raise CheckpointError(f"checkpoint {path} is damaged: {', '.join(altered)} is not what was saved.")
        return Checkpoint(step, model, state)

    def mark_best(self, step: int, value: float) -> None:
        """Remember that the checkpoint of ``step`` is the best so far, with this value (lower is better)."""
        write_text(self.folder / BEST, json.dumps({"step": step, "value": value}))
        self._prune()

    def best(self) -> tuple[int, float] | None:
        """(step, value) of the best checkpoint, or None if none was marked or it is gone."""
        try:
            found = json.loads((self.folder / BEST).read_text())
        except FileNotFoundError:
            return None
        return (int(found["step"]), float(found["value"])) if self._path(found["step"]).is_dir() else None

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _prune(self) -> None:
        best = self.best()
        for step in self.steps()[: -self.keep_last]:
            if best is None or step != best[0]:
                shutil.rmtree(self._path(step), ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what killed processes left half written. The run's lock says that no other process writes here."""
        for path in self.folder.glob(".step-*.tmp"):
            shutil.rmtree(path, ignore_errors=True)

    def _fallback(self) -> str:
        steps = self.steps()
        return f"the checkpoint of step {steps[-1]} is intact." if steps else "there is no earlier checkpoint."


def contiguous_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors as safetensors takes them: on the CPU, contiguous, none sharing memory with another."""
    storages: set[int] = set()
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage()
        if storage.data_ptr() in storages or storage.nbytes() != plain.nbytes:  # tied weights, or a part of something larger
            plain = plain.clone()
        storages.add(plain.untyped_storage().data_ptr())
        result[name] = plain
    return result


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _describe(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
