"""The weight files that a stage is built from: what was in them, and whether that is still so.

A configuration names a teacher's file, not what is in it. So the stage's record holds, for every file that was read while its
models were built, the SHA-256 of its content, and size and time of change, by which an unchanged file is known again without
reading its gigabytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from dadkit.config.schema import ReferenceConfig, StageConfig
from dadkit.loading import INITIAL_WEIGHTS
from dadkit.training.checkpoint import file_sha256
from dadkit.weights.hub import commit_of
from dadkit.weights.used import find_again

__all__ = ["Notes", "changes", "describe", "look_again", "named_files"]

Notes = Mapping[str, Mapping[str, Any]]
"""Name of each file -> ``sha256``, ``bytes``, ``mtime_ns``, and ``commit`` of one that comes from the hub."""

_SHOWN = 12  # digits of a hash


def describe(files: Mapping[str, Path], noted: Notes | None = None) -> dict[str, dict[str, Any]]:
    """What is in the files.

    Args:
        files: name -> path.
        noted: what was found before; a file whose size and time of change are as noted is not read again.
    """
    return {name: _describe(file, (noted or {}).get(name, {})) for name, file in sorted(files.items())}


def look_again(noted: Notes) -> dict[str, dict[str, Any]]:
    """The same files as they are now. One that is not there any more stays as noted: what was made from it is made."""
    there = {name: file for name in noted if (file := find_again(name)) is not None}
    return {**{name: dict(note) for name, note in noted.items()}, **describe(there, noted)}


def changes(before: Notes, now: Notes) -> Iterator[tuple[str, str, str]]:
    """(what, old, new) of every file with another content, for the message."""
    for name in sorted({*before, *now}):
        old, new = before.get(name, {}), now.get(name, {})
        if old.get("sha256") != new.get("sha256"):
            yield f"the weights in {name}", _words(old), _words(new)


def named_files(config: StageConfig) -> dict[str, Path]:
    """Files that the models' options ``weights`` and ``init`` name outright, whoever reads them."""
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
