"""The number of threads changes nothing, to the last bit."""

from __future__ import annotations

import pytest
import torch


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", ["smooth", "noise", "sky"])
def test_threads_are_bitwise_equal(fused, pair, batch, kind):
    height, width = (260, 301) if batch > 1 else (520, 521)  # large enough that threads share it
    pred, target = pair((batch, height, width), kind, torch.float32)
    patches = torch.stack([pair((batch, 120, 130), "smooth", torch.float32, seed=k)[1] for k in range(2)], dim=1)
    boxes = torch.tensor([[3.5, 4.0, 150.2, 140.9], [100.0, 90.0, 290.5, 250.5]]).repeat(batch, 1, 1)
    answers = []
    for threads in (1, 2, 4, 8):
        torch.set_num_threads(threads)
        p = pred.clone().requires_grad_()
        whole = fused.hybrid_norm_loss(p, target)
        weighted = fused.hybrid_norm_loss(p, target, reduction="none")
        local = fused.local_global_loss(p, patches, boxes)
        steps = fused.gradient_matching_loss(p, target)
        losses = ((whole, None), (weighted, target), (local, None), (steps, torch.ones_like(steps)))
        slopes = [torch.autograd.grad(loss, p, weights)[0] for loss, weights in losses]
        answers.append([*(loss.detach() for loss, _ in losses), *slopes, *fused.target_statistics(target)])
    for other in answers[1:]:
        assert all(torch.equal(a, b) for a, b in zip(answers[0], other, strict=True))
