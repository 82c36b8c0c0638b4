"""For tests, ours and plugin authors': conformance checks for every kind of component, toys, hypothesis strategies.

One set of checks, three doors. As pytest classes::

    from dadkit.testing import TeacherConformance

    class TestDepthX(TeacherConformance):
        component = "acme/depth-x-large"
        options = {"weights": "none"}

from the command line, without pytest: ``dadkit plugins check acme``; and as plain functions that return results:
:func:`check_teacher` and the like. ``dadkit.testing.toy`` has a component of every kind that keeps the contract,
``dadkit.testing.strategies`` (needs hypothesis) draws depth maps and masks, and :class:`PluginFarm` fakes installed plugins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dadkit._lazy import lazy_names

if TYPE_CHECKING:
    from dadkit.testing.check import CONFORMANCE_VERSION, Check, CheckFailedError, Outcome, Result, checks_of
    from dadkit.testing.conformance import (
        CompleterConformance,
        ContextSamplerConformance,
        DatasetConformance,
        EncoderConformance,
        ExporterConformance,
        HookConformance,
        LossConformance,
        NormalizerConformance,
        PluginConformance,
        StudentConformance,
        TeacherConformance,
        TermConformance,
    )
    from dadkit.testing.farm import PluginFarm, isolated_plugins
    from dadkit.testing.run import (
        check_completer,
        check_component,
        check_context,
        check_dataset,
        check_encoder,
        check_exporter,
        check_hook,
        check_loss,
        check_normalizer,
        check_plugin,
        check_student,
        check_teacher,
        check_term,
    )

__all__ = [
    "CONFORMANCE_VERSION",
    "Check",
    "CheckFailedError",
    "CompleterConformance",
    "ContextSamplerConformance",
    "DatasetConformance",
    "EncoderConformance",
    "ExporterConformance",
    "HookConformance",
    "LossConformance",
    "NormalizerConformance",
    "Outcome",
    "PluginConformance",
    "PluginFarm",
    "Result",
    "StudentConformance",
    "TeacherConformance",
    "TermConformance",
    "check_completer",
    "check_component",
    "check_context",
    "check_dataset",
    "check_encoder",
    "check_exporter",
    "check_hook",
    "check_loss",
    "check_normalizer",
    "check_plugin",
    "check_student",
    "check_teacher",
    "check_term",
    "checks_of",
    "isolated_plugins",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "dadkit.testing.check": ("CONFORMANCE_VERSION", "Check", "CheckFailedError", "Outcome", "Result", "checks_of"),
        "dadkit.testing.conformance": (
            "ContextSamplerConformance",
            "DatasetConformance",
            "EncoderConformance",
            "CompleterConformance",
            "ExporterConformance",
            "HookConformance",
            "LossConformance",
            "NormalizerConformance",
            "PluginConformance",
            "StudentConformance",
            "TeacherConformance",
            "TermConformance",
        ),
        "dadkit.testing.farm": ("PluginFarm", "isolated_plugins"),
        "dadkit.testing.run": (
            "check_component",
            "check_context",
            "check_dataset",
            "check_encoder",
            "check_completer",
            "check_exporter",
            "check_hook",
            "check_loss",
            "check_normalizer",
            "check_plugin",
            "check_student",
            "check_teacher",
            "check_term",
        ),
    },
)
