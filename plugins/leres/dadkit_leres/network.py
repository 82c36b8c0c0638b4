"""The networks of LeReS: a residual encoder, and a decoder from coarse to fine, with the official parameter names.

Own code after He et al., Deep Residual Learning for Image Recognition (CVPR 2016), Xie et al., Aggregated Residual
Transformations for Deep Neural Networks (CVPR 2017), and Yin et al., Learning to Recover 3D Scene Shape from a Single Image
(CVPR 2021). The encoder's names are also torchvision's. The stride of a stage is in the 3x3 convolution ("V1.5").
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "ENCODERS",
    "Decoder",
    "Encoder",
    "ResidualNet",
]


_EXPANSION = 4


class ResidualNet(NamedTuple):
    """One encoder.

    Attributes:
        blocks: how many per stage.
        groups: of the 3x3 convolutions.
        group_width: channels of one group in the first stage, where the network has 64 channels in all.
        levels: channels of the four levels, at strides 4, 8, 16, 32.
        widths: channels of the decoder at these levels.
    """

    blocks: tuple[int, int, int, int]
    groups: int = 1
    group_width: int = 64
    levels: tuple[int, int, int, int] = (256, 512, 1024, 2048)
    widths: tuple[int, int, int, int] = (256, 256, 256, 512)


ENCODERS: Mapping[str, ResidualNet] = MappingProxyType(
    {
        "resnet50": ResidualNet((3, 4, 6, 3)),
        "resnext101": ResidualNet((3, 4, 23, 3), groups=32, group_width=8),
    }
)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1, each with batch norm; the input, projected where shapes differ, is added before the last ReLU."""

    def __init__(self, inputs: int, width: int, outputs: int, *, stride: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, ceil(h/stride), ceil(w/stride))."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Encoder(nn.Module):
    """A residual network without its classifier.

    Args:
        net: the architecture.
    """

    def __init__(self, net: ResidualNet) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for index, (count, outputs) in enumerate(zip(net.blocks, net.levels, strict=True)):
            width = outputs // _EXPANSION * net.group_width * net.groups // 64
            blocks = [
                Bottleneck(
                    outputs if block else inputs,
                    width,
                    outputs,
                    stride=2 if index and not block else 1,
                    groups=net.groups,
                )
                for block in range(count)
            ]
            self.add_module(f"layer{index + 1}", nn.Sequential(*blocks))
            inputs = outputs
        self.stages = tuple(f"layer{index}" for index in range(1, len(net.levels) + 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> four maps with ``net.levels`` channels at strides 4, 8, 16, 32."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        levels = []
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
            levels.append(x)
        return levels


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
