"""Distil any monocular depth model into any other.

Importing this package loads no torch; names below are resolved when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dadkit._version import __version__

if TYPE_CHECKING:
    from dadkit.loading import load_encoder, load_model, load_student, load_teacher
    from dadkit.plugin.hookspecs import hookimpl

__all__ = ["__version__", "hookimpl", "load_encoder", "load_model", "load_student", "load_teacher"]

_LAZY = {
    "hookimpl": "dadkit.plugin.hookspecs",
    "load_encoder": "dadkit.loading",
    "load_model": "dadkit.loading",
    "load_student": "dadkit.loading",
    "load_teacher": "dadkit.loading",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'dadkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
