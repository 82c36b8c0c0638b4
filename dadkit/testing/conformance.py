"""The checks as pytest classes: an author names a component, and inherits a test for each check.

Example::

    from dadkit.testing import TeacherConformance

    class TestDepthX(TeacherConformance):
        component = "acme/depth-x-large"
        options = {"weights": "none"}
        conformance_version = 1
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import getattr_static
from typing import Any, ClassVar

from dadkit.testing.check import CONFORMANCE_VERSION, Check, CheckFailedError, Outcome, checks_of
from dadkit.testing.run import expect, refuse_unknown, run_check
from dadkit.testing.subject import Subject, make_subject

__all__ = [
    "CompleterConformance",
    "ContextSamplerConformance",
    "DatasetConformance",
    "EncoderConformance",
    "ExporterConformance",
    "HookConformance",
    "LossConformance",
    "NormalizerConformance",
    "PluginConformance",
    "StudentConformance",
    "TeacherConformance",
    "TermConformance",
]


class _Conformance:
    """Tests of one component.

    Attributes:
        component: its registered name, or a class or function that builds it from ``options``.
        options: as a configuration gives them; choose them small and without downloads.
        expected_failures: check -> why it fails. A strict expectation: one that passes all the same is a failure.
        conformance_version: checks that were added to the suite later are skipped. Pin it, and raise it when you have time.
    """

    component: Any = None
    options: ClassVar[Mapping[str, Any]] = {}
    expected_failures: ClassVar[Mapping[str, str]] = {}
    conformance_version: int = CONFORMANCE_VERSION
    _kind: ClassVar[str] = ""
    _settings: ClassVar[tuple[str, ...]] = ()
    _subject: ClassVar[Subject | None] = None

    def __init_subclass__(cls, *, kind: str = "", settings: tuple[str, ...] = ()) -> None:
        super().__init_subclass__()
        if kind:
            cls._kind, cls._settings = kind, settings
            return
        checks = checks_of(cls._kind)
        overridden = [name for name in checks if f"test_{name}" in vars(cls)]
        if overridden:
            raise TypeError(
                f"{cls.__qualname__} overrides test_{overridden[0]}, but a check means the same for every plugin; "
                f"if it must fail, say expected_failures = {{{overridden[0]!r}: 'why'}}"
            )
        refuse_unknown(cls.expected_failures, checks, cls._kind)
        checks_of(cls._kind, version=cls.conformance_version)
        cls._subject = None
        for one in checks.values():
            setattr(cls, f"test_{one.name}", _test(one))

    @classmethod
    def _make_subject(cls) -> Subject:
        if cls._subject is None:
            component = getattr_static(cls, "component")
            component = component.__func__ if isinstance(component, staticmethod) else component
            if component is None:
                raise TypeError(f"{cls.__qualname__} names no component: set component = 'PLUGIN/NAME'")
            settings = {name: getattr(cls, name) for name in cls._settings}
            cls._subject = make_subject(cls._kind, component, cls.options, **settings)
        return cls._subject


def _test(one: Check) -> Callable[[Any], None]:
    def test(self: Any) -> None:
        import pytest

        if one.since > self.conformance_version:
            pytest.skip(f"since version {one.since} of the suite, this class asks for {self.conformance_version}")
        result = expect(run_check(self._make_subject(), one), self.expected_failures.get(one.name))
        if result.outcome is Outcome.SKIPPED:
            pytest.skip(result.message)
        if result.outcome is Outcome.EXPECTED:
            pytest.xfail(result.message)
        if result.outcome is Outcome.FAILED:
            raise CheckFailedError(f"{result.subject}: {result.message}\nContract: {one.contract}")

    test.__doc__ = one.contract
    test.__name__ = f"test_{one.name}"
    return test


class TeacherConformance(_Conformance, kind="teacher", settings=("size", "exportable")):
    """Tests of a teacher. ``size``: (height, width) of test images; ``exportable``: it claims that torch.export takes it."""

    size: tuple[int, int] | None = None
    exportable: bool = False


class StudentConformance(_Conformance, kind="student", settings=("size", "exportable")):
    """Tests of a student. ``size``: (height, width) of test images; ``exportable``: it claims that torch.export takes it."""

    size: tuple[int, int] | None = None
    exportable: bool = False


class EncoderConformance(_Conformance, kind="encoder", settings=("size",)):
    """Tests of a feature encoder. ``size``: (height, width) of test images."""

    size: tuple[int, int] | None = None


class NormalizerConformance(_Conformance, kind="normalizer", settings=("invariances",)):
    """Tests of a normalizer. ``invariances``: what it claims, ``("scale", "shift")``; it may say so itself as well."""

    invariances: tuple[str, ...] = ()


class ContextSamplerConformance(_Conformance, kind="context"):
    """Tests of a context sampler."""


class LossConformance(_Conformance, kind="loss", settings=("invariances",)):
    """Tests of a loss. ``invariances``: what it claims, ``("scale", "shift")``; it may say so itself as well."""

    invariances: tuple[str, ...] = ()


class TermConformance(_Conformance, kind="term"):
    """Tests of a term."""


class HookConformance(_Conformance, kind="hook"):
    """Tests of a hook into training."""


class DatasetConformance(_Conformance, kind="dataset"):
    """Tests of a dataset."""


class CompleterConformance(_Conformance, kind="completer"):
    """Tests of a completer."""


class ExporterConformance(_Conformance, kind="exporter"):
    """Tests of an exporter."""


class PluginConformance(_Conformance, kind="plugin"):
    """Tests of a plugin as a package. ``component`` is the plugin's name, the part before the slash; it takes no options."""

    @classmethod
    def _make_subject(cls) -> Subject:
        if cls._subject is None:
            from dadkit.plugin import get_registry

            registry, name = get_registry(), str(cls.component)
            registry.plugin(name, load=False)
            cls._subject = Subject("plugin", name, lambda: registry.plugin(name), registry=registry)
        return cls._subject
