"""The feature-fusion decoder: from coarse to fine, each step adds the finer level.

Structure after LeReS (Yin et al., CVPR 2021), as the lightweight paper pairs it with TopFormer; own code. Upsampling is to the
size of the finer level, not by a fixed factor of two, so any input size works; widths may differ per level.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Decoder"]


class Refine(nn.Module):
    """A 3x3 convolution to ``outputs`` channels, then a two-convolution residual, then ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.branch = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, h, w)."""
        x = self.conv(x)
        return F.relu(x + self.branch(x))


class Fuse(nn.Module):
    """Refines a level, adds the coarser result, refines the sum."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.before = Refine(inputs, width)
        self.after = Refine(width, outputs)

    def forward(self, level: Tensor, coarser: Tensor) -> Tensor:
        """(B, inputs, h, w) and (B, width, h', w') -> (B, outputs, h, w)."""
        answer: Tensor = self.after(self.before(level) + _resized(coarser, level.shape[-2:]))
        return answer


class Decoder(nn.Module):
    """Four levels to one map at half the input's size.

    Its last bias starts at 3 for relative maps: the student's magnitude is anchored at a mean absolute deviation of about 1,
    and the farthest pixels of usual scenes lie two to three of these below the median. The map then starts positive and in
    the softplus' nearly linear part, and no part of it has to be squeezed towards zero to be told apart.

    Args:
        inputs: channels of the levels, fine to coarse.
        widths: the decoder's channels at these levels; most of the cost lies in the first.
        start: where the answer of random weights starts.
    """

    def __init__(self, inputs: tuple[int, ...], widths: tuple[int, ...], start: float = 3.0) -> None:
        super().__init__()
        self.coarsest = Refine(inputs[-1], widths[-1])
        self.join = nn.Conv2d(widths[-1], widths[-2], 3, padding=1)
        steps = zip(inputs[:-1], pairwise((widths[0], *widths[:-1])), strict=True)  # (level's channels, (answer, width))
        self.fuse = nn.ModuleList(Fuse(c, width, outputs) for c, (outputs, width) in steps)
        half = max(widths[0] // 2, 1)
        self.output = nn.Sequential(
            nn.Conv2d(widths[0], half, 3, padding=1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, 1, 3, padding=1),
        )
        last = self.output[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.constant_(last.bias, start)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Maps at strides 4, 8, 16, 32 -> (B, 1, H/2, W/2), unbounded."""
        x = self.join(self.coarsest(levels[-1]))
        for fuse, level in zip(reversed(self.fuse), reversed(levels[:-1]), strict=True):
            x = fuse(level, x)
        height, width = x.shape[-2:]
        answer: Tensor = self.output(_resized(x, (2 * height, 2 * width)))
        return answer


def _resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)
