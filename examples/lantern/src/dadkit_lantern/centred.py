"""Squares that prefer the middle of the image."""

import torch

from dadkit.interfaces import Contexts


class Centred:
    """A square whose place is the mean of several uniform ones, and its two halves' middles as patches.

    Args:
        size: side in pixels at which square and patches are seen.
        pull: how many uniform places are averaged: 1 prefers nothing.
    """

    def __init__(self, size: int = 64, pull: int = 3):
        self.size, self.pull = size, pull

    def __call__(self, size, generator):
        height, width = size
        share, *places = torch.rand(1 + 2 * self.pull, generator=generator, dtype=torch.float64).tolist()
        side = min(height, width) * (0.6 + 0.4 * share)
        x0 = (width - side) * sum(places[: self.pull]) / self.pull
        y0 = (height - side) * sum(places[self.pull :]) / self.pull
        patches = [[0, side / 4, side / 2, 3 * side / 4], [side / 2, side / 4, side, 3 * side / 4]]
        return Contexts(
            region=torch.tensor([x0, y0, x0 + side, y0 + side], dtype=torch.float64),
            view_size=(self.size, self.size),
            patches=torch.tensor(patches, dtype=torch.float64),   # from the region's corner
            patch_size=(self.size, self.size),
        )
