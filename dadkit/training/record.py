"""What a stage was begun with and how it ended, on disk: the reason why a rerun goes on, skips, or refuses.

``stage.json`` is written before the first iteration. It holds the part of the configuration that the result depends on, what
was in the weight files that the stage's models were built from, and a hash of both. A rerun with the same goes on or skips. A
rerun with another configuration, or with a file whose content changed, is refused: the stage's files would then tell two
stories. ``done.json`` is written after everything else.

A configuration names a weight file, not what is in it. So the record holds, for every file that was read while models were
built, the SHA-256 of its content, and size and time of change, by which an unchanged file is known again without reading its
gigabytes.

``run.json`` says with what, where and how a run was made, so that somebody else can make it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from dadkit._version import __version__
from dadkit.config.schema import ReferenceConfig, RunConfig, StageConfig, StudentConfig, TeacherConfig
from dadkit.config.sections import find_slots
from dadkit.errors import DadkitError
from dadkit.files import write_text
from dadkit.loading import INITIAL_WEIGHTS
from dadkit.plugin import Component, get_registry
from dadkit.training.checkpoint import file_sha256
from dadkit.training.folder import RunFolder, StageFolder
from dadkit.weights.hub import commit_of
from dadkit.weights.sources import find_again

__all__ = [
    "ConfigChangedError",
    "Notes",
    "StageRecord",
    "begin",
    "changes",
    "check_begun",
    "component_versions",
    "describe",
    "describe_run",
    "fingerprint",
    "finish",
    "look_again",
    "named_files",
    "note_weights",
    "read_done",
    "run_components",
]


Notes = Mapping[str, Mapping[str, Any]]
"""Name of each file -> ``sha256``, ``bytes``, ``mtime_ns``, and ``commit`` of one that comes from the hub."""

_SHOWN = 12  # digits of a hash


def describe(files: Mapping[str, Path], noted: Notes | None = None) -> dict[str, dict[str, Any]]:
    """Returns what is in the files.

    Args:
        files: name -> path.
        noted: what was found before; a file whose size and time of change are as noted is not read again.
    """
    return {name: _describe(file, (noted or {}).get(name, {})) for name, file in sorted(files.items())}


def look_again(noted: Notes) -> dict[str, dict[str, Any]]:
    """Returns the same files as they are now. One that is not there any more stays as noted: what was made from it is made."""
    there = {name: file for name in noted if (file := find_again(name)) is not None}
    return {**{name: dict(note) for name, note in noted.items()}, **describe(there, noted)}


def changes(before: Notes, now: Notes) -> Iterator[tuple[str, str, str]]:
    """(what, old, new) of every file with another content, for the message."""
    for name in sorted({*before, *now}):
        old, new = before.get(name, {}), now.get(name, {})
        if old.get("sha256") != new.get("sha256"):
            yield f"the weights in {name}", _words(old), _words(new)


def named_files(config: StageConfig) -> dict[str, Path]:
    """Returns the files that the models' options ``weights`` and ``init`` name outright, whoever reads them."""
    reference = config.losses.feature.reference
    sections = [config.student, *config.teachers, reference if isinstance(reference, ReferenceConfig) else None]
    options = [section.options.get(name) for section in sections if section is not None for name in INITIAL_WEIGHTS]
    texts = [option for option in options if isinstance(option, str | Path)]
    return {str(path): path for path in (Path(text).expanduser() for text in texts) if path.is_file()}


def _describe(file: Path, noted: Mapping[str, Any]) -> dict[str, Any]:
    stat = file.stat()
    known = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    same = all(noted.get(key) == value for key, value in known.items())
    digest = noted["sha256"] if same else _sha256(file.resolve(), stat.st_size, stat.st_mtime_ns)
    commit = commit_of(file)
    return {"sha256": digest, **known, **({"commit": commit} if commit else {})}


@lru_cache
def _sha256(file: Path, size: int, mtime_ns: int) -> str:
    """Once for all stages and runs of this process."""
    return file_sha256(file)


def _words(note: Mapping[str, Any]) -> str:
    if not note:
        return "not used"
    if "commit" in note:
        return f"commit {note['commit'][:_SHOWN]}"
    changed = datetime.fromtimestamp(note["mtime_ns"] / 1e9)
    return f"{note['sha256'][:_SHOWN]}… of {changed:%Y-%m-%d %H:%M:%S}"


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
        weights: the files that student and teachers began with.
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
    weights: tuple[str, ...] = ()

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
    """Returns the names of the earlier stages whose results this one takes, sorted."""
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
    """Returns the record of a stage that is finished with this configuration and whose result is intact, else None."""
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


REPORTED = ("numpy", "timm", "safetensors", "pillow")


def run_components(run: RunConfig) -> list[Component]:
    """Returns every registered component that the run names, each once."""
    registry = get_registry()
    found: dict[tuple[str, str], Component] = {}
    for slot in find_slots(RunConfig, run.model_dump()):
        name = slot.value.get("name")
        if name is not None:
            component = registry.resolve_first(slot.kinds, name)
            found[component.kind, component.name] = component
    return list(found.values())


def component_versions(components: Sequence[Component]) -> dict[str, str]:
    """Distribution -> version of dadkit and of every plugin that takes part."""
    return {"dadkit": __version__, **{c.distribution: c.version for c in components}}


def describe_run(
    run: RunConfig, components: Sequence[Component], stages: Sequence[StageRecord], *, device: torch.device, processes: int = 1
) -> dict[str, Any]:
    """Plain data for ``run.json``.

    Args:
        run: the configuration.
        components: from :func:`run_components`.
        stages: the records of the finished stages, in order.
        device: where it is trained.
        processes: that train it together.
    """
    return {
        "name": run.name,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
        "versions": {
            **component_versions(components),
            "python": platform.python_version(),
            "torch": torch.__version__,
            **{name: metadata.version(name) for name in REPORTED},
        },
        "environment": {**_environment(device), "processes": processes},
        "licenses": list(dict.fromkeys(name for stage in stages for name in stage.licenses)),
        "components": [component.provenance() for component in components],
        "stages": [stage.plain() for stage in stages],
    }


def _environment(device: torch.device) -> Mapping[str, Any]:
    found: dict[str, Any] = {
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
    }
    if device.type == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return found
