"""The residual networks that LeReS starts from, with torchvision's parameter names, which are also the official ones.

Own code after He et al., Deep Residual Learning for Image Recognition (CVPR 2016), and Xie et al., Aggregated Residual
Transformations for Deep Neural Networks (CVPR 2017). The stride of a stage is in the 3x3 convolution ("V1.5").
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ENCODERS", "Encoder", "ResidualNet"]

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
