"""The hooks a plugin may implement: one per row of :data:`dadkit.kinds.KINDS`, each given a ``register`` of that plugin.

A hook implementation only *names* components; nothing heavy is imported. ``register`` takes

* ``name``: lower case, ``[a-z0-9][a-z0-9._-]*``; the component is then ``PLUGIN/NAME`` everywhere;
* ``target``: ``"package.module:attribute"``, imported only when the component is built, then called with the options;
* ``api``: the version of the component contract the target was written for (this dadkit: 1);
* metadata, all optional and plain data: ``summary``, ``space``, ``size_multiple``, ``license`` (of the weights),
  ``config="package.module:OptionsModel"`` (a pydantic model; without it the target's signature is the model),
  ``arguments`` (fixed keyword arguments that users cannot change), ``requires`` (pip requirements of an extra), ``aliases``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import pluggy

from dadkit.kinds import KINDS, ComponentKind

__all__ = ["HOOKS", "Register", "hookimpl", "hookspec"]

hookspec = pluggy.HookspecMarker("dadkit")
hookimpl = pluggy.HookimplMarker("dadkit")


class Register(Protocol):
    """The callback a hook receives; see the module's docstring for the arguments."""

    def __call__(
        self,
        name: str,
        target: str,
        *,
        api: int,
        summary: str = "",
        space: str | None = None,
        size_multiple: int | None = None,
        license: str | None = None,
        config: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        requires: Sequence[str] = (),
        aliases: Sequence[str] = (),
    ) -> None:
        """Name one component."""


def _specification(row: ComponentKind) -> Callable[..., None]:
    def hook(register: Register) -> None:
        """See :data:`dadkit.kinds.KINDS`."""

    hook.__name__, hook.__doc__ = row.hook, row.target
    specified: Callable[..., None] = hookspec(hook)
    return specified


HOOKS: Mapping[str, Callable[..., None]] = {row.hook: _specification(row) for row in KINDS.values()}
"""Name of each hook -> its specification, one per kind of component."""
