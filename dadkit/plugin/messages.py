"""What the host says when something is not there: near misses first, then the failed plugin's cause, then what to install."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from dadkit.errors import did_you_mean, near_misses
from dadkit.kinds import KINDS
from dadkit.plugin.records import CORE, DISABLE_VARIABLE, LOCAL, Component, PluginRecord, PluginState

__all__ = [
    "KnownPlugin",
    "conflict",
    "failed_plugin",
    "failure",
    "known_plugins",
    "listed",
    "remedy",
    "unknown_component",
    "unknown_plugin",
]


@dataclass(frozen=True)
class KnownPlugin:
    """An entry of ``known_plugins.toml``, the curated list of plugins that are not installed.

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
        """Returns what to do, for messages."""
        parts = [f"write {self.instead}" if self.instead else "", f"`{self.install}`" if self.install else ""]
        return f"it is known ({self.summary}): {' after '.join(part for part in parts if part)}"


@cache
def known_plugins() -> Mapping[str, KnownPlugin]:
    """Returns name -> entry, in alphabetical order."""
    text = resources.files("dadkit.plugin").joinpath("known_plugins.toml").read_text(encoding="utf-8")
    return {name: KnownPlugin(name, **entry) for name, entry in sorted(tomllib.loads(text).items())}


def listed(names: Sequence[str], *, most: int = 12) -> str:
    """``"a, b, c"``, cut short where there are many."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, … ({len(names)} in all)"


def failure(record: PluginRecord) -> str:
    """Returns what is wrong with a plugin: its name, its state, why, what to do."""
    return f"{record.title} is {record.state}: {record.reason}; {record.remedy}. `dadkit plugins show {record.name}` says more"


def failed_plugin(kind: str, name: str, record: PluginRecord) -> str:
    """Returns the message for a component of a plugin that cannot be used."""
    return f"{KINDS[kind].noun} '{name}' cannot be had, {failure(record)}"


def unknown_plugin(name: str, installed: Iterable[str]) -> str:
    """No installed distribution has a plugin of this name."""
    installed = sorted(installed)
    known = f"installed are {listed(installed)}" if installed else "none is installed"
    if name == LOCAL:
        return "the plugin 'local' is a file that is given on the command line: --plugin ./my_teacher.py"
    if name in known_plugins():
        return f"no plugin '{name}' is installed; {known_plugins()[name].hint()} ({known}); `dadkit plugins` lists them"
    near = did_you_mean(name, installed, before="; ") or did_you_mean(name, known_plugins(), before="; ")
    # A package name is guessed only where the name is no slip of the pen, so that a misspelt package is never suggested.
    hint = "" if near else f"; if it comes in a package of its own, install that (usually `pip install dadkit-{name}`)"
    return f"no plugin '{name}' is installed{near} ({known}){hint}; `dadkit plugins` lists them"


def unknown_component(kind: str, name: str, same_plugin: Sequence[Component], elsewhere: Sequence[str] = ()) -> str:
    """Returns the message for a plugin (or the core) that is in order but has no component of this kind and name.

    Args:
        kind: the wanted kind.
        name: the qualified name that was asked for.
        same_plugin: everything that plugin, or the core, registered.
        elsewhere: names of this kind in all plugins, which are looked at where nothing nearer is alike.
    """
    others = [component.kind for component in same_plugin if component.name == name]
    if others:
        kinds = " and a ".join(KINDS[other].noun for other in others)
        return f"'{name}' is a {kinds}, not a {KINDS[kind].noun}; `dadkit {KINDS[kind].command}` lists what can be named here"
    names = [component.name for component in same_plugin if component.kind == kind]
    aliases = [alias for component in same_plugin if component.kind == kind for alias in component.aliases]
    prefix, slash, _ = name.partition("/")
    near = did_you_mean(name, [*names, *aliases], prefix=prefix + slash if slash else "", before="; ")
    if not near and (others := _written_otherwise(name, elsewhere)):
        near = f"; did you mean {' or '.join(map(repr, others))}?"
    message = f"unknown {KINDS[kind].noun} '{name}'{near}"
    owner = f"plugin '{prefix}'" if slash else "the core"
    message += f" ({owner} has {listed(names)})" if names else f" ({owner} has no {KINDS[kind].noun})"
    if not slash:
        message += "; plugins' components are written PLUGIN/NAME"
    return f"{message}; `dadkit {KINDS[kind].command}` lists all"


def _written_otherwise(name: str, names: Sequence[str]) -> list[str]:
    """At most three of ``names`` that ``name`` may stand for: ``dav2-small``, ``dav2`` and ``small`` for ``dav2/small``."""

    def plain(text: str) -> str:
        return "".join(letter for letter in text.lower() if letter.isalnum())

    whole = [one for one in names if plain(one) == plain(name)]
    parts = [one for one in names if plain(name) in map(plain, one.split("/"))]
    return (whole or parts or near_misses(name, names))[:3]


def conflict(record: PluginRecord) -> str:
    """Returns the message about two distributions that claim one plugin name for different code."""
    return f"the name '{record.name}' is claimed for different code by {' and by '.join(record.claims)}"


def remedy(state: PluginState, record: PluginRecord) -> str:
    """Returns what to do about a plugin in this state."""
    name, distribution = record.name, record.distribution
    if state is PluginState.DISABLED:
        return f"`dadkit plugins enable {name}`, or take '{name}' out of {DISABLE_VARIABLE}, to use it"
    if state is PluginState.INCOMPATIBLE:
        return f"install versions that fit: `pip install --upgrade {distribution} {CORE}`"
    if state is PluginState.CONFLICT:
        return "uninstall all but one of them"
    if name == LOCAL:
        return f"fix {distribution}"
    return f"fix or upgrade {distribution}, or switch it off: `dadkit plugins disable {name}`"
