"""Folding batch norms into the convolutions before them, for deployment."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

__all__ = ["fold_batch_norms"]


def fold_batch_norms(module: nn.Module) -> None:
    """Replace, in place, every pair of convolution and batch norm in ``module`` by one convolution with a bias.

    In eval mode a batch norm is affine, ``y = (x - mean) / sqrt(var + eps) * weight + bias``, so it can be multiplied into the
    convolution's weights: exact up to rounding, computed in float64. Pairs are neighbours in an ``nn.Sequential``; an identity
    stays in the norm's place, so that the parameters' names do not move.

    Raises:
        ValueError: a batch norm does not follow a convolution; nothing may be left over in silence.
    """
    for container in [part for part in module.modules() if isinstance(part, nn.Sequential)]:
        for (_, conv), (name, norm) in pairwise(list(container.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                _fold(conv, norm)
                setattr(container, name, nn.Identity())
    left = [name for name, part in module.named_modules() if isinstance(part, nn.BatchNorm2d)]
    if left:
        raise ValueError(f"no convolution stands before the batch norms {', '.join(left)}, so they cannot be folded")


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()  # (outputs,)
    shift = norm.bias.double() - norm.running_mean.double() * scale
    if conv.bias is not None:
        shift += conv.bias.double() * scale
    conv.weight.copy_(conv.weight.double() * scale.view(-1, 1, 1, 1))
    conv.bias = nn.Parameter(shift.to(conv.weight), requires_grad=conv.weight.requires_grad)
