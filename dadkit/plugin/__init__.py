"""The plugin host: which plugins are installed, what they offer, and how to get it.

For plugin authors: :data:`hookimpl` marks the hooks of :mod:`dadkit.plugin.hookspecs`, :class:`Register` types what they
receive. For everything else, :func:`get_registry` returns the :class:`Registry`, which turns ``("teacher", "acme/large")``
into a :class:`Component` and loads it. Importing this package imports no plugin and no torch.
"""

from __future__ import annotations

from dadkit.plugin.hookspecs import Register, hookimpl
from dadkit.plugin.records import (
    Component,
    PluginError,
    PluginRecord,
    PluginState,
    PluginVersionWarning,
    warn_of_other_versions,
)
from dadkit.plugin.registry import Registry, get_registry, use_registry

__all__ = [
    "Component",
    "PluginError",
    "PluginRecord",
    "PluginState",
    "PluginVersionWarning",
    "Register",
    "Registry",
    "get_registry",
    "hookimpl",
    "use_registry",
    "warn_of_other_versions",
]
