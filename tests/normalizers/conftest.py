"""As in ``tests/losses``: the reference on one thread."""

from __future__ import annotations

import pytest
import torch

from dadkit.ops import dispatch


@pytest.fixture(autouse=True, scope="module")
def _reference_on_one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "fused", None)
        yield
    torch.set_num_threads(before)
