"""Distil any monocular depth model into any other.

Importing this package loads no torch; names below are resolved when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dadkit._lazy import lazy_names

if TYPE_CHECKING:
    from dadkit._version import __version__
    from dadkit.loading import load_encoder, load_model, load_student, load_teacher
    from dadkit.plugin.hookspecs import hookimpl

__all__ = ["__version__", "hookimpl", "load_encoder", "load_model", "load_student", "load_teacher"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "dadkit._version": ("__version__",),
        "dadkit.loading": ("load_encoder", "load_model", "load_student", "load_teacher"),
        "dadkit.plugin.hookspecs": ("hookimpl",),
    },
)
