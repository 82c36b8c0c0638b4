"""A small U-net."""

import torch
from torch import nn
from torch.nn import functional as F

from dadkit.interfaces import ModelSpec, SizePolicy, Space, Student


def block(inputs, outputs, stride=1):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(4, outputs), nn.GELU())


class Hourglass(Student):
    """Three steps down, three up.

    Args:
        width: channels at the first step; they double with each.
    """

    def __init__(self, width: int = 16):
        super().__init__()
        self.spec = ModelSpec(
            name="lantern-hourglass",
            space=Space.DEPTH,
            size_multiple=8,                            # heights and widths that the network takes
            native=SizePolicy(size=None, multiple=8),
            features={"tokens": 4 * width},             # what feature alignment may compare, and its channels
            license="MIT",
        )
        widths = [width, 2 * width, 4 * width]
        self.encoder = nn.ModuleList(block(i, o, stride=2) for i, o in zip([3, *widths], widths))
        self.decoder = nn.ModuleList(block(i + o, o) for i, o in zip(widths[:0:-1], widths[-2::-1]))
        self.head = nn.Conv2d(width, 1, 3, padding=1)

    def estimate(self, x):
        # x: (B, 3, h, w), normalised; h and w are multiples of 8
        levels = []
        for layer in self.encoder:
            levels.append(layer(levels[-1] if levels else x))
        y = levels[-1]
        for layer, skip in zip(self.decoder, levels[-2::-1]):
            y = layer(torch.cat([F.interpolate(y, size=skip.shape[-2:], mode="nearest"), skip], dim=1))
        return self.head(y), {"tokens": levels[-1].flatten(2).transpose(1, 2)}   # any size: dadkit resizes it
