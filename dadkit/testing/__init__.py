"""For tests, ours and plugin authors': conformance checks for every kind of component, toys, hypothesis strategies.

One set of checks, three doors. As pytest classes::

    from dadkit.testing import TeacherConformance

    class TestDepthX(TeacherConformance):
        component = "acme/depth-x-large"
        options = {"weights": "none"}

from the command line, without pytest: ``dadkit plugins check acme``; and as plain functions that return results:
:func:`check_teacher` and its kin. ``dadkit.testing.toy`` has a component of every kind that keeps the contract,
``dadkit.testing.strategies`` (needs hypothesis) draws depth maps and masks, and :class:`PluginFarm` fakes installed plugins.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dadkit.testing.check import CONFORMANCE_VERSION, Check, CheckFailedError, Outcome, Result, checks_of
    from dadkit.testing.conformance import (
        ContextSamplerConformance,
        DatasetConformance,
        EncoderConformance,
        LossConformance,
        NormalizerConformance,
        PluginConformance,
        StudentConformance,
        TeacherConformance,
    )
    from dadkit.testing.farm import PluginFarm, isolated_plugins
    from dadkit.testing.run import (
        check_component,
        check_context,
        check_dataset,
        check_encoder,
        check_loss,
        check_normalizer,
        check_plugin,
        check_student,
        check_teacher,
    )

_MODULES = {
    "check": ("CONFORMANCE_VERSION", "Check", "CheckFailedError", "Outcome", "Result", "checks_of"),
    "conformance": (
        "ContextSamplerConformance",
        "DatasetConformance",
        "EncoderConformance",
        "LossConformance",
        "NormalizerConformance",
        "PluginConformance",
        "StudentConformance",
        "TeacherConformance",
    ),
    "farm": ("PluginFarm", "isolated_plugins"),
    "run": (
        "check_component",
        "check_context",
        "check_dataset",
        "check_encoder",
        "check_loss",
        "check_normalizer",
        "check_plugin",
        "check_student",
        "check_teacher",
    ),
}
_LAZY = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "CONFORMANCE_VERSION",
    "Check",
    "CheckFailedError",
    "ContextSamplerConformance",
    "DatasetConformance",
    "EncoderConformance",
    "LossConformance",
    "NormalizerConformance",
    "Outcome",
    "PluginConformance",
    "PluginFarm",
    "Result",
    "StudentConformance",
    "TeacherConformance",
    "check_component",
    "check_context",
    "check_dataset",
    "check_encoder",
    "check_loss",
    "check_normalizer",
    "check_plugin",
    "check_student",
    "check_teacher",
    "checks_of",
    "isolated_plugins",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"dadkit.testing.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'dadkit.testing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
