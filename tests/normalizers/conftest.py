"""As in ``tests/losses``: the reference, whatever is built."""

from __future__ import annotations

import pytest

from dadkit.ops import dispatch


@pytest.fixture(autouse=True, scope="module")
def _on_the_reference():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "fused", None)
        yield
