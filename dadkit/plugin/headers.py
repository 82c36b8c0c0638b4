"""The three lines of a distribution's metadata that the host needs, without parsing the rest.

``Distribution.metadata`` parses the whole file, long description included, at every access; over a few hundred distributions
that alone takes longer than everything else that ``dadkit plugins`` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import Distribution

__all__ = ["Headers", "read_headers"]


@dataclass(frozen=True)
class Headers:
    """Name, version and requirements, as they are written; empty where they are missing."""

    name: str
    version: str
    requires: tuple[str, ...]


def read_headers(distribution: Distribution) -> Headers:
    """The headers of an installed distribution.

    Raises:
        OSError, UnicodeError: its metadata cannot be read.
    """
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO")
    if text is None:  # a kind of its own, which has no such file
        found = distribution.metadata
        return Headers(found["Name"] or "", found["Version"] or "", tuple(distribution.requires or ()))
    fields: dict[str, list[str]] = {}
    for line in text.partition("\n\n")[0].splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.lower(), []).append(value.strip())
    requires = fields.get("requires-dist") or _old_requires(distribution)
    return Headers((fields.get("name") or [""])[0], (fields.get("version") or [""])[0], tuple(requires))


def _old_requires(distribution: Distribution) -> list[str]:
    """Requirements of old layouts, which keep them in a file of their own."""
    is_old = distribution.read_text("requires.txt") is not None
    return list(distribution.requires or ()) if is_old else []
