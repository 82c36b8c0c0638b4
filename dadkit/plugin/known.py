"""The curated list of plugins that are not installed: what a name would mean, and what to type to get it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

__all__ = ["KnownPlugin", "known_plugins"]


@dataclass(frozen=True)
class KnownPlugin:
    """An entry of ``known_plugins.toml``.

    Attributes:
        name: the prefix under which people look for it.
        summary: one line.
        install: the command that installs it; empty if nothing has to be installed.
        instead: what to write in a configuration where the models are offered under another name.
    """

    name: str
    summary: str
    install: str = ""
    instead: str = ""

    def hint(self) -> str:
        """What to do, for messages."""
        parts = [f"write {self.instead}" if self.instead else "", f"`{self.install}`" if self.install else ""]
        return f"it is known ({self.summary}): {' after '.join(part for part in parts if part)}"


@cache
def known_plugins() -> Mapping[str, KnownPlugin]:
    """Name -> entry, in alphabetical order."""
    text = resources.files("dadkit.plugin").joinpath("known_plugins.toml").read_text(encoding="utf-8")
    return {name: KnownPlugin(name, **entry) for name, entry in sorted(tomllib.loads(text).items())}
