"""Versions of plugins: those that a result was made with, held against those that are installed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from dadkit.plugin.records import CORE

__all__ = ["PluginVersionWarning", "warn_of_other_versions"]


class PluginVersionWarning(UserWarning):
    """A run, a checkpoint or a trained model was made with another version of a plugin than is installed."""


def warn_of_other_versions(made_with: Mapping[str, str], found: Mapping[str, str], *, what: str, stacklevel: int = 2) -> None:
    """One warning that names every plugin whose version changed; nothing if none did.

    Args:
        made_with: distribution -> version, as it was saved. Those without a plugin, torch for instance, may stand in it.
        found: distribution -> version of the plugins in use now.
        what: which thing was made, for the message.
        stacklevel: whose line the warning shows.
    """
    changed = [
        f"{name} {old} (now {found[name]})"
        for name, old in made_with.items()
        if name in found and name != CORE and found[name] != old
    ]
    if changed:
        warnings.warn(
            f"{what} was made with {', '.join(changed)}: its numbers may not come out again; `dadkit plugins freeze` and "
            "run.json say which versions to install",
            PluginVersionWarning,
            stacklevel=stacklevel + 1,
        )
