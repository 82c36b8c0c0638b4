"""What a check is: one sentence of contract, a function that finds out, and the versions of the suite that know it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = [
    "CONFORMANCE_VERSION",
    "Check",
    "CheckFailedError",
    "CheckSkippedError",
    "Outcome",
    "Result",
    "check",
    "checks_of",
    "fail",
    "skip_unless",
]

CONFORMANCE_VERSION = 1
"""The newest version of the suite. A check that is added later gets a higher one, so it breaks no author who pinned this."""


class CheckFailedError(AssertionError):
    """The component breaks its contract; the message says what came, what was expected, and what to change."""


class CheckSkippedError(Exception):
    """The check has nothing to say here; the message says why."""


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    """It does not apply, or what it relies on fails already."""
    EXPECTED = "expected"
    """It failed, as ``expected_failures`` says it does."""


@dataclass(frozen=True)
class Check:
    """One rule of a kind's contract.

    Attributes:
        name: by which ``expected_failures`` and results call it.
        contract: what must hold, in one sentence.
        since: the first version of the suite that knows it.
        needs: checks that must pass before this one can tell anything.
        function: raises :class:`CheckFailedError` if the contract is broken.
    """

    name: str
    contract: str
    since: int
    needs: tuple[str, ...]
    function: Callable[[Any], None]


@dataclass(frozen=True)
class Result:
    """How one check of one component ended.

    Attributes:
        subject: the component, as users write it.
        kind: its kind, or ``"plugin"``.
        check: name of the check.
        contract: what it holds the component to, in one sentence.
        since: the first version of the suite that knows the check.
        outcome: see :class:`Outcome`.
        message: why it failed and what to change, or why it was skipped; empty if it passed.
        seconds: what it took.
    """

    subject: str
    kind: str
    check: str
    contract: str
    since: int
    outcome: Outcome
    message: str = ""
    seconds: float = 0.0


_CHECKS: dict[str, dict[str, Check]] = {}


def check(*kinds: str, since: int, needs: Sequence[str] = ()) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Make a function a check of these kinds: its name is the check's, the first line of its docstring the contract."""

    def add(function: Callable[[Any], None]) -> Callable[[Any], None]:
        contract = (function.__doc__ or "").strip().splitlines()[0]
        for kind in kinds:
            known = _CHECKS.setdefault(kind, {})
            if function.__name__ in known:
                raise ValueError(f"check {function.__name__} of kind {kind} is defined twice")
            known[function.__name__] = Check(function.__name__, contract, since, tuple(needs), function)
        return function

    return add


def checks_of(kind: str, *, version: int | None = None) -> Mapping[str, Check]:
    """Name -> check of a kind, in the order in which they run.

    Args:
        kind: one of :data:`dadkit.kinds.KINDS`, or ``plugin``.
        version: leave out what was added to the suite after this version; None: nothing.

    Raises:
        ValueError: no such kind, or a version that the suite never had.
    """
    import dadkit.testing.checks  # noqa: F401  (its modules define the checks)

    if kind not in _CHECKS:
        raise ValueError(f"kind must be one of {', '.join(sorted(_CHECKS))}, got {kind!r}")
    version = CONFORMANCE_VERSION if version is None else version
    if not 1 <= version <= CONFORMANCE_VERSION:
        raise ValueError(
            f"conformance_version must be in 1 … {CONFORMANCE_VERSION}, got {version}; upgrade dadkit for a later one"
        )
    return {name: one for name, one in _CHECKS[kind].items() if one.since <= version}


def fail(found: str, remedy: str) -> None:
    """Raise :class:`CheckFailedError`: what was found, and what to change."""
    raise CheckFailedError(f"{found}. {remedy}.")


def skip_unless(condition: bool, why: str) -> None:
    """Raise :class:`CheckSkippedError` where the check does not apply."""
    if not condition:
        raise CheckSkippedError(why)
