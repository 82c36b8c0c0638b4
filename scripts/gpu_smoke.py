"""Every device kernel once, on awkward small maps: what compute-sanitizer runs. Without a GPU it can run the emulation.

python scripts/gpu_smoke.py [--device cuda|emulated] [--small]
python scripts/gpu_smoke.py --device ptx --library "$(python scripts/ptx/build.py)"
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import sys
from typing import Any

import torch

from dadkit.ops import fused, library
from dadkit.ops.reference import NormOptions

SHAPES = ((1, 1, 1), (2, 13, 29), (1, 97, 101), (3, 64, 64))
SMALL = ((2, 13, 29), (1, 97, 100))
"""Of one block, whose rows are read one pixel at a time, and of several, read four at a time."""


def refusal(device: str) -> str | None:
    """Why the kernels cannot run there; None where they can."""
    if (reason := library.load_error()) is not None:
        return reason
    if device != "cuda":
        return None
    if not torch.cuda.is_available():
        return f"no GPU: torch {torch.__version__} sees no CUDA device (--device emulated runs the kernels on the CPU)"
    if "cuda" not in fused.DEVICES:
        return "the library was built without its CUDA part"
    return None


def losses(shape: tuple[int, int, int], dtype: torch.dtype, variant: str, partition: str, device: str, seen: Any) -> int:
    """Every operator on maps of one shape, forward and backward; how many there were. ``seen`` hashes what they answer."""
    generator = torch.Generator().manual_seed(0)
    target, noise = (torch.randn(shape, generator=generator, dtype=dtype).to(device) for _ in range(2))
    pred = (2 * target + noise).requires_grad_()
    mask = (torch.rand(shape, generator=generator) < 0.8).to(device)
    boxes = torch.tensor([[0.3, 0.2, shape[2] * 0.9 + 0.4, shape[1] * 0.8 + 0.5], [0.0, 0.0, 0.0, 1.0]], dtype=dtype)
    boxes = boxes.expand(shape[0], 2, 4).to(device)
    patches = torch.randn(shape[0], 2, 23, 31, generator=generator, dtype=dtype).to(device)
    runs = 0
    for segments in ((1, 2, 4), (8,), (1, 2, 4, 8)):
        options = NormOptions(segments, partition, variant)
        stats = fused.target_statistics(target, mask, options)
        values = [
            fused.hybrid_norm_loss(pred, target, mask, options),
            fused.hybrid_norm_loss(pred, target, mask, options, target_stats=stats, reduction="none").sum(),
            fused.local_global_loss(pred, patches, boxes, None, options),
            fused.local_global_loss(pred, patches, boxes, None, options, reduction="none").sum(),
            fused.normalize(pred, mask, options, reference=target).square().sum(),
            sum(x.sum() for x in fused.median_mad(pred, mask)),
            fused.gradient_matching_loss(pred, target, mask),
            fused.gradient_matching_loss(pred, target, mask, reduction="none", scales=2).sum(),
        ]
        if dtype == torch.float32:  # each map in a half precision of its own
            p, d, q = pred.bfloat16(), target.half(), patches.bfloat16()
            values += [
                fused.hybrid_norm_loss(p, d, mask, options),
                fused.hybrid_norm_loss(p, d, None, options),
                fused.local_global_loss(p, q, boxes, None, options),
                fused.gradient_matching_loss(p, d, mask),
            ]
        (gradient,) = torch.autograd.grad(sum(values), pred)
        what = f"{shape}, {dtype}, {variant}, {partition}, {segments}"
        if not torch.stack(values).isfinite().all() or not gradient.isfinite().all():
            raise SystemExit(f"gpu_smoke: not finite: {what}")
        seen.update(torch.stack(values).detach().cpu().numpy().tobytes() + gradient.cpu().numpy().tobytes())
        runs += len(values)
    return runs


def main() -> None:
    """Run them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "emulated", "ptx"], default="cuda")
    parser.add_argument("--library", help="for ptx: what scripts/ptx/build.py made")
    parser.add_argument("--small", action="store_true", help="fewer shapes and options: for compute-sanitizer, which is slow")
    options = parser.parse_args()
    if (reason := refusal(options.device)) is not None:
        sys.exit(f"gpu_smoke: {reason}")
    device = "cuda"
    if options.device == "ptx":
        torch.ops.load_library(options.library)
    if options.device != "cuda":
        library.NAMESPACE, device = f"dadkit_{options.device}", "cpu"
    shapes, dtypes = (SMALL, (torch.float32,)) if options.small else (SHAPES, (torch.float32, torch.float64))
    runs, seen = 0, hashlib.sha256()
    for case in itertools.product(shapes, dtypes, ("dadkit", "hdn"), ("range", "quantile", "grid")):
        runs += losses(*case, device, seen)
    if device == "cuda":
        torch.cuda.synchronize()
    print(f"{runs} losses and their gradients, {options.device}, {seen.hexdigest()[:16]}")


if __name__ == "__main__":
    main()
