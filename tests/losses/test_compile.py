"""The losses trace without a graph break, and the compiled ones answer the same."""

from __future__ import annotations

import pytest
import torch

from dadkit import losses

BOXES = torch.tensor([[[0.5, 1.0, 8.25, 9.0], [2.0, 2.0, 10.0, 12.0]]]).expand(2, 2, 4)
CASES = {
    "hybrid": lambda p, d, m: losses.hybrid_norm_loss(p, d, m, trim=0.1),
    "grid": lambda p, d, m: losses.hybrid_norm_loss(p, d, m, partition="grid", reduction="none").sum(),
    "quantile": lambda p, d, m: losses.hybrid_norm_loss(p, d, m, partition="quantile", reduction="pixel"),
    "hdn": lambda p, d, m: losses.hybrid_norm_loss(p, d, m, variant="hdn"),
    "l1": losses.l1_loss,
    "gradient": losses.gradient_matching_loss,
    "local-global": lambda p, d, m: losses.local_global_loss(p, d[:, None, :8, :8].expand(-1, 2, -1, -1), BOXES, pred_mask=m),
    "anchor": lambda p, d, m: losses.scale_anchor_loss(p, d, m, target_scale=2.0),
    "anchor-module": losses.ScaleAnchorLoss(),
    "feature": lambda p, d, m: losses.feature_alignment_loss(p, d),
    "statistics": lambda p, d, m: losses.hybrid_norm_loss(p, d, m, target_stats=losses.target_statistics(d, m)),
}


@pytest.mark.parametrize("name", CASES)
def test_traces_as_one_graph(name):
    torch._dynamo.reset()
    generator = torch.Generator().manual_seed(0)
    p, d = torch.rand(2, 2, 16, 12, generator=generator)
    mask = torch.rand(p.shape, generator=generator) < 0.9
    p.requires_grad_()
    compiled = torch.compile(CASES[name], fullgraph=True, backend="aot_eager")
    (got,) = torch.autograd.grad(compiled(p, d, mask), p)
    (want,) = torch.autograd.grad(CASES[name](p, d, mask), p)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(compiled(p, d, mask), CASES[name](p, d, mask))


@pytest.mark.slow
def test_inductor_answers_the_same():
    """One level is enough to generate every kind of code: sorting, counting, scattering, gathering."""
    torch._dynamo.reset()
    generator = torch.Generator().manual_seed(0)
    p, d = torch.rand(2, 2, 24, 25, generator=generator)
    p.requires_grad_()

    def loss(pred, target):
        return losses.hybrid_norm_loss(pred, target, segments=(2,))

    compiled = torch.compile(loss, fullgraph=True)
    (got,) = torch.autograd.grad(compiled(p, d), p)
    (want,) = torch.autograd.grad(loss(p, d), p)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


def test_func_grad():
    generator = torch.Generator().manual_seed(0)
    p, d = torch.rand(2, 3, 10, 9, dtype=torch.float64, generator=generator)

    def one(pred, target):
        return losses.hybrid_norm_loss(pred[None], target[None])

    single = torch.stack([torch.func.grad(one)(a, b) for a, b in zip(p, d, strict=True)])
    pred = p.clone().requires_grad_()
    (want,) = torch.autograd.grad(losses.hybrid_norm_loss(pred, d, reduction="image").sum(), pred)
    torch.testing.assert_close(single, want)
