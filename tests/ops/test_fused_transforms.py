"""torch.compile, export, vmap, func.grad, checkpointing, opcheck, and second derivatives."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from dadkit.losses import gradient_matching_loss, hybrid_norm_loss, local_global_loss
from dadkit.ops import fused as operators


def _inputs(pair, batch=2):
    pred, target = pair((batch, 24, 40), "smooth", torch.float32)
    mask = torch.rand(pred.shape, generator=torch.Generator().manual_seed(0)) < 0.8
    return pred, target, mask


def test_opcheck(fused, pair):
    pred, target, mask = _inputs(pair)
    ops, check = torch.ops.dadkit, torch.library.opcheck
    kind = ([0, 0, 16, 0, 1, 2, 4], 0.01)
    for m in (None, mask):
        check(ops.segment_statistics.default, (target, m, None, kind[0]))
        check(ops.order_statistics.default, (pred, m, torch.tensor([[0, 3], [1, 7]])))
        given = list(ops.segment_statistics(target, m, None, kind[0]))
        for known, want_map in (([], True), (given[:1], True), (given, False)):
            arguments = (pred, target, None, m, known, *kind, want_map)
            check(ops.hybrid_forward.default, arguments)
            stats, grad = ops.hybrid_forward(*arguments)[-1], torch.ones(pred.shape if want_map else 2)
            check(ops.hybrid_backward.default, (grad, pred, target, None, m, stats, *kind))
            check(ops.hybrid_mean.default, (pred, target, m, known, *kind, want_map))
        check(ops.median_mad_forward.default, (pred, m))
        stats = ops.median_mad_forward(pred, m)[-1]
        check(ops.median_mad_backward.default, (torch.ones(2), torch.ones(2), pred, m, stats))
        check(ops.normalize_forward.default, (pred, m, target, None, *kind))
        out, stats = ops.normalize_forward(pred, m, target, None, *kind)
        check(ops.normalize_backward.default, (torch.ones_like(out), pred, m, target, stats, *kind))
        check(ops.gradient_matching_forward.default, (pred, target, m, 3, True, False))
        stats = ops.gradient_matching_forward(pred, target, m, 3, True, False)[-1]
        check(ops.gradient_matching_backward.default, (torch.ones(2, 3), pred, target, m, stats, 3, True))
        check(ops.gradient_matching_mean.default, (pred, target, m, 3, True, True))
    boxes, patches = torch.tensor([[[1.5, 2.0, 20.0, 20.5]]]).repeat(2, 1, 1), target[:, None, :16, :16].contiguous()
    arguments = (pred, patches, boxes, None, [], *kind, False)
    check(ops.hybrid_forward.default, arguments)
    stats = ops.hybrid_forward(*arguments)[-1]
    check(ops.hybrid_backward.default, (torch.ones(2, 1), pred, patches, boxes, None, stats, *kind))


def test_operators_refuse_what_they_would_read_wrongly(fused, pair):
    pred, target, _ = _inputs(pair)
    ops, kind = torch.ops.dadkit, ([0, 0, 16, 0, 1, 2, 4], 0.01)
    given = list(ops.segment_statistics(target, None, None, kind[0]))
    for index, wrong in ((1, given[1].int()), (5, given[5].float())):
        known = [wrong if k == index else x for k, x in enumerate(given)]
        with pytest.raises(RuntimeError, match="target statistics"):
            ops.hybrid_forward(pred, target, None, None, known, *kind, False)
    stats = ops.hybrid_forward(pred, target, None, None, given, *kind, False)[-1]
    with pytest.raises(RuntimeError, match="expected contiguous float64"):
        ops.hybrid_backward(torch.ones(2), pred, target, None, None, stats.float(), *kind)


def test_forward_mode_is_refused(fused, pair):
    pred, target, _ = _inputs(pair)
    with pytest.raises(NotImplementedError, match="jvp"):
        torch.func.jvp(lambda p: fused.hybrid_norm_loss(p, target), (pred,), (torch.ones_like(pred),))


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


@pytest.mark.parametrize("name", ["hybrid_norm_loss", "gradient_matching_loss"])
def test_a_mean_is_differentiated_again_with_any_upstream(fused, pair, name):
    pred, target, mask = _inputs(pair)
    pred.requires_grad_()
    loss = getattr(fused, name)(pred, target, mask)
    image = getattr(fused, name)(pred, target, mask, reduction="image").mean()  # an operator of its own for backward
    expected = torch.autograd.grad(image, pred)[0]
    assert torch.equal(loss, image)
    first = torch.autograd.grad(loss, pred, retain_graph=True)[0]
    assert torch.equal(first, expected)
    first.zero_()  # the caller's own
    batched = torch.autograd.grad(loss, pred, torch.tensor([1.0, -2.0]), retain_graph=True, is_grads_batched=True)[0]
    assert torch.equal(batched, torch.stack([expected, -2 * expected]))
    torch.testing.assert_close(torch.autograd.grad(0.3 * loss, pred)[0], 0.3 * expected)


def test_second_derivatives_are_refused(fused, pair):
    pred, target, _ = _inputs(pair)
    pred.requires_grad_()
    for value in (fused.hybrid_norm_loss(pred, target), fused.normalize(pred).square().sum(), fused.median_mad(pred)[1].sum()):
        slope = torch.autograd.grad(value, pred, create_graph=True)[0]
        with pytest.raises(RuntimeError, match="second derivatives"):
            slope.sum().backward()


class _Seen(TorchDispatchMode):
    """Notes the dtypes of the maps that the operators get; nothing may come from the host, for which a GPU would wait."""

    def __init__(self):
        super().__init__()
        self.dtypes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func in {torch.ops.aten.empty.memory_format, torch.ops.aten.arange.default, torch.ops.aten.arange.start_step}
        assert made or all(x.is_cuda for x in tree_leaves(args) if isinstance(x, torch.Tensor)), func
        if func.namespace == "dadkit":
            self.dtypes.append((args[0].dtype, args[1].dtype))
        return func(*args, **(kwargs or {}))


def test_on_cuda_the_operators_get_half_precision_as_it_is_and_nothing_from_the_host(monkeypatch):
    monkeypatch.setattr(operators, "why_not", lambda *maps: None)
    monkeypatch.setattr(operators, "proven", lambda *maps: True)
    with FakeTensorMode(), _Seen() as seen:
        pred = torch.empty(2, 1, 8, 8, device="cuda", dtype=torch.bfloat16)
        for target in (pred.half(), pred.float(), pred.double()):
            values = (
                hybrid_norm_loss(pred, target),
                gradient_matching_loss(pred, target),
                local_global_loss(pred, target, pred.new_empty(2, 1, 4, dtype=torch.float32), pred_mask=pred > 0),
            )
            computed = torch.float64 if target.dtype == torch.float64 else torch.float32
            assert {value.dtype for value in values} == {computed}
            assert seen.dtypes == 3 * [(pred.dtype if computed == torch.float32 else computed, target.dtype)]
            seen.dtypes.clear()
        hybrid_norm_loss(pred, pred, backend="reference")
        assert not seen.dtypes
