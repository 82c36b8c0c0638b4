"""From losses per pixel to the answer: validity, poison, trim, and the four reductions."""

from __future__ import annotations

import torch
from torch import Tensor

from dadkit.ops.reference.options import Reduction
from dadkit.ops.reference.order import share_of

__all__ = ["average", "image_sums", "over_images", "poison_of", "reduce", "reduce_sums", "sanitize"]


def sanitize(pred: Tensor, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cut out what is not valid, and mark the images with a non-finite value inside their mask.

    Masking goes by ``where``, never by multiplication: values outside the mask reach neither the result nor a gradient.

    Returns:
        ``pred``: 0 outside the mask; all NaN in a poisoned image, so that its gradient is NaN too.
        ``target``: 0 outside the mask and where not finite; detached.
        ``valid``: bool.
        ``poison``: (B,) NaN for a poisoned image, else 1.
    """
    valid = torch.ones_like(target, dtype=torch.bool) if mask is None else mask
    target = target.detach()
    poison = poison_of(valid, pred, target)
    pred = torch.where(valid, pred, 0) * poison[:, None, None]
    return pred, torch.where(valid & target.isfinite(), target, 0), valid, poison


def poison_of(valid: Tensor, *maps: Tensor) -> Tensor:
    """(B,): NaN where an image holds a non-finite value inside its mask, else 1."""
    bad = torch.zeros_like(valid)
    for x in maps:
        bad = bad | (valid & ~x.detach().isfinite())
    return torch.where(bad.flatten(1).any(1), torch.nan, torch.ones_like(maps[0][:, 0, 0].detach()))


def image_sums(loss: Tensor, counted: Tensor, trim: float) -> tuple[Tensor, Tensor, Tensor]:
    """Per image the sum of the losses and the number of pixels they are averaged over.

    With ``trim`` the floor(trim M) largest of an image's M losses are dropped; pixels that tie at the limit share what is left
    of it evenly, so that the answer does not depend on an order.

    Returns:
        ``total`` (B,), ``number`` (B,), and the (B, H, W) losses that were summed.
    """
    kept = torch.where(counted, loss, 0)
    number = counted.sum((1, 2))
    if trim:
        number = number - share_of(number, trim)
        values = torch.where(counted, loss.detach(), torch.inf)
        limit = values.flatten(1).sort(dim=1).values.gather(1, (number[:, None] - 1).clamp(min=0))[..., None]
        below, tied = values < limit, (values == limit) & counted
        share = (number - below.sum((1, 2))).to(loss.dtype) / tied.sum((1, 2)).clamp(min=1)
        kept = kept * (below + share[:, None, None] * tied)
    return kept.sum((1, 2)), number.to(loss.dtype), kept


def average(total: Tensor, number: Tensor) -> Tensor:
    """total / number, 0 where nothing was counted."""
    return total / number.clamp(min=1)


def reduce(loss: Tensor, counted: Tensor, poison: Tensor, *, reduction: Reduction, trim: float = 0.0) -> Tensor:
    """Reduce per-pixel losses (B, H, W).

    Args:
        loss: loss of each pixel.
        counted: bool, the pixels that take part; the others are 0 and leave the mean.
        poison: (B,) from :func:`sanitize`.
        reduction: ``mean``: images' means averaged over the batch, an image without pixels counting 0; ``pixel``: all pixels
            of the batch pooled; ``image``: (B,); ``none``: (B, H, W).
        trim: share of each image's largest losses to drop.
    """
    total, number, kept = image_sums(loss, counted, trim)
    if reduction == "none":
        return torch.where(counted, kept * poison[:, None, None], 0)
    return reduce_sums(total * poison, number, reduction)


def reduce_sums(total: Tensor, number: Tensor, reduction: Reduction) -> Tensor:
    """Reduce each image's sum of losses and number of pixels, (B,) both: ``mean``, ``pixel`` or ``image``."""
    if reduction == "pixel":
        return average(total.sum(), number.sum())
    return over_images(average(total, number), reduction)


def over_images(image: Tensor, reduction: Reduction) -> Tensor:
    """Returns images' losses (B,) as they are (``image``), or their mean, which is 0 for no images."""
    if reduction == "image":
        return image
    return image.sum() / image.shape[0] if image.shape[0] > 1 else image.sum()
