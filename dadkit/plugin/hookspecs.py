"""The hooks a plugin may implement: one per kind of component, each given a ``register`` bound to that plugin.

A hook implementation only *names* components; nothing heavy is imported. ``register`` takes

* ``name``: lower case, ``[a-z0-9][a-z0-9._-]*``; the component is then ``PLUGIN/NAME`` everywhere;
* ``target``: ``"package.module:attribute"``, imported only when the component is built, then called with the options;
* ``api``: the version of the component contract the target was written for (this dadkit: 1);
* metadata, all optional and plain data: ``summary``, ``space``, ``size_multiple``, ``license`` (of the weights),
  ``config="package.module:OptionsModel"`` (a pydantic model; without it the target's signature is the model),
  ``arguments`` (fixed keyword arguments that users cannot change), ``requires`` (pip requirements of an extra), ``aliases``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pluggy

__all__ = ["KINDS", "Register", "hookimpl", "hookspec"]

hookspec = pluggy.HookspecMarker("dadkit")
hookimpl = pluggy.HookimplMarker("dadkit")

KINDS: Mapping[str, str] = {
    "teacher": "register_teachers",
    "student": "register_students",
    "encoder": "register_encoders",
    "normalizer": "register_normalizers",
    "context": "register_context_samplers",
    "loss": "register_losses",
    "dataset": "register_datasets",
}
"""Kind of component -> the hook that registers it."""


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


@hookspec
def register_teachers(register: Register) -> None:
    """Name depth models that label. The target returns a ``Teacher``, or any ``DepthModel``, which dadkit freezes."""


@hookspec
def register_students(register: Register) -> None:
    """Name depth models that learn. The target returns a ``Student``."""


@hookspec
def register_encoders(register: Register) -> None:
    """Name feature encoders, which feature alignment may follow. The target returns a ``FeatureEncoder``."""


@hookspec
def register_normalizers(register: Register) -> None:
    """Name normalizers. The target returns a ``Normalizer``."""


@hookspec
def register_context_samplers(register: Register) -> None:
    """Name context samplers. The target returns a ``ContextSampler``."""


@hookspec
def register_losses(register: Register) -> None:
    """Name losses on whole maps. The target returns a callable ``(pred, target, mask) -> scalar`` on (B, 1, H, W) maps."""


@hookspec
def register_datasets(register: Register) -> None:
    """Name datasets. The target returns a ``dadkit.data.Dataset``: ``__len__`` and ``__getitem__ -> Sample``."""
