"""What only a GPU can show of the fused operators: streams, graphs, no waiting, repeatability, full-size maps.

Their values are held to the reference on a GPU by the same tests as on the CPU: see conftest.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dadkit.ops import fused, reference
from dadkit.ops.reference import NormOptions

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.skipif(
        torch.cuda.is_available() and "cuda" not in fused.DEVICES, reason="the library was built without its CUDA part"
    ),
]

LOSSES = ["hybrid", "quantile", "trimmed", "grid", "local-global", "gradient-matching", "median", "normalize"]


@pytest.fixture
def loss(request, pair) -> Callable[..., tuple[Callable[[Tensor], Tensor], Tensor]]:
    """make(size, dtype, module, device) -> (function of the prediction, the prediction), for the loss asked for by name."""
    name = request.param

    def make(size=(2, 200, 304), dtype=torch.float32, module=fused, device="cuda"):
        pred, target = (x.to(device) for x in pair(size, "smooth", dtype))
        if name == "local-global":
            batch, height, width = size
            patches = torch.stack([pair((batch, 200, 210), "smooth", dtype, seed=k)[1] for k in range(3)], 1).to(device)
            unit = torch.tensor([[0.01, 0.02, 0.6, 0.7], [0.4, 0.3, 1.0, 1.0], [0.3, 0.1, 0.8, 0.55]], dtype=dtype)
            boxes = (unit * torch.tensor([width, height, width, height])).expand(batch, 3, 4).to(device, dtype)
            return lambda p: module.local_global_loss(p, patches, boxes), pred
        functions = {
            "hybrid": lambda p: module.hybrid_norm_loss(p, target),
            "quantile": lambda p: module.hybrid_norm_loss(p, target, None, NormOptions(partition="quantile")),
            "trimmed": lambda p: module.hybrid_norm_loss(p, target, trim=0.1),
            "grid": lambda p: module.hybrid_norm_loss(p, target, None, NormOptions((1, 8), "grid")),
            "gradient-matching": lambda p: module.gradient_matching_loss(p, target),
            "median": lambda p: sum(x.sum() for x in module.median_mad(p)),
            "normalize": lambda p: module.normalize(p, None, NormOptions(), reference=target).square().mean(),
        }
        return functions[name], pred

    return make


def _run(function, pred):
    pred = pred.clone().requires_grad_()
    value = function(pred)
    return value.detach(), torch.autograd.grad(value.sum(), pred)[0]


every = pytest.mark.parametrize("loss", LOSSES, indirect=True)


@every
def test_full_size_maps_match_the_cpu(loss):
    size = (3, 560, 560)
    value, slope = _run(*loss(size, torch.float64))
    expected, on_cpu = _run(*loss(size, torch.float64, device="cpu"))
    torch.testing.assert_close(value.cpu(), expected, rtol=1e-9, atol=1e-12)
    assert (slope.cpu() - on_cpu).norm() <= 1e-8 * on_cpu.norm()


@every
def test_full_size_maps_in_float32(loss):
    size = (3, 560, 560)
    value, slope = _run(*loss(size))
    expected, exact = _run(*loss(size, torch.float64, device="cpu"))
    torch.testing.assert_close(value.cpu().double(), expected, rtol=5e-5, atol=1e-5)
    error = slope.cpu().double() - exact
    assert error.norm() <= 0.05 * exact.norm()
    assert abs(error.mean()) <= 1e-3 * exact.abs().mean()


@every
def test_repeats_to_the_bit(loss):
    function, pred = loss((8, 560, 560))
    first = _run(function, pred)
    for _ in range(5):
        again = _run(function, pred)
        assert torch.equal(first[0], again[0])
        assert torch.equal(first[1], again[1])


@every
def test_never_waits_for_the_device(loss):
    function, pred = loss()
    _run(function, pred)
    torch.cuda.set_sync_debug_mode("error")
    try:
        _run(function, pred)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@every
def test_side_stream(loss):
    function, pred = loss()
    expected = _run(function, pred)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(2_000_000)  # work on the default stream would overtake
        later = pred.mul(2)
        got = _run(function, later.div(2))
    stream.synchronize()
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[1], expected[1])


@pytest.mark.parametrize("loss", ["hybrid", "grid", "local-global", "gradient-matching", "median", "normalize"], indirect=True)
def test_graph_capture(loss):
    function, pred = loss()
    pred.requires_grad_()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            torch.autograd.grad(function(pred), pred)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value = function(pred)
        (gradient,) = torch.autograd.grad(value, pred)
    for factor in (1.5, 0.5):  # the same graph on other values, twice: what it counts must begin at zero each time
        with torch.no_grad():
            pred.mul_(factor).add_(pred.square(), alpha=0.01)
        graph.replay()
        expected = _run(function, pred.detach())
        assert torch.equal(value, expected[0])
        assert torch.equal(gradient, expected[1])


@pytest.mark.parametrize("batch", [1, 33])
def test_batches_of_any_size(pair, batch):
    pred, target = (x.cuda() for x in pair((batch, 64, 65), "smooth"))
    image = fused.hybrid_norm_loss(pred, target, reduction="image")
    torch.testing.assert_close(image, reference.hybrid_norm_loss(pred, target, reduction="image"), rtol=1e-9, atol=1e-12)


def test_a_map_of_sixty_million_pixels():
    generator = torch.Generator("cuda").manual_seed(0)
    target = torch.rand(1, 7680, 7681, device="cuda", generator=generator)
    pred = target.square() + 0.1 * torch.rand(target.shape, device="cuda", generator=generator)
    value, slope = _run(lambda p: fused.hybrid_norm_loss(p, target), pred)
    torch.testing.assert_close(value.cpu(), fused.hybrid_norm_loss(pred.cpu(), target.cpu()), rtol=1e-4, atol=1e-5)
    assert slope.isfinite().all()


def test_compile_on_the_device(pair):
    pred, target = (x.cuda() for x in pair((2, 64, 80), "smooth", torch.float32))
    compiled = torch.compile(lambda p: fused.hybrid_norm_loss(p, target), fullgraph=True, backend="aot_eager")
    got, expected = _run(compiled, pred), _run(lambda p: fused.hybrid_norm_loss(p, target), pred)
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[1], expected[1])


def test_maps_on_two_devices_are_refused(pair):
    pred, target = pair((2, 20, 30), "smooth")
    with pytest.raises(RuntimeError, match="device"):
        fused.hybrid_norm_loss(pred.cuda(), target)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no second CUDA device")
@every
def test_a_device_that_is_not_current(loss):
    function, pred = loss(device="cuda:1")
    with torch.cuda.device(0):
        value, slope = _run(function, pred)
    with torch.cuda.device(1):
        expected = _run(function, pred)
    assert torch.equal(value, expected[0])
    assert torch.equal(slope, expected[1])
