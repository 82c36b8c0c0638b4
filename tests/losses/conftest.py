"""Shared by the tests of the losses.

They hold the *reference* to its promises, whatever is built; the fused operators are compared with it in ``tests/ops``. With
DADKIT_TEST_BACKEND=auto the same promises are asked of whatever ``backend="auto"`` picks.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from dadkit.ops import fused

settings.register_profile(
    "losses",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


ON_THE_REFERENCE = os.environ.get("DADKIT_TEST_BACKEND", "reference") == "reference"


@pytest.fixture(scope="session")
def rounding() -> float:
    """How far two ways to the same float64 result may lie apart: the fused operators sum leaf by leaf, in another order."""
    return 0.0 if ON_THE_REFERENCE else 1e-10


@pytest.fixture(autouse=True, scope="module")
def _on_the_reference():
    with pytest.MonkeyPatch.context() as patch:
        if ON_THE_REFERENCE:
            patch.setattr(fused, "why_not", lambda *tensors: "these tests are on the reference")
        yield
