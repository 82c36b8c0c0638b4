"""The checks as plain functions: run those of a kind on a component, and get a result for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dadkit.testing.check import (
    CONFORMANCE_VERSION,
    Check,
    CheckFailedError,
    CheckSkippedError,
    Outcome,
    Result,
    checks_of,
)
from dadkit.testing.subject import Subject, make_subject, seeded
from dadkit.testing.surroundings import no_network

if TYPE_CHECKING:
    from dadkit.plugin import Registry

__all__ = [
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
    "run_check",
    "run_checks",
]

ComponentLike = str | Callable[..., Any]


def check_component(
    kind: str,
    component: ComponentLike,
    options: Mapping[str, Any] | None = None,
    *,
    expected_failures: Mapping[str, str] | None = None,
    conformance_version: int = CONFORMANCE_VERSION,
    registry: Registry | None = None,
    **settings: Any,
) -> list[Result]:
    """Run every check of a kind on a component.

    Args:
        kind: one of :data:`dadkit.kinds.KINDS`, for instance ``teacher`` or ``loss``.
        component: its registered name, ``"acme/large"``, or a class or function that builds it from ``options``.
        options: as a configuration gives them; choose them small and without downloads (``weights="none"``).
        expected_failures: check -> why it fails. One that passes all the same is a failure: the gap is closed, so say so.
        conformance_version: leave out checks that were added to the suite after this version.
        registry: where names are looked up; None: the process's own.
        settings: ``size=(height, width)`` of test images; ``invariances=("scale", "shift")`` of a normalizer or loss;
            ``exportable=True`` of a depth model.

    Returns:
        A result for each check, in the order in which they ran.

    Raises:
        ValueError: ``expected_failures`` names a check that there is not; no such kind or version.
        dadkit.plugin.PluginError: no such component.
    """
    checks = checks_of(kind, version=conformance_version)
    refuse_unknown(expected_failures or {}, checks_of(kind), kind)
    subject = make_subject(kind, component, options, registry=registry, **settings)
    return run_checks(subject, checks, expected_failures or {})


def check_teacher(component: ComponentLike, options: Mapping[str, Any] | None = None, **settings: Any) -> list[Result]:
    """:func:`check_component` of a depth model that labels."""
    return check_component("teacher", component, options, **settings)


def check_student(component: ComponentLike, options: Mapping[str, Any] | None = None, **settings: Any) -> list[Result]:
    """:func:`check_component` of a depth model that learns."""
    return check_component("student", component, options, **settings)


def check_encoder(component: ComponentLike, options: Mapping[str, Any] | None = None, **settings: Any) -> list[Result]:
    """:func:`check_component` of a feature encoder."""
    return check_component("encoder", component, options, **settings)


def check_normalizer(component: ComponentLike, options: Mapping[str, Any] | None = None, **settings: Any) -> list[Result]:
    """:func:`check_component` of a normalizer."""
    return check_component("normalizer", component, options, **settings)


def check_context(component: ComponentLike, options: Mapping[str, Any] | None = None, **settings: Any) -> list[Result]:
    """:func:`check_component` of a context sampler."""
    return check_component("context", component, options, **settings)


def check_loss(component: ComponentLike, options: Mapping[str, Any] | None = None, **settings: Any) -> list[Result]:
    """:func:`check_component` of a loss."""
    return check_component("loss", component, options, **settings)


def check_term(component: ComponentLike, options: Mapping[str, Any] | None = None, **settings: Any) -> list[Result]:
    """:func:`check_component` of a term."""
    return check_component("term", component, options, **settings)


def check_hook(component: ComponentLike, options: Mapping[str, Any] | None = None, **settings: Any) -> list[Result]:
    """:func:`check_component` of a hook into training."""
    return check_component("hook", component, options, **settings)


def check_dataset(component: ComponentLike, options: Mapping[str, Any] | None = None, **settings: Any) -> list[Result]:
    """:func:`check_component` of a dataset."""
    return check_component("dataset", component, options, **settings)


def check_completer(component: ComponentLike, options: Mapping[str, Any] | None = None, **settings: Any) -> list[Result]:
    """:func:`check_component` of a completer."""
    return check_component("completer", component, options, **settings)


def check_exporter(component: ComponentLike, options: Mapping[str, Any] | None = None, **settings: Any) -> list[Result]:
    """:func:`check_component` of an exporter."""
    return check_component("exporter", component, options, **settings)


def check_plugin(
    name: str,
    *,
    expected_failures: Mapping[str, str] | None = None,
    conformance_version: int = CONFORMANCE_VERSION,
    registry: Registry | None = None,
) -> list[Result]:
    """Run the checks of a plugin as a package: its entry module, what it registers, its options and its requirements.

    Args:
        name: the plugin's, the part before the slash.
        expected_failures, conformance_version, registry: as in :func:`check_component`.

    Raises:
        dadkit.plugin.PluginError: no plugin of that name is installed.
    """
    from dadkit.plugin import get_registry

    registry = registry or get_registry()
    registry.plugin(name, load=False)
    checks = checks_of("plugin", version=conformance_version)
    refuse_unknown(expected_failures or {}, checks_of("plugin"), "plugin")
    subject = Subject("plugin", name, lambda: registry.plugin(name), registry=registry)
    return run_checks(subject, checks, expected_failures or {})


def run_checks(subject: Subject, checks: Mapping[str, Check], expected_failures: Mapping[str, str]) -> list[Result]:
    """Returns the results of all of ``checks`` on ``subject``; a component that breaks its contract raises nothing here."""
    return [expect(run_check(subject, one), expected_failures.get(one.name)) for one in checks.values()]


def run_check(subject: Subject, one: Check) -> Result:
    """Returns the result of one check, which is run once: asked again, the answer is remembered. What it needs is run first."""
    if one.name not in subject.results:
        subject.results[one.name] = _run(subject, one)
    return subject.results[one.name]


def _run(subject: Subject, one: Check) -> Result:
    begun = time.perf_counter()
    outcome, message = Outcome.PASSED, ""
    known = checks_of(subject.kind)
    broken = [need for need in one.needs if run_check(subject, known[need]).outcome is not Outcome.PASSED]
    if broken:
        outcome, message = Outcome.SKIPPED, f"it can tell nothing as long as {' and '.join(broken)} fails"
    else:
        try:
            with no_network(), seeded(0):
                one.function(subject)
        except CheckSkippedError as reason:
            outcome, message = Outcome.SKIPPED, str(reason)
        except CheckFailedError as error:
            outcome, message = Outcome.FAILED, str(error)
        except Exception as error:  # the component's own code may raise anything; the result says what
            outcome, message = Outcome.FAILED, f"it raised {describe(error)}."
    seconds = round(time.perf_counter() - begun, 3)
    return Result(subject.name, subject.kind, one.name, one.contract, one.since, outcome, message, seconds)


def expect(result: Result, reason: str | None) -> Result:
    """Returns the result in the light of an expected failure; None where none is expected."""
    from dataclasses import replace

    if reason is None or result.outcome is Outcome.SKIPPED:
        return result
    if result.outcome is Outcome.FAILED:
        return replace(result, outcome=Outcome.EXPECTED, message=f"{reason} ({result.message})")
    message = f"it passes, although expected_failures says {reason!r}; take it out there"
    return replace(result, outcome=Outcome.FAILED, message=message)


def refuse_unknown(expected_failures: Mapping[str, str], checks: Mapping[str, Check], kind: str) -> None:
    """ValueError if an expected failure names no check, or gives no reason."""
    for name, reason in expected_failures.items():
        if name not in checks:
            raise ValueError(f"expected_failures names {name!r}, but the checks of a {kind} are {', '.join(checks)}")
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(f"expected_failures[{name!r}] must say why it fails, got {reason!r}")


def describe(error: BaseException) -> str:
    """``TypeError: … (at model.py:12 in estimate)``: the innermost frame is usually the component's own."""
    import traceback
    from pathlib import Path

    frames = traceback.extract_tb(error.__traceback__)
    own = next((frame for frame in reversed(frames) if "site-packages/torch" not in frame.filename), None)
    place = f" (at {Path(own.filename).name}:{own.lineno} in {own.name})" if own else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
