"""What a stage was begun with and how it ended, on disk: the reason why a rerun goes on, skips, or refuses.

``stage.json`` is written before the first iteration: the part of the configuration that the result depends on, what was in the
weight files that its models were built from, and a hash of both. Running again with the same goes on or skips; another
configuration, or a file whose content changed, is refused, since the stage's files would then tell two stories.
``done.json`` is written after everything else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dadkit.config.schema import ReferenceConfig, RunConfig, StageConfig, StudentConfig, TeacherConfig
from dadkit.errors import DadkitError
from dadkit.files import write_text
from dadkit.training.checkpoint import file_sha256
from dadkit.training.folder import RunFolder, StageFolder
from dadkit.training.weight_files import Notes, changes, describe, look_again, named_files

__all__ = ["ConfigChangedError", "StageRecord", "begin", "check_begun", "fingerprint", "finish", "note_weights", "read_done"]

WITHOUT_EFFECT = frozenset(
    {"log_every", "sample_every", "checkpoint_every", "keep_last", "max_nonfinite", "teacher_cache", "shard_teachers"}
)
"""Keys of a stage that may change between two sessions: the weights do not depend on them."""

DATA_WITHOUT_EFFECT = frozenset({"workers", "max_error_rate"})

IMPLIED = {"detach_scale": False, "backend": "auto"}
"""Options that components lost or gained since they were first released, and what a record that lacks them means."""


class ConfigChangedError(DadkitError):
    """A stage was begun with another configuration."""

    exit_code = 2


@dataclass(frozen=True)
class StageRecord:
    """How a stage ended.

    Attributes:
        name: of the stage.
        index: its place in the run.
        hash: of everything its weights depend on.
        sha256: of ``model.safetensors``.
        iterations: optimiser steps.
        step: the iteration that the weights are from: the last, or the best under validation.
        seconds: time spent, all sessions together.
        parameters: number of the model's parameters.
        nonfinite: iterations skipped.
        unreadable: number of distinct samples that could not be read.
        examples: some of them, with the reason.
        licenses: of all weights that went in.
        conversions: how the answers of teachers in other spaces became the student's.
        unsound: what ``allow_unsound`` permitted.
    """

    name: str
    index: int
    hash: str
    sha256: str
    iterations: int
    step: int
    seconds: float
    parameters: int
    nonfinite: int
    unreadable: int
    examples: Mapping[str, str] = field(default_factory=dict)
    licenses: tuple[str, ...] = ()
    conversions: tuple[str, ...] = ()
    unsound: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Plain data, for ``run.json``."""
        return asdict(self)


def fingerprint(run: RunConfig, config: StageConfig, results: Mapping[str, Path]) -> dict[str, Any]:
    """Everything that the stage's weights depend on, as plain data.

    Earlier stages' results that it builds on enter by the hash of their files.
    """
    stage = config.model_dump(mode="json", exclude=set(WITHOUT_EFFECT))
    stage["data"] = {key: value for key, value in stage["data"].items() if key not in DATA_WITHOUT_EFFECT}
    hooks = [hook.model_dump(mode="json") for hook in run.hooks]
    return {
        "seed": run.seed,
        "deterministic": run.deterministic,
        "validation": run.evaluation.model_dump(mode="json") if run.evaluation and config.validate_every else None,
        "stage": stage,
        **({"hooks": hooks} if hooks else {}),  # earlier records have no such key
        "builds_on": {name: file_sha256(results[name]) for name in _builds_on(config)},
    }


def check_begun(run: RunConfig, folder: RunFolder) -> None:
    """Check all stages that were begun before anything is written; see :func:`begin`."""
    results = {stage.name: folder.stage(stage.name).model for stage in run.stages}
    for config in run.stages:
        files = folder.stage(config.name)
        if files.begun.is_file() and all(results[name].is_file() for name in _builds_on(config)):
            begin(files, fingerprint(run, config, results))


def _builds_on(config: StageConfig) -> list[str]:
    """Names of the earlier stages whose results this one takes, sorted."""
    sources = [config.student, *config.teachers, config.losses.feature.reference]
    stages = (s.stage for s in sources if isinstance(s, StudentConfig | TeacherConfig | ReferenceConfig))
    return sorted({name for name in stages if name is not None})


