"""As in ``tests/losses``: the reference, whatever is built."""

from __future__ import annotations

import pytest

from dadkit.ops import fused


@pytest.fixture(autouse=True, scope="module")
def _on_the_reference():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "why_not", lambda *tensors: "these tests are on the reference")
        yield
