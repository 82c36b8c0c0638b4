"""The fused loss on a GPU: the reference's values, streams, graphs, repeatability."""

from __future__ import annotations

import pytest
import torch

from dadkit.ops import fused, reference

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.skipif(
        torch.cuda.is_available() and "cuda" not in fused.DEVICES, reason="the library was built without its CUDA part"
    ),
]


def _run(module, pred, *args, **options):
    pred = pred.clone().requires_grad_()
    value = module.hybrid_norm_loss(pred, *args, **options)
    return value.detach(), torch.autograd.grad(value.sum(), pred)[0]


@pytest.mark.parametrize("kind", ["smooth", "noise", "sky", "quantised", "outlier", "offset"])
@pytest.mark.parametrize("partition", ["range", "quantile", "grid"])
@pytest.mark.parametrize("variant", ["dadkit", "hdn"])
@pytest.mark.parametrize("reduction", ["mean", "image", "none"])
def test_matches_the_reference(pair, kind, partition, variant, reduction):
    pred, target = (x.cuda() for x in pair((3, 61, 103), kind))
    mask = torch.rand(pred.shape, device="cuda") < 0.9
    options = {"partition": partition, "variant": variant, "reduction": reduction}
    value, gradient = _run(fused, pred, target, mask, **options)
    expected, slope = _run(reference, pred, target, mask, **options)
    torch.testing.assert_close(value, expected, rtol=1e-7, atol=1e-9)
    if kind != "quantised":
        torch.testing.assert_close(gradient, slope, rtol=1e-6, atol=1e-7 * float(slope.abs().max()))


def test_repeats_to_the_bit(pair):
    pred, target = (x.cuda() for x in pair((8, 560, 560), "smooth", torch.float32))
    first = _run(fused, pred, target)
    for _ in range(5):
        again = _run(fused, pred, target)
        assert torch.equal(first[0], again[0])
        assert torch.equal(first[1], again[1])


def test_side_stream(pair):
    pred, target = (x.cuda() for x in pair((2, 200, 300), "smooth", torch.float32))
    expected = _run(fused, pred, target)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        got = _run(fused, pred, target)
    stream.synchronize()
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[1], expected[1])


def test_graph_capture(pair):
    pred, target = (x.cuda() for x in pair((2, 200, 300), "smooth", torch.float32))
    pred.requires_grad_()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            torch.autograd.grad(fused.hybrid_norm_loss(pred, target), pred)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value = fused.hybrid_norm_loss(pred, target)
        (gradient,) = torch.autograd.grad(value, pred)
    with torch.no_grad():
        pred.mul_(1.5).add_(target.square())
    graph.replay()
    expected = _run(fused, pred.detach(), target)
    assert torch.equal(value, expected[0])
    assert torch.equal(gradient, expected[1])


def test_poison_stays_in_its_image(pair):
    pred, target = (x.cuda() for x in pair((2, 40, 50), "smooth", torch.float32))
    pred[0, 3, 4] = torch.nan
    value, gradient = _run(fused, pred, target, reduction="image")
    assert value.isnan().tolist() == [True, False]
    assert gradient[1].isfinite().all()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no second CUDA device")
def test_a_device_that_is_not_current(pair):
    pred, target = (x.to("cuda:1") for x in pair((2, 40, 50), "smooth", torch.float32))
    with torch.cuda.device(0):
        value, _ = _run(fused, pred, target)
    torch.testing.assert_close(value, reference.hybrid_norm_loss(pred, target))
