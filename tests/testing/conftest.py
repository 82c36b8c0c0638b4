"""What it means that a check catches a broken toy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from dadkit.testing import Outcome, Result, check_component, checks_of

Row = tuple[str, str, Any, Mapping[str, Any]]
"""Kind, check that catches it, broken toy, settings."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``kind`` goes through a module's ``TOYS``, ``row`` through its ``ROWS``."""
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", list(metafunc.module.TOYS))
    if "row" in metafunc.fixturenames:
        metafunc.parametrize("row", metafunc.module.ROWS, ids=[f"{kind}-{name}" for kind, name, *_ in metafunc.module.ROWS])


def _outcomes(results: Iterable[Result], outcome: Outcome = Outcome.FAILED) -> dict[str, str]:
    return {result.check: result.message for result in results if result.outcome is outcome}


@pytest.fixture
def outcomes() -> Callable[..., dict[str, str]]:
    """``outcomes(results, outcome=FAILED)``: check -> message of the results that came to it."""
    return _outcomes


@pytest.fixture
def passes() -> Callable[[str, Any], None]:
    """``passes(kind, toy)``: the toy keeps the whole contract, and nearly nothing of it was skipped."""

    def check(kind: str, toy: Any) -> None:
        results = check_component(kind, toy)
        assert _outcomes(results) == {}
        assert len(_outcomes(results, Outcome.PASSED)) >= len(results) - 3

    return check


@pytest.fixture
def is_caught() -> Callable[..., None]:
    """``is_caught(*row)``: by the check of that name and no other, in a whole sentence."""

    def check(kind: str, name: str, toy: Any, settings: Mapping[str, Any]) -> None:
        failed = _outcomes(check_component(kind, toy, **settings))
        assert set(failed) == {name}, failed
        assert failed[name].endswith(".")
        assert len(failed[name]) > 40

    return check


@pytest.fixture
def proves_every_check() -> Callable[..., None]:
    """``proves_every_check(kind, rows, *names)``: each check of the kind has a row, a broken toy, or is one of ``names``."""

    def check(kind: str, rows: Iterable[Row], *names: str) -> None:
        assert {*names, *(name for one, name, *_ in rows if one == kind)} == set(checks_of(kind))

    return check
