"""What a prediction will write: checked against what is there before anything starts, and without what is finished."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from dadkit.errors import DadkitError, UsageError
from dadkit.prediction.inputs import Film, Inputs, Job
from dadkit.prediction.outputs import FORMATS, MOVING
from dadkit.results import Results, read_results

__all__ = ["OverwriteError", "Plan", "Work", "check_targets", "identity", "make_plan", "target"]


_Job = TypeVar("_Job", Job, Film)

# A folder of such a name is hardly what somebody who typed it wants.
_OF_FILES = {Path(f"_{ending}").suffix for ending in (*FORMATS.values(), *MOVING.values())} | {".jpg", ".jpeg", ".tif", ".tiff"}


class OverwriteError(DadkitError):
    """A result would be written over a file that dadkit did not write."""

    exit_code = 2


@dataclass(frozen=True)
class Work(Generic[_Job]):
    """One image or film, the formats that are still to be written, and what the results are made of."""

    job: _Job
    formats: tuple[str, ...]
    fingerprint: str

    @property
    def name(self) -> str:
        """The stem of the results, relative to the output folder."""
        return self.job.stem.as_posix()

    @property
    def files(self) -> list[str]:
        """What will be written, relative to the output folder."""
        return [target(self.job, name) for name in self.formats]


@dataclass
class Plan:
    """What is to do.

    Attributes:
        output: folder of the results.
        results: the list of what is in it.
        images, films: what is still to be predicted.
        done: how many are finished already.
        replaced: how many have results of another model or other settings, which are written anew.
    """

    output: Path
    results: Results
    images: list[Work[Job]] = field(default_factory=list)
    films: list[Work[Film]] = field(default_factory=list)
    done: int = 0
    replaced: int = 0


def target(job: Job | Film, name: str) -> str:
    """Returns the file, or the folder of frames, that a format becomes, relative to the output folder."""
    endings = FORMATS if isinstance(job, Job) else dict.fromkeys(FORMATS, "") | MOVING
    return job.stem.as_posix() + endings[name]


def check_targets(inputs: Inputs, output: Path, formats: Sequence[str], *, overwrite: bool = False) -> None:
    """Refuse to write over files that dadkit did not write, and a folder that would look like a file.

    Args:
        inputs: what will be predicted.
        output: folder of the results.
        formats: names out of ``FORMATS``.
        overwrite: files that are no input may be replaced.

    Raises:
        UsageError: ``output`` is no folder yet and has the name of a picture, an array or a film.
        OverwriteError: a result would replace an input, or a file that dadkit's list of results does not name.
    """
    if not output.is_dir():
        if output.suffix.lower() in _OF_FILES:
            raise UsageError(
                f"--output is a folder, since a picture has several results, and {output} has the name of a file; "
                f"give --output {output.with_suffix('')}, and --format color for nothing but colours"
            )
        return
    results = read_results(output)
    targets = dict.fromkeys(target(job, name) for job in inputs.all for name in formats)
    strangers = [name for name in targets if name not in results.files and os.path.lexists(output / name)]
    if not strangers:
        return
    taken = {file.resolve() for file in _files(inputs)}
    eaten = [name for name in strangers if (output / name).resolve() in taken]
    if eaten:
        raise OverwriteError(
            f"{output / eaten[0]} is an input, and a result would be written over it ({len(eaten)} such files). "
            "Nothing was predicted; give another folder (--output) or formats with other names (--format)"
        )
    if not overwrite:
        raise OverwriteError(
            f"{output / strangers[0]} exists, and dadkit did not write it ({len(strangers)} in all). Nothing was predicted; "
            "give another folder (--output), or replace the files (--overwrite)"
        )


def _files(inputs: Inputs) -> list[Path]:
    from dadkit.data.sources import FileSource

    images = [job.source.read(job.index) for job in inputs.images if isinstance(job.source, FileSource)]
    return [*images, *(film.path for film in inputs.films if isinstance(film.path, Path))]


def identity(name: str, weights: Mapping[str, Path], settings: Mapping[str, Any]) -> str:
    """Returns what all results of one command are made of, as text: the model's name, its weight files by size and time,
    settings.

    Args:
        name: the model as it was named.
        weights: name -> weight file that was read, see ``dadkit.weights.sources.noted_files``.
        settings: whatever changes the numbers or the pictures.
    """
    files = {key: [file.stat().st_size, file.stat().st_mtime_ns] for key, file in sorted(weights.items()) if file.is_file()}
    return json.dumps({"model": name, "weights": files, "settings": dict(settings)}, sort_keys=True, default=str)


def make_plan(
    inputs: Inputs, output: Path, formats: Sequence[str], made_of: str, *, resume: bool = True, together: bool = False
) -> Plan:
    """Returns what is still to be done of the inputs' images.

    Args:
        inputs: from :func:`dadkit.prediction.inputs.find_inputs`.
        output: folder of the results.
        formats: names out of ``FORMATS``.
        made_of: see :func:`identity`. Results of the same name, made of the same, of an unchanged image, are finished.
        resume: False computes everything again.
        together: images of a folder need each other: all are computed where one is missing.
    """
    plan = Plan(output, read_results(output))

    def missing(job: Job | Film) -> tuple[str, list[str]]:
        fingerprint = hashlib.sha256(f"{made_of}\n{job.stamp()}".encode()).hexdigest()[:16]
        done = [resume and plan.results.is_done(job.stem.as_posix(), fingerprint, target(job, name)) for name in formats]
        return fingerprint, [name for name, finished in zip(formats, done, strict=True) if not finished]

    finished: dict[str, set[str]] = {}  # what a killed command left unfinished is nobody's result
    for (name, _), written in plan.results.done.items():
        finished.setdefault(name, set()).update(written)
    whole = {job.stem.parent for job in inputs.images if missing(job)[1]} if together else set()
    for job in inputs.all:
        fingerprint, left = missing(job)
        if isinstance(job, Job) and job.stem.parent in whole:
            left = list(formats)
        if left:
            if isinstance(job, Job):
                plan.images.append(Work(job, tuple(left), fingerprint))
            else:
                plan.films.append(Work(job, tuple(left), fingerprint))
            files = [target(job, name) for name in left]
            there = [file for file in files if os.path.lexists(output / file)]
            plan.replaced += any(finished.get(job.stem.as_posix(), set()).intersection(there))
        else:
            plan.done += 1
    return plan