def begin(folder: StageFolder, found: Mapping[str, Any]) -> str:
    """Note what the stage is trained with, or check that it is what the stage was begun with. Returns its hash.

    Weight files that were noted (:func:`note_weights`) are looked at again; those that are gone are no obstacle.

    Raises:
        ConfigChangedError: it is not; the message lists the differences and says what to do.
    """
    if not (folder.begun.is_file() and _has_weights(folder)):  # never begun, or it failed before its first checkpoint
        return _write(folder, found)
    before = json.loads(folder.begun.read_text())
    noted: Notes = before.get("weights", {})
    now = look_again(noted)
    differing = [(path, _short(old), _short(new)) for path, old, new in _differences(before["trained_with"], dict(found))]
    _refuse(folder, [*differing, *changes(noted, now)])
    if now != noted:  # the same content, copied or touched: next time it need not be read
        return _write(folder, before["trained_with"], now)
    return str(before["hash"])


def note_weights(folder: StageFolder, config: StageConfig, files: Mapping[str, Path], results: Mapping[str, Path]) -> str:
    """Note what is in the files that the stage's models were built from, or check that it is what it was. Returns the hash.

    Args:
        folder: the stage's, in which :func:`begin` was called.
        config: the stage's.
        files: name -> path of all that were read.
        results: earlier stages' results, which :func:`fingerprint` has among them already.

    Raises:
        ConfigChangedError: it has changed since the last checkpoint.
    """
    own = {path.resolve() for path in results.values()}
    used = {name: file for name, file in {**named_files(config), **files}.items() if file.resolve() not in own}
    before = json.loads(folder.begun.read_text())
    noted: Notes | None = before.get("weights")
    now = describe(used, noted)
    if noted is not None and _has_weights(folder):
        _refuse(folder, list(changes(noted, now)))
    return _write(folder, before["trained_with"], now)


def _has_weights(folder: StageFolder) -> bool:
    """True if there is anything that was trained."""
    return folder.done.is_file() or any(folder.checkpoints.glob("step-*"))


def _refuse(folder: StageFolder, differing: Sequence[tuple[str, str, str]]) -> None:
    if not differing:
        return
    shown = "\n  ".join(f"{what}: {old} -> {new}" for what, old, new in differing)
    raise ConfigChangedError(
        f"stage '{folder.path.name}' in {folder.path.parent.parent} was begun with another configuration:\n  {shown}\n"
        "Take the change back to go on with it, give the run another name (name=…), train this stage again by removing "
        f"{folder.path}, or the whole run with --fresh. To train a finished result further, begin a run of another name "
        f"from it: student.options.weights={folder.model}"
    )


def _write(folder: StageFolder, found: Mapping[str, Any], weights: Notes | None = None) -> str:
    contents = {name: note["sha256"] for name, note in (weights or {}).items()}
    digest = _hash({**found, "weights": contents} if contents else found)
    noted = {} if weights is None else {"weights": weights}
    write_text(folder.begun, json.dumps({"hash": digest, "trained_with": found, **noted}, indent=2) + "\n")
    return digest


def read_done(folder: StageFolder, digest: str) -> StageRecord | None:
    """The record of a stage that is finished with this configuration and whose result is intact, else None."""
    if not (folder.done.is_file() and folder.model.is_file()):
        return None
    record = StageRecord(**json.loads(folder.done.read_text()))
    intact = record.hash == digest and file_sha256(folder.model) == record.sha256
    return record if intact else None


def finish(folder: StageFolder, record: StageRecord) -> None:
    """Mark the stage as finished."""
    write_text(folder.done, json.dumps(record.plain(), indent=2) + "\n")


def _hash(found: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted path, old, new) of everything that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            implied = IMPLIED.get(key)
            yield from _differences(old.get(key, implied), new.get(key, implied), f"{path}.{key}" if path else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(before, after, f"{path}[{index}]")
    elif old != new:
        yield path, old, new


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "…"
