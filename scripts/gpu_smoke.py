"""Every device kernel once, on awkward small maps: what compute-sanitizer runs. Without a GPU it runs the emulation.

python scripts/gpu_smoke.py
"""

from __future__ import annotations

import itertools

import torch

from dadkit.ops import fused, library

SHAPES = ((1, 1, 1), (2, 13, 29), (1, 97, 101), (3, 64, 64))


def main() -> None:
    """Run them all."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        library.NAMESPACE = "dadkit_emulated"
    generator = torch.Generator().manual_seed(0)
    runs = 0
    for shape, dtype, variant, partition in itertools.product(
        SHAPES, (torch.float32, torch.float64), ("dadkit", "hdn"), ("range", "quantile", "grid")
    ):
        target = torch.randn(shape, generator=generator, dtype=dtype).to(device)
        pred = (2 * target + torch.randn(shape, generator=generator, dtype=dtype).to(device)).requires_grad_()
        mask = (torch.rand(shape, generator=generator) < 0.8).to(device)
        boxes = torch.tensor([[0.3, 0.2, shape[2] * 0.9 + 0.4, shape[1] * 0.8 + 0.5], [0.0, 0.0, 0.0, 1.0]], dtype=dtype)
        boxes = boxes.expand(shape[0], 2, 4).to(device)
        patches = torch.randn(shape[0], 2, 23, 31, generator=generator, dtype=dtype).to(device)
        options = {"variant": variant, "partition": partition}
        for segments in ((1, 2, 4), (8,), (1, 2, 4, 8)):
            options["segments"] = segments
            stats = fused.target_statistics(target, mask, **options)
            values = [
                fused.hybrid_norm_loss(pred, target, mask, **options),
                fused.hybrid_norm_loss(pred, target, mask, target_stats=stats, reduction="none", **options).sum(),
                fused.local_global_loss(pred, patches, boxes, **options),
                fused.local_global_loss(pred, patches, boxes, reduction="none", **options).sum(),
                fused.normalize(pred, mask, reference=target, **options).square().sum(),
                sum(x.sum() for x in fused.median_mad(pred, mask)),
                fused.gradient_matching_loss(pred, target, mask),
                fused.gradient_matching_loss(pred, target, mask, reduction="none", scales=2).sum(),
            ]
            torch.autograd.grad(sum(values), pred)
            runs += len(values)
    if device == "cuda":
        torch.cuda.synchronize()
    print(f"{runs} losses and their gradients on {device}")


if __name__ == "__main__":
    main()
