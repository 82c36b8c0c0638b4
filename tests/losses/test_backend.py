"""Which implementation runs: what is asked for, everywhere, and nothing else in silence."""

from __future__ import annotations

import pytest
import torch

from dadkit import losses
from dadkit.normalizers import Global, Hybrid, map_loss
from dadkit.ops import choose, fused, preferred, reference, resolve

OPERATIONS = ("gradient_matching_loss", "hybrid_norm_loss", "local_global_loss", "median_mad", "normalize", "target_statistics")
P, D = torch.rand(2, 2, 1, 12, 11, generator=torch.Generator().manual_seed(0))
BOXES = torch.tensor([[[1.0, 2.0, 9.0, 10.0]]]).expand(2, 1, 4)


def _geometric(backend):
    loss = losses.GeometricLoss(points=32, backend=backend, assume_inverse={"scale": 1.0, "shift": 0.5})
    return loss(P, D, space="disparity", generator=torch.Generator().manual_seed(0))


CALLS = {
    "hybrid": lambda backend: losses.hybrid_norm_loss(P, D, backend=backend),
    "local-global": lambda backend: losses.local_global_loss(P, D[:, :, :8, :8], BOXES, backend=backend),
    "gradient-matching": lambda backend: losses.gradient_matching_loss(P, D, backend=backend),
    "normalize": lambda backend: losses.normalize(P, backend=backend),
    "statistics": lambda backend: losses.target_statistics(P, backend=backend),
    "median": lambda backend: losses.median_mad(P, backend=backend),
    "anchor": lambda backend: losses.scale_anchor_loss(P, D, target_scale=1.0, backend=backend),
    "anchor module": lambda backend: losses.ScaleAnchorLoss(backend=backend)(P, D),
    "anchor observing": lambda backend: losses.ScaleAnchorLoss(backend=backend).observe(P, D),
    "meter": lambda backend: losses.ScaleMeter(4).observe(P, backend=backend),
    "geometric": _geometric,
    "normalizer": lambda backend: Hybrid().normalized(P, D, backend=backend),
    "through a normalizer": lambda backend: map_loss(Global(), P, D, backend=backend),
}


@pytest.fixture
def used(monkeypatch):
    """Names of the implementations that ran; the fused ones are stand-ins that work everywhere."""
    seen = set()

    def noting(which, function):
        def call(*args, **keywords):
            seen.add(which)
            return function(*args, **keywords)

        return call

    for name in OPERATIONS:
        original = getattr(reference, name)
        monkeypatch.setattr(fused, name, noting("fused", original))
        monkeypatch.setattr(reference, name, noting("reference", original))
    monkeypatch.setattr(fused, "why_not", lambda *tensors: None)
    return seen


@pytest.mark.parametrize("backend", ["fused", "reference"])
@pytest.mark.parametrize("call", CALLS)
def test_a_backend_is_the_backend_of_everything(used, call, backend):
    CALLS[call](backend)
    assert used == {backend}


@pytest.mark.parametrize("call", CALLS)
def test_what_a_run_prefers_is_what_auto_means(used, call):
    with preferred("reference"):
        CALLS[call]("auto")
    assert used == {"reference"}
    used.clear()
    CALLS[call]("auto")
    assert used == {"fused"}


def test_preferences_nest_and_end_with_their_block(used):
    with preferred("reference"), preferred("fused"):
        assert resolve("auto") == "fused"
        assert resolve("reference") == "reference"
    assert resolve("auto") == "fused"
    with pytest.raises(ValueError, match="backend must be one of"), preferred("best"):
        pass


def test_without_a_built_library_auto_is_the_reference_and_fused_raises(monkeypatch):
    monkeypatch.setattr(fused, "why_not", lambda *tensors: "it is not built")
    assert resolve("auto", P, D) == resolve("reference") == "reference"
    assert torch.equal(losses.hybrid_norm_loss(P, D, backend="auto"), losses.hybrid_norm_loss(P, D, backend="reference"))
    for call in CALLS.values():
        with pytest.raises(RuntimeError, match=r"backend='fused' cannot run here: it is not built.*dadkit doctor"):
            call("fused")


def test_an_operation_without_a_fused_implementation_says_so(used):
    assert losses.l1_loss(P, D).isfinite()
    with pytest.raises(RuntimeError, match="there is no fused l1_loss"):
        losses.l1_loss(P, D, backend="fused")


def test_inputs_that_do_not_fit_are_never_replaced_in_silence(monkeypatch):
    monkeypatch.setattr(fused, "why_not", lambda *tensors: None if tensors[0].dtype == torch.float32 else "float32 only")

    def compiled(x):
        return 42

    def plain(x):
        return 0

    assert choose("auto", compiled, plain, P)(P) == choose("fused", compiled, plain, P)(P) == 42
    assert choose("reference", compiled, plain, P)(P) == choose("auto", compiled, plain, P.double())(P) == 0
    with pytest.raises(RuntimeError, match="float32 only"):
        choose("fused", compiled, plain, P.double())
