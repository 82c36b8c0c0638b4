"""Which files are dadkit's own results: nothing reads them as input, and nothing else is written over.

A folder of results holds a hidden list, :data:`LIST`: JSON lines, added to and never rewritten, so a killed process leaves a
list that can be used. A file is listed *before* it is written. ``{"files": […]}`` names files and folders, relative to the
list's folder; with ``"done": name, "of": fingerprint`` it says that the results called ``name`` are complete and what they
are made of.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dadkit.errors import DadkitError

__all__ = ["LIST", "Results", "claim", "read_results"]

LIST = ".dadkit-results.jsonl"
"""Name of the list in a folder of results."""


@dataclass
class Results:
    """The list of one folder.

    Attributes:
        folder: where the list and the results are.
        files: results and folders of results, relative to the folder, ``/`` between parts.
        done: (name, fingerprint) of results that are complete -> their files.
    """

    folder: Path
    files: set[str] = field(default_factory=set)
    done: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def claim(self, files: Iterable[str]) -> None:
        """List files that are about to be written."""
        new = [name for name in files if name not in self.files]
        if new:
            self._add({"files": new})
            self.files.update(new)

    def finish(self, name: str, fingerprint: str, files: Iterable[str]) -> None:
        """Say that these results are complete."""
        written = sorted(files)
        self._add({"done": name, "of": fingerprint, "files": written})
        self.done.setdefault((name, fingerprint), set()).update(written)

    def is_done(self, name: str, fingerprint: str, file: str) -> bool:
        """True if this file of ``name`` was completed from that fingerprint, still exists and is not empty."""
        path = self.folder / file
        return file in self.done.get((name, fingerprint), ()) and path.exists() and path.stat().st_size > 0

    def _add(self, line: dict[str, object]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # A name that is no UTF-8, as on old disks, is escaped, and read back as it was.
            with (self.folder / LIST).open("a", encoding="utf-8", errors="backslashreplace") as handle:
                handle.write(json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as error:
            raise DadkitError(f"cannot write {self.folder / LIST}: {error.strerror or error}; choose another folder") from error


def read_results(folder: Path) -> Results:
    """Returns the list of a folder; an empty one where there is none. Half a line, as a killed process leaves it, is passed
    over.
    """
    results = Results(folder)
    try:
        lines = (folder / LIST).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return results
    for text in lines:
        try:
            line = json.loads(text)
            files = {str(name) for name in line["files"]}
            results.files |= files
            if "done" in line:
                key = (str(line["done"]), str(line["of"]))
                for other in [other for other in results.done if other[0] == key[0] and other != key]:
                    results.done[other] -= files  # these files were made anew, of something else
                results.done.setdefault(key, set()).update(files)
        except (ValueError, KeyError, TypeError):
            continue
    return results


def claim(folder: Path, names: Iterable[str], *, known: bool = False) -> None:
    """List what a command writes into a folder, before it writes; refuse if the folder holds others' files of these names.

    Args:
        folder: where the results will be; made if it is not there.
        names: files and folders in it that will be written, or thrown away.
        known: the folder is known to be dadkit's own by another sign, as one of an earlier version.

    Raises:
        DadkitError: there is such a file, and dadkit did not write it.
    """
    names = list(names)
    results = read_results(folder)
    strangers = [] if known else [name for name in names if name not in results.files and (folder / name).exists()]
    if strangers:
        raise DadkitError(
            f"{folder / strangers[0]} exists, and dadkit did not write it: nothing is written over it. "
            "Choose another folder for the results"
        )
    results.claim(names)
