"""What the host knows: components, plugins, their states and versions. Plain data, nothing here imports a plugin."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dadkit.errors import DadkitError

__all__ = [
    "CORE",
    "DISABLE_VARIABLE",
    "LOCAL",
    "Component",
    "PluginError",
    "PluginRecord",
    "PluginState",
    "PluginVersionWarning",
    "warn_of_other_versions",
]

CORE = "dadkit"
"""Name of the plugin that the core itself is; its components carry no prefix."""
LOCAL = "local"
"""Name of the plugin that a file given with ``--plugin`` is."""
DISABLE_VARIABLE = "DADKIT_DISABLE_PLUGINS"
"""The environment variable that switches plugins off for one session: names, separated by commas."""


class PluginError(DadkitError):
    """A component or plugin cannot be used; the message says which, from where, why, and what to do."""

    exit_code = 2


class PluginState(StrEnum):
    """What became of an installed plugin; ``docs/plugins.md`` explains each and its remedy."""

    FOUND = "found"
    """Installed, and not imported so far: nothing needed it."""
    OK = "ok"
    """Imported; its components can be used."""
    DISABLED = "disabled"
    """Switched off by ``dadkit plugins disable`` or ``DADKIT_DISABLE_PLUGINS``; never imported."""
    INCOMPATIBLE = "incompatible"
    """Its distribution requires another version of dadkit; never imported."""
    CONFLICT = "conflict"
    """Two distributions claim this plugin name for different code; neither is imported."""
    IMPORT_ERROR = "import-error"
    """Its entry module could not be imported."""
    HOOK_ERROR = "hook-error"
    """Imported, but what it registers is wrong; nothing of it was kept."""

    @property
    def is_failure(self) -> bool:
        """True for the states that call for a repair; being switched off is a wish, not a failure."""
        return self not in {PluginState.FOUND, PluginState.OK, PluginState.DISABLED}


@dataclass(frozen=True)
class Component:
    """A registered component of any kind, before it is imported.

    Attributes:
        kind: one of :data:`dadkit.kinds.KINDS`, for instance ``"teacher"``.
        name: what users write: ``"acme/large"``, or without a slash for the core's own.
        target: ``"package.module:attribute"``; :meth:`dadkit.plugin.Registry.load` imports it.
        api: version of the component contract that the target was written for.
        plugin: name of the plugin (``"acme"``; the core is ``"dadkit"``).
        distribution, version: the installed package that the plugin comes from.
        summary: one line for listings.
        space: declared space of its maps (``disparity``, ``depth``, ``metric``), if it has one.
        size_multiple: heights and widths that the network takes are multiples of this.
        license: SPDX identifier, or a text, of the licence of the weights.
        config: ``"package.module:OptionsModel"``, a pydantic model of the options; None: the target's signature.
        arguments: fixed keyword arguments for the target, which users cannot change.
        requires: further pip requirements without which the target cannot be imported.
        aliases: former qualified names, which still work with a DeprecationWarning.
    """

    kind: str
    name: str
    target: str
    api: int
    plugin: str
    distribution: str
    version: str
    summary: str = ""
    space: str | None = None
    size_multiple: int | None = None
    license: str | None = None
    config: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    requires: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The component in messages: ``teacher 'acme/large' (plugin acme, dadkit-acme 0.1)``."""
        origin = "" if self.plugin == CORE else f"plugin {self.plugin}, "
        return f"{self.kind} '{self.name}' ({origin}{self.distribution} {self.version})"

    @property
    def spellings(self) -> tuple[str, ...]:
        """The names that find it: its name and, where that is the plugin's own, the one with the prefix too."""
        return (self.name, f"{self.plugin}/{self.name}") if self.name == self.plugin else (self.name,)

    def provenance(self) -> dict[str, str | None]:
        """Returns what ``run.json`` stores about each component that a run used."""
        keys = ("kind", "name", "distribution", "version", "target", "space", "license")
        return {key: getattr(self, key) for key in keys}


@dataclass(frozen=True)
class PluginRecord:
    """An installed plugin and what became of it.

    Attributes:
        name: the plugin's name, the prefix of its components.
        target: the entry point's value, ``"package"`` or ``"package:object"``.
        distribution, version: the installed package that claims the name; of a conflict, the first one.
        location: folder in which that package is installed; once imported, the file of the entry module.
        state: see :class:`PluginState`.
        reason: why the state is what it is, in one line; empty for ``found`` and ``ok``.
        remedy: what to do about a failure, in one line.
        traceback: full traceback of a failed import or hook.
        requires: the requirements on dadkit that the package declares.
        claims: if more than one distribution claims the name, every claim as ``"distribution version -> target"``.
        components: what the plugin registered; empty unless its state is ``ok``.
    """

    name: str
    target: str
    distribution: str
    version: str
    location: str
    state: PluginState = PluginState.FOUND
    reason: str = ""
    remedy: str = ""
    traceback: str = field(default="", repr=False)
    requires: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    components: tuple[Component, ...] = ()

    @property
    def title(self) -> str:
        """The plugin in messages: ``plugin 'acme' (dadkit-acme 0.1)``."""
        return f"plugin '{self.name}' ({self.distribution} {self.version})"


class PluginVersionWarning(UserWarning):
    """A run, a checkpoint or a trained model was made with another version of a plugin than is installed."""


def warn_of_other_versions(made_with: Mapping[str, str], found: Mapping[str, str], *, what: str, stacklevel: int = 2) -> None:
    """Give one warning that names every plugin of which another version is installed; none if there is no such plugin.

    Args:
        made_with: distribution -> version, as it was saved. Distributions without a plugin, torch for instance, are ignored.
        found: distribution -> version of the plugins in use now.
        what: which thing was made, for the message.
        stacklevel: how many frames above this function the line is that the warning shows.
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
