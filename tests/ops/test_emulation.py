"""What the device kernels, run on the CPU thread after thread, show beside their values: no order and no old memory matters."""

from __future__ import annotations

import ctypes

import pytest
import torch

from dadkit.ops import fused, library, reference
from dadkit.ops.reference import NormOptions


@pytest.fixture
def emulated(monkeypatch):
    """run(function, pred, order) -> (value, gradient), with threads and blocks in that order."""
    monkeypatch.setattr(library, "NAMESPACE", "dadkit_emulated")

    def run(function, pred, order):
        monkeypatch.setenv("DADKIT_EMULATED_ORDER", order)
        pred = pred.clone().requires_grad_()
        value = function(pred)
        return value.detach(), torch.autograd.grad(value.sum(), pred)[0]

    return run


def _patches(pred, pair):
    batch, height, width = pred.shape
    patches = torch.stack([pair((batch, 20, 31), "smooth", pred.dtype, seed=k)[1] for k in range(3)], 1)
    unit = torch.tensor([[0.01, 0.02, 0.6, 0.7], [0.4, 0.3, 1.0, 1.0], [0.3, 0.1, 0.8, 0.55]], dtype=pred.dtype)
    return patches, (unit * torch.tensor([width, height, width, height])).expand(batch, 3, 4)


OPERATORS = {
    "hybrid": lambda p, d, m, _: fused.hybrid_norm_loss(p, d, m),
    "eight levels": lambda p, d, m, _: fused.hybrid_norm_loss(p, d, m, NormOptions((1, 2, 4, 8), "grid"), trim=0.1),
    "hdn": lambda p, d, m, _: fused.hybrid_norm_loss(p, d, m, NormOptions(variant="hdn"), reduction="none"),
    "local-global": lambda p, d, m, pair: fused.local_global_loss(p, *_patches(p, pair)),
    "gradient matching": lambda p, d, m, _: fused.gradient_matching_loss(p, d, m),
    "normalize": lambda p, d, m, _: fused.normalize(p, m, NormOptions(), reference=d).square(),
    "median": lambda p, d, m, _: sum(fused.median_mad(p, m)),
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_order_of_threads_and_blocks_matters(emulated, pair, name, dtype):
    pred, target = pair((2, 37, 41), "smooth", dtype)
    mask = torch.rand(pred.shape, generator=torch.Generator().manual_seed(0)) < 0.9

    def function(p):
        return OPERATORS[name](p, target, mask, pair)

    backwards, forwards = (emulated(function, pred, order) for order in ("backwards", "forwards"))
    assert backwards[0].isfinite().all()
    assert backwards[1].abs().sum() > 0
    assert torch.equal(backwards[0], forwards[0])
    assert torch.equal(backwards[1], forwards[1])


@pytest.mark.parametrize("name", ["hybrid", "eight levels", "hdn", "local-global", "gradient matching"])
@pytest.mark.parametrize("size", [(36, 40), (37, 41)])
def test_half_precision_is_read_as_it_is(emulated, pair, name, size):
    """The same bits as of the same values in float32, and their gradient, rounded; each map in a dtype of its own."""
    maps = pair((2, *size), "smooth", torch.float32)
    mask = torch.rand(maps[0].shape, generator=torch.Generator().manual_seed(0)) < 0.9
    for dtypes in ((torch.float16, torch.bfloat16), (torch.bfloat16, torch.float32), (torch.float32, torch.float16)):
        pred, target = (x.to(dtype) for x, dtype in zip(maps, dtypes, strict=True))

        def loss(p, d, m):
            if name == "local-global":
                boxes = torch.tensor([[2.3, 1.0, 30.6, 33.1]]).expand(2, 1, 4)
                return 1024 * fused.local_global_loss(p, d[:, None], boxes, None if m is None else m[:, None])
            return 1024 * OPERATORS[name](p, d, m, pair)

        for m in (None, mask):
            value, gradient = emulated(lambda p: loss(p, target, m), pred, "forwards")  # noqa: B023
            exact, slope = emulated(lambda p: loss(p, target.float(), m), pred.float(), "forwards")  # noqa: B023
            assert value.dtype == torch.float32
            assert torch.equal(value, exact)
            assert torch.equal(gradient, slope.to(dtypes[0]))


@pytest.mark.parametrize("segments", [(1,), (1, 2, 4)])
def test_a_sample_that_misleads_changes_nothing(emulated, misled, segments):
    pred, target = misled((2, 128, 160))
    options = NormOptions(segments)
    value, gradient = emulated(lambda p: fused.hybrid_norm_loss(p, target, None, options), pred, "forwards")
    exact = pred.double().requires_grad_()
    wanted = reference.hybrid_norm_loss(exact, target.double(), None, options)
    (slope,) = torch.autograd.grad(wanted, exact)
    assert value.item() == pytest.approx(wanted.item(), rel=1e-6)
    assert (gradient - slope).norm() < 1e-4 * slope.norm()


def test_stale_statistics_and_ranks_outside_are_answered_as_on_the_cpu(pair):
    (pred, target), (_, other) = (pair((2, 24, 40), "smooth", torch.float32, seed=seed) for seed in (0, 1))
    options, answers = [0, 0, 16, 0, 1, 2, 4], []
    for ops in (torch.ops.dadkit, torch.ops.dadkit_emulated):
        stale = ops.segment_statistics(0.5 * other + 1, None, None, options)
        total, number, *_ = ops.hybrid_forward(pred, target, None, None, list(stale), options, 0.01, False)
        ends = ops.order_statistics(target, None, torch.tensor([[-5, 10**9]]).expand(2, 2).contiguous())
        assert torch.equal(ends, torch.stack([target.amin((1, 2)), target.amax((1, 2))], 1))
        answers.append((total, number))
    torch.testing.assert_close(answers[0][0], answers[1][0], rtol=1e-5, atol=0)
    assert torch.equal(answers[0][1], answers[1][1])


@pytest.mark.skipif(torch.version.cuda is None, reason="this torch has no CUDA")
@pytest.mark.skipif("cuda" not in fused.DEVICES, reason="the library was built without its CUDA part")
def test_the_library_finds_the_current_stream_without_being_linked_to_it():
    library_file = ctypes.CDLL(str(library.library_path()))
    assert library_file.aoti_torch_get_current_cuda_stream
