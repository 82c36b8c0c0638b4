"""From the maps of a hierarchical encoder to one map at half the image's size, by depthwise-separable convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Context", "Decoder", "Unit", "widths"]

_GROWTH = (1.0, 1.0, 1.5, 2.0, 3.0)


def widths(channels: int, strides: Sequence[int]) -> list[int]:
    """Channels of the fusion path at each stride: coarser maps get more, since they cost less.

    Args:
        channels: those at stride 2 and 4; at least 8, a multiple of 8.
        strides: powers of two, fine to coarse.
    """
    return [8 * max(1, round(channels * _GROWTH[stride.bit_length() - 2] / 8)) for stride in strides]


def _depthwise(channels: int, side: int, stride: int = 1) -> nn.Conv2d:
    # Repeated border pixels: with zeros the answers fade towards the frame of the image.
    return nn.Conv2d(channels, channels, side, stride, side // 2, groups=channels, bias=False, padding_mode="replicate")


class Unit(nn.Module):
    """``relu(x + pointwise(relu(depthwise(x))))`` with batch norms: the refinement of one level."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = _depthwise(channels, 3)
        self.norm1 = nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        y: Tensor = self.norm2(self.pointwise(F.relu(self.norm1(self.depthwise(x)))))
        return F.relu(x + y)


class Context(nn.Module):
    """Adds to the coarsest map what a wide neighbourhood and the whole image say. Starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = _depthwise(channels, 5, stride=2)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.wide = _depthwise(channels, 5)
        self.whole = nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        # No norm: a coarse map of a small image has one pixel, of which a batch norm cannot take the variance.
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        y = F.relu(self.mix(self.reduce(x)))
        y = F.relu(self.wide(y) + self.whole(y.mean((-2, -1), keepdim=True)))
        return x + F.interpolate(self.out(y), x.shape[-2:], mode="bilinear", align_corners=False)


class Decoder(nn.Module):
    """Fuses the maps from coarse to fine. The answer has the size of the finest one.

    Args:
        inputs: channels of the maps, fine to coarse.
        widths: channels of the fusion path at each of them.
        units: refinements of a level.
        hidden: channels before the last convolution.
        start: the last convolution's bias: what a random decoder answers.
    """

    def __init__(self, inputs: Sequence[int], widths: Sequence[int], *, units: int, hidden: int, start: float) -> None:
        super().__init__()
        self.adapt = nn.ModuleList(
            nn.Sequential(nn.Conv2d(given, width, 1, bias=False), nn.BatchNorm2d(width))
            for given, width in zip(inputs, widths, strict=True)
        )
        self.context = Context(widths[-1])
        self.narrow = nn.ModuleList(nn.Conv2d(coarse, fine, 1, bias=False) for fine, coarse in pairwise(widths))
        self.refine = nn.ModuleList(nn.Sequential(*(Unit(width) for _ in range(units))) for width in widths)
        self.head = nn.Sequential(
            nn.Conv2d(widths[0], hidden, 3, padding=1, padding_mode="replicate"), nn.ReLU(), nn.Conv2d(hidden, 1, 1)
        )
        last = self.head[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.constant_(last.bias, start)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C_k, h_k, w_k), fine to coarse -> (B, 1, h_0, w_0), before any activation."""
        x = self.context(F.relu(self.adapt[-1](maps[-1])))
        x = self.refine[-1](x)
        for level in reversed(range(len(maps) - 1)):
            skip = self.adapt[level](maps[level])
            # A 1x1 convolution commutes with interpolation, and here it touches a quarter of the pixels.
            x = F.interpolate(self.narrow[level](x), skip.shape[-2:], mode="bilinear", align_corners=False)
            x = self.refine[level](F.relu(x + skip))
        answer: Tensor = self.head(x)
        return answer
