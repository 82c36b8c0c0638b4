"""The optimiser, its learning rates over time, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dadkit.config.schema import OptimConfig
from dadkit.interfaces import Student

__all__ = ["build_ema", "build_optimizer", "clip_gradients", "rate_factor", "set_rates", "update_ema"]

POLY_POWER = 0.9
FROZEN = 0.0


def build_optimizer(config: OptimConfig, student: Student, *, step: nn.Module | None = None) -> Optimizer:
    """AdamW or Adam over the student's encoder and decoder groups; what the losses learn (``step``) trains with the decoder.

    Weight decay acts on matrices and kernels, not on biases and norms. ``encoder_lr: 0`` takes the encoder's parameters out of
    training altogether. The fused implementation is used on every device: it can skip a step by a flag that stays on the
    device (see :func:`clip_gradients`).
    """
    rates = {"encoder": config.lr / 10 if config.encoder_lr is None else config.encoder_lr, "decoder": config.lr}
    groups: list[dict[str, Any]] = []
    for group in student.param_groups():
        params = list(group["params"])
        if rates[group["name"]] == FROZEN:
            for parameter in params:
                parameter.requires_grad_(False)
            continue
        groups += _split(group["name"], params, rates[group["name"]], config.weight_decay)
    if step is not None:
        learned = [parameter for parameter in step.parameters() if parameter.requires_grad]
        groups += _split("decoder", learned, config.lr, config.weight_decay)
    if not groups:
        raise ValueError("nothing to train: the student has no trainable parameters outside its frozen encoder")
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, betas=config.betas, fused=True)


def _split(name: str, params: Sequence[nn.Parameter], rate: float, decay: float) -> list[dict[str, Any]]:
    kinds = [([p for p in params if p.ndim >= 2], decay), ([p for p in params if p.ndim < 2], 0.0)]
    return [
        {"params": some, "name": name, "peak": rate, "lr": rate, "weight_decay": weight_decay}
        for some, weight_decay in kinds
        if some
    ]


def rate_factor(config: OptimConfig, step: int, iterations: int) -> float:
    """Factor on the peak learning rates in iteration ``step`` (0, 1, ...) of ``iterations``.

    During the warm-up it is ``(step + 1) / warmup``. Afterwards, with t in [0, 1) the share of the remaining iterations that
    is done: ``constant`` 1, ``linear`` 1 - t, ``cosine`` (1 + cos(pi t)) / 2, ``poly`` (1 - t)^0.9. It never reaches 0, so that
    the last iteration counts.
    """
    if step < config.warmup:
        return (step + 1) / config.warmup
    t = (step - config.warmup) / max(1, iterations - config.warmup)
    match config.schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - t
        case "cosine":
            return (1.0 + math.cos(math.pi * t)) / 2
        case "poly":
            return (1.0 - t) ** POLY_POWER


def set_rates(optimizer: Optimizer, factor: float) -> dict[str, float]:
    """Set every group to its peak times ``factor``, which is all there is to a schedule; returns the rate per group name."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    return {group["name"]: group["lr"] for group in optimizer.param_groups}


def clip_gradients(optimizer: Optimizer, loss: Tensor, max_norm: float | None) -> tuple[Tensor, Tensor]:
    """Clip, and tell the optimiser to skip this step if the loss or a gradient is not finite, without waiting for the device.

    Returns:
        ``(norm, finite)``, both on the device: the gradient norm before clipping, and a bool.
    """
    params = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in params if p.grad is not None])
    if max_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(params, max_norm, norm)
    finite = torch.isfinite(loss.detach()) & torch.isfinite(norm)
    # torch's gradient scaler speaks to fused optimisers through this attribute; a step with found_inf = 1 leaves the weights,
    # the moments and the step counts as they were.
    optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
    return norm, finite


def build_ema(student: Student, decay: float | None) -> AveragedModel | None:
    """Returns a copy of the student for the exponential moving average of its weights, or None without a ``decay``."""
    return None if decay is None else AveragedModel(student)


@torch.no_grad()
def update_ema(ema: AveragedModel, student: Student, decay: float) -> None:
    """Move the average towards the student: mean <- d mean + (1 - d) value, buffers like weights, counters copied.

    The first update copies; then d = ``min(decay, (1 + n) / (10 + n))`` after n updates, so that the initial weights do not
    linger in a short run. (``AveragedModel.update_parameters`` would wait for the device in each call.)
    """
    n = int(ema.n_averaged)  # on the CPU
    means, values = ([*model.parameters(), *model.buffers()] for model in (ema.module, student))
    floating = [index for index, mean in enumerate(means) if mean.is_floating_point()]
    for index in set(range(len(means))) - set(floating):
        means[index].copy_(values[index])
    average = get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)) if n else 0.0)
    average([means[index] for index in floating], [values[index] for index in floating], n)
    ema.n_averaged += 1
