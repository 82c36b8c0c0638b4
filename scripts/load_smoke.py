"""The fused losses beside the reference, beside torch alone: what load_test.sh runs under every version of torch.

python scripts/load_smoke.py
"""

from __future__ import annotations

import torch

import dadkit.losses as losses
from dadkit.ops import build_info


def main() -> None:
    """Every fused loss and its gradient must equal the reference's."""
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(3, 1, 61, 47, generator=generator)
    pred = 2 * target + 0.3 * torch.rand(target.shape, generator=generator)
    mask = torch.rand(target.shape, generator=generator) < 0.8
    patches = torch.rand(3, 2, 33, 29, generator=generator)
    boxes = torch.tensor([[0.4, 1.2, 30.7, 40.1], [10.0, 20.5, 47.0, 61.0]]).expand(3, 2, 4).contiguous()
    calls = {
        "hybrid_norm_loss": lambda p, b: losses.hybrid_norm_loss(p, target, mask, backend=b),
        "ssi_loss": lambda p, b: losses.ssi_loss(p, target, mask, backend=b),
        "local_norm_loss": lambda p, b: losses.local_norm_loss(p, target, mask, partition="quantile", backend=b),
        "local_global_loss": lambda p, b: losses.local_global_loss(p, patches, boxes, backend=b),
        "gradient_matching_loss": lambda p, b: losses.gradient_matching_loss(p, target, mask, backend=b),
        "normalize": lambda p, b: losses.normalize(p, mask, backend=b).square().mean(),
    }
    for call in calls.values():
        answers = []
        for backend in ("fused", "reference"):
            leaf = pred.clone().requires_grad_()
            value = call(leaf, backend)
            answers.append((value.detach(), torch.autograd.grad(value, leaf)[0]))
        torch.testing.assert_close(*answers, rtol=1e-4, atol=1e-6)
    facts = build_info.describe()
    print(f"torch {torch.__version__}: {', '.join(calls)} agree with the reference ({facts['instruction sets']})")


if __name__ == "__main__":
    main()
