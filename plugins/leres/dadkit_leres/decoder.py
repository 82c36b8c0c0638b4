"""The decoder of LeReS, with the official parameter names: from coarse to fine, each step adds the finer level.

Own code after Yin et al., Learning to Recover 3D Scene Shape from a Single Image (CVPR 2021).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from dadkit_leres.encoder import ResidualNet

__all__ = ["Decoder"]


class Refine(nn.Module):
    """A 3x3 convolution to ``outputs`` channels and a residual of two more (official: ``FTB``).

    The official code rectifies **in place** at the head of the residual branch, so what is added to the branch is the
    rectified map as well. Released weights are trained that way, and another answer comes out without it.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv_branch = nn.Sequential(
            nn.Identity(),  # the rectification, done once in forward; it keeps the official numbers of what follows
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, h, w)."""
        x = F.relu(self.conv1(x))
        return F.relu(x + self.conv_branch(x))


class Fuse(nn.Module):
    """Refines a level, adds the coarser result, refines the sum (official: ``FFM``)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.ftb1 = Refine(inputs, width)
        self.ftb2 = Refine(width, width)

    def forward(self, level: Tensor, coarser: Tensor) -> Tensor:
        """(B, inputs, h, w) and (B, width, h', w') -> (B, width, h, w)."""
        answer: Tensor = self.ftb2(self.ftb1(level) + _resized(coarser, level.shape[-2:]))
        return answer


class Output(nn.Module):
    """Two convolutions to one map (official: ``AO``)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        half = inputs // 2
        self.adapt_conv = nn.Sequential(
            nn.Conv2d(inputs, half, 3, padding=1), nn.BatchNorm2d(half), nn.ReLU(), nn.Conv2d(half, 1, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, 1, h, w)."""
        answer: Tensor = self.adapt_conv(x)
        return answer


class Decoder(nn.Module):
    """Four levels to one unbounded map at the size of the network's input.

    Where the official code upsamples by two, this one upsamples to the size of the finer level: the same for inputs that are
    multiples of 32.

    Args:
        net: the architecture; of it the levels' channels and the decoder's.
    """

    def __init__(self, net: ResidualNet) -> None:
        super().__init__()
        levels, widths = net.levels, net.widths
        self.conv = Refine(levels[3], widths[3])
        self.conv1 = nn.Conv2d(widths[3], widths[2], 3, padding=1)
        self.ffm2 = Fuse(levels[2], widths[2])
        self.ffm1 = Fuse(levels[1], widths[1])
        self.ffm0 = Fuse(levels[0], widths[0])
        self.outconv = Output(widths[0])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, levels: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Maps at strides 4, 8, 16, 32 and the wanted (height, width) -> (B, 1, height, width)."""
        x = self.conv1(self.conv(levels[3]))
        x = self.ffm2(levels[2], x)
        x = self.ffm1(levels[1], x)
        x = self.ffm0(levels[0], x)  # stride 4
        x = self.outconv(_resized(x, (2 * x.shape[-2], 2 * x.shape[-1])))
        return _resized(x, size)


def _resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)
