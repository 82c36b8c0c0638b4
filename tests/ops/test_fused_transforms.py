"""torch.compile, export, vmap, func.grad, checkpointing, opcheck, and second derivatives."""

from __future__ import annotations

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from dadkit.losses import hybrid_norm_loss, local_global_loss


def _inputs(pair, batch=2):
    pred, target = pair((batch, 24, 40), "smooth", torch.float32)
    mask = torch.rand(pred.shape, generator=torch.Generator().manual_seed(0)) < 0.8
    return pred, target, mask


def test_opcheck(fused, pair):
    pred, target, mask = _inputs(pair)
    ops = torch.ops.dadkit
    for m in (None, mask):
        arguments = (pred, target, m, None, None, None, None, None, None, [1, 2, 4], 0, 0, 16, 0.01, True)
        torch.library.opcheck(ops.hybrid_forward.default, arguments)
        stats = ops.hybrid_forward(*arguments)[-1]
        torch.library.opcheck(
            ops.hybrid_backward.default, (torch.ones(2), pred, target, m, stats, [1, 2, 4], 0, 0, 0.01, False)
        )
        torch.library.opcheck(ops.segment_statistics.default, (target, m, None, [2, 4], 0, 0))
        torch.library.opcheck(ops.median_mad_forward.default, (pred, m))
        torch.library.opcheck(ops.order_statistics.default, (pred, m, torch.tensor([[0, 3], [1, 7]])))
        torch.library.opcheck(ops.normalize_forward.default, (pred, m, target, None, [4], 0, 0, 0.01))
    boxes = torch.tensor([[[1.5, 2.0, 20.0, 20.5]]]).repeat(2, 1, 1)
    arguments = (pred, target[:, None, :16, :16].contiguous(), boxes, None, *(None,) * 6, [1], 0, 0, 16, 0.01, False)
    torch.library.opcheck(ops.local_global_forward.default, arguments)


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_whole_graph(pair, dynamic):
    def loss(p, t, m):
        return hybrid_norm_loss(p[:, None], t[:, None], m[:, None], backend="fused")

    compiled = torch.compile(loss, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for batch in (2, 3):
        p, t, m = _inputs(pair, batch)
        a, b = p.clone().requires_grad_(), p.clone().requires_grad_()
        x, y = compiled(a, t, m), loss(b, t, m)
        assert torch.equal(x, y)
        assert torch.equal(torch.autograd.grad(x, a)[0], torch.autograd.grad(y, b)[0])


def test_compile_local_global(pair):
    pred, target, _ = _inputs(pair)
    boxes = torch.tensor([[[1.5, 2.0, 20.0, 20.5]]]).repeat(2, 1, 1)
    patches = target[:, None, :20, :20].contiguous()

    def loss(p):
        return local_global_loss(p[:, None], patches, boxes, backend="fused")

    a, b = pred.clone().requires_grad_(), pred.clone().requires_grad_()
    x, y = torch.compile(loss, fullgraph=True, backend="aot_eager")(a), loss(b)
    assert torch.equal(x, y)
    assert torch.equal(torch.autograd.grad(x, a)[0], torch.autograd.grad(y, b)[0])


def test_export_with_a_dynamic_batch(fused, pair):
    class Loss(torch.nn.Module):
        def forward(self, pred, target):
            return fused.hybrid_norm_loss(pred, target)

    pred, target, _ = _inputs(pair, 3)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(Loss(), (pred, target), dynamic_shapes=({0: batch}, {0: batch}))
    p, t, _ = _inputs(pair, 5)
    torch.testing.assert_close(program.module()(p, t), fused.hybrid_norm_loss(p, t))


def test_vmap_and_func_grad(fused, pair):
    pred, target, mask = _inputs(pair, 4)
    p, t, m = (x.view(2, 2, 24, 40) for x in (pred, target, mask))
    image = fused.hybrid_norm_loss(pred, target, mask, reduction="image").view(2, 2)
    mapped = torch.vmap(lambda a, b, c: fused.hybrid_norm_loss(a, b, c, reduction="image"))(p, t, m)
    torch.testing.assert_close(mapped, image)
    shared = torch.vmap(lambda a: fused.hybrid_norm_loss(a, t[0], m[0], reduction="image"))(p)
    torch.testing.assert_close(shared[0], image[0])

    def loss(a, b):
        return fused.hybrid_norm_loss(a, b)

    expected = pred.clone().requires_grad_()
    loss(expected, target).backward()
    torch.testing.assert_close(torch.func.grad(loss)(pred, target), expected.grad)
    each = torch.vmap(torch.func.grad(loss))(p, t)
    for k in range(2):
        torch.testing.assert_close(each[k], torch.func.grad(loss)(p[k], t[k]))


def test_checkpoint(fused, pair):
    pred, target, _ = _inputs(pair)
    a, b = pred.clone().requires_grad_(), pred.clone().requires_grad_()
    checkpoint(lambda p: fused.hybrid_norm_loss(2 * p, target), a, use_reentrant=False).backward()
    fused.hybrid_norm_loss(2 * b, target).backward()
    assert torch.equal(a.grad, b.grad)


def test_second_derivatives_are_refused(fused, pair):
    pred, target, _ = _inputs(pair)
    pred.requires_grad_()
    for value in (fused.hybrid_norm_loss(pred, target), fused.normalize(pred).square().sum(), fused.median_mad(pred)[1].sum()):
        slope = torch.autograd.grad(value, pred, create_graph=True)[0]
        with pytest.raises(RuntimeError, match="second derivatives"):
            slope.sum().backward()
