"""Maps between their first and last decile."""

import torch


class Deciles:
    """Subtracts the first decile of the valid pixels and divides by the distance to the last.

    Args:
        share: how much is cut off at each end.
    """

    invariances = ("scale", "shift")   # a claim: the conformance checks hold it to that

    def __init__(self, share: float = 0.1):
        self.share = share

    def __call__(self, pred, target, mask=None):
        pred, target = (x[:, None] if x.ndim == 3 else x for x in (pred, target))
        valid = torch.ones_like(target, dtype=torch.bool) if mask is None else mask.view(target.shape)
        return self.normalize(pred, valid), self.normalize(target.detach(), valid), valid.to(pred.dtype)

    def normalize(self, x, valid):
        ends = x.new_tensor([self.share, 1 - self.share])
        maps = []
        for image, keep in zip(x, valid):
            image = image.where(keep, 0)                       # NaN outside the mask must not leak
            if not keep.any():
                maps.append(image)
                continue
            low, high = image[keep].quantile(ends)
            reach = high - low
            flat = reach <= 1e-6 * image.abs().max()           # a constant map has nothing to divide by
            maps.append(((image - low) / reach.where(~flat, 1)).where(keep, 0))
        return torch.stack(maps)                               # (B, 1, H, W): one level
