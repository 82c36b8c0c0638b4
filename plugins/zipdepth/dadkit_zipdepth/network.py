"""The network of ZipDepth: an encoder of re-parameterisable blocks, a neck, and a decoder that upsamples with learned weights.

Source: Tosi et al., ZipDepth (ECCV 2026).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["SIZES", "Decoder", "Encoder", "RepBlock", "Size", "fuse"]


@dataclass(frozen=True)
class Size:
    """One size of the family.

    Attributes:
        widths: channels of the encoder's stages, at strides 4, 8, 16, 32.
        depths: re-parameterisable blocks in each stage.
        decoder: channels of the decoder at stride 4; coarser levels have 3/2, 2 and 3 times as many.
        half: channels of the decoder at stride 2.
    """

    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    decoder: int
    half: int


SIZES: Mapping[str, Size] = MappingProxyType(
    {
        "small": Size((24, 48, 96, 192), (2, 2, 4, 2), 32, 24),
        "base": Size((48, 96, 192, 384), (2, 2, 6, 2), 96, 32),
    }
)


def _conv_norm(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def _conv_norm_relu(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, groups: int = 1) -> nn.Sequential:
    return _conv_norm(inputs, outputs, kernel, stride, groups=groups).append(nn.ReLU())


def _groups(inputs: int, outputs: int) -> int:
    return next(groups for groups in (4, 2, 1) if inputs % groups == 0 == outputs % groups)


class RepBlock(nn.Module):
    """``relu(norm(conv3(x)) + norm(conv1(x)) + x)``, the last where shapes allow; at inference one 3x3 convolution (RepVGG)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.square = _conv_norm(inputs, outputs, 3, stride)
        self.point = _conv_norm(inputs, outputs, 1, stride)
        self.adds_input = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', ceil(h / stride), ceil(w / stride))."""
        y = self.square(x) + self.point(x)
        return F.relu(y + x if self.adds_input else y)

    def fused(self) -> nn.Sequential:
        """Returns the same function in eval mode as one convolution and a ReLU."""
        conv = fuse_conv_bn_eval(self.square[0], self.square[1])
        point = fuse_conv_bn_eval(self.point[0], self.point[1])
        assert conv.bias is not None
        assert point.bias is not None
        with torch.no_grad():
            conv.weight[:, :, 1, 1] += point.weight[:, :, 0, 0]
            conv.bias += point.bias
            if self.adds_input:
                conv.weight[:, :, 1, 1] += torch.eye(len(conv.weight)).to(conv.weight)
        return nn.Sequential(conv, nn.ReLU())


class Dilated(nn.Module):
    """``x + norm(depthwise 3x3 + depthwise 3x3 of dilation 2)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.far = nn.Conv2d(channels, channels, 3, padding=2, dilation=2, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        y: Tensor = self.norm(self.near(x) + self.far(x))
        return x + y


class StripPooling(nn.Module):
    """Each pixel gated by the means of its row and its column."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = _conv_norm(channels, channels, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        return x * self.gate(x.mean(3, keepdim=True) + x.mean(2, keepdim=True)).sigmoid()


class ChannelGate(nn.Module):
    """Squeeze and excitation: each channel gated by the means of all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 8, 4)
        self.squeeze = nn.Conv2d(channels, hidden, 1, bias=False)
        self.excite = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        return x * self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))).sigmoid()


class GlobalContext(nn.Module):
    """Adds to every pixel one vector, made from the image by attention (GCNet, with a batch norm)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 4, 8)
        self.attend = nn.Conv2d(channels, 1, 1)
        self.squeeze = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU())
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        weights = self.attend(x).flatten(2).softmax(-1)  # (B, 1, N)
        context = (x.flatten(2) @ weights.transpose(1, 2)).unsqueeze(-1)  # (B, C, 1, 1)
        return x + self.expand(self.squeeze(context))


class PyramidPooling(nn.Module):
    """Maxima over growing windows, joined (SPPF)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = _conv_norm_relu(channels, channels // 4)
        self.join = _conv_norm_relu(channels // 4 * 4, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        levels = [self.reduce(x)]
        for _ in range(3):
            levels.append(F.max_pool2d(levels[-1], 5, 1, 2))
        y: Tensor = self.join(torch.cat(levels, 1))
        return y


class CrossScale(nn.Module):
    """Stride 16 and stride 32 each get 0.3 of the other."""

    def __init__(self, fine: int, coarse: int) -> None:
        super().__init__()
        self.up = nn.Conv2d(coarse, fine, 1, groups=_groups(coarse, fine), bias=False)
        self.down = nn.Conv2d(fine, coarse, 1, groups=_groups(fine, coarse), bias=False)

    def forward(self, fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, 2h, 2w) and (B, C', h, w) -> the same shapes."""
        up = F.interpolate(self.up(coarse), scale_factor=2.0, mode="nearest")
        down = F.avg_pool2d(self.down(fine), 2)
        return fine + 0.3 * up, coarse + 0.3 * down


class Encoder(nn.Module):
    """Five maps: half resolution, and the stages at strides 4, 8, 16, 32."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        first, second, third, fourth = size.widths
        self.halve = _conv_norm_relu(3, first // 2, 3, 2)
        self.quarter = _conv_norm_relu(first // 2, first, 3, 2)
        extras: list[list[nn.Module]] = [
            [],
            [Dilated(second), StripPooling(second)],
            [ChannelGate(third), GlobalContext(third)],
            [],
        ]
        inputs = (first, first, second, third)
        self.stages = nn.ModuleList(
            nn.Sequential(
                *([RepBlock(before, width, 2)] if index else []),
                *(RepBlock(width, width) for _ in range(depth)),
                *extras[index],
            )
            for index, (before, width, depth) in enumerate(zip(inputs, size.widths, size.depths, strict=True))
        )
        self.pool = PyramidPooling(fourth)
        self.cross = CrossScale(third, fourth)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, 32h, 32w) -> maps at strides 2, 4, 8, 16, 32."""
        maps = [self.halve(x)]
        x = self.quarter(maps[0])
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        maps[3:] = self.cross(maps[3], self.pool(maps[4]))
        return maps


class Fuse(nn.Module):
    """``relu(norm(conv1(fine) + conv1(upsampled coarse)))``."""

    def __init__(self, fine: int, coarse: int, outputs: int) -> None:
        super().__init__()
        self.fine = nn.Conv2d(fine, outputs, 1, groups=_groups(fine, outputs), bias=False)
        self.coarse = nn.Conv2d(coarse, outputs, 1, groups=_groups(coarse, outputs), bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """(B, C, 2h, 2w) and (B, C', h, w) -> (B, C'', 2h, 2w)."""
        coarse = F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
        return F.relu(self.norm(self.fine(fine) + self.coarse(coarse)))


class Convex(nn.Module):
    """Each of the 2 x 2 pixels below one is a learned convex combination of its 3 x 3 neighbours (RAFT)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 4, 8)
        self.weigh = _conv_norm_relu(channels, hidden, 3).append(nn.Conv2d(hidden, 36, 1))

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """A map (B, 1, h, w) and features (B, C, h, w) -> (B, 1, 2h, 2w)."""
        weights = self.weigh(features).unflatten(1, (9, 4)).softmax(1)  # (B, 9, 4, h, w)
        height, width = x.shape[-2:]
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        shifted = [padded[..., row : row + height, column : column + width] for row in range(3) for column in range(3)]
        near = torch.cat(shifted, 1).unsqueeze(2)  # (B, 9, 1, h, w)
        return F.pixel_shuffle((weights * near).sum(1), 2)


class Blend(nn.Module):
    """A learned blend of nearest and bilinear interpolation, of operators that neural processors have."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 2, 8)
        self.weigh = nn.Sequential(
            *_conv_norm_relu(channels, hidden),
            *_conv_norm_relu(hidden, hidden, 5, groups=hidden),
            nn.Conv2d(hidden, 1, 1, bias=False),
        )

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """A map (B, 1, h, w) and features (B, C, h, w) -> (B, 1, 2h, 2w)."""
        weight = F.interpolate(self.weigh(features), scale_factor=2.0, mode="bilinear", align_corners=False).sigmoid()
        nearest = F.interpolate(x, scale_factor=2.0, mode="nearest")
        smooth = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return weight * nearest + (1 - weight) * smooth


class Decoder(nn.Module):
    """From coarse to fine, a map at half resolution, and its upsampling."""

    def __init__(self, size: Size, upsampling: str) -> None:
        super().__init__()
        fine, medium, coarse, deep = size.widths
        widths = (size.decoder * 3, size.decoder * 2, size.decoder * 3 // 2, size.decoder, size.half)
        self.adapt = _conv_norm_relu(deep, widths[0])
        self.fuse = nn.ModuleList(
            Fuse(level, before, after)
            for level, (before, after) in zip((coarse, medium, fine, fine // 2), pairwise(widths), strict=True)
        )
        self.head = nn.Conv2d(size.half, 1, 3, padding=1)
        self.up = Convex(size.half) if upsampling == "convex" else Blend(size.half)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps at strides 2, 4, 8, 16, 32 -> (B, 1, 32h, 32w), of any sign."""
        half, fine, medium, coarse, deep = maps
        x = self.adapt(deep)
        for fuse, level in zip(self.fuse, (coarse, medium, fine, half), strict=True):
            x = fuse(level, x)
        y: Tensor = self.up(self.head(x), x)
        return y


def fuse(module: nn.Module) -> None:
    """Make every re-parameterisable block one convolution, in place, and fold the norms that follow a convolution.

    The function in eval mode stays the same up to rounding. Norms of sums of convolutions stay.
    """
    for name, child in list(module.named_children()):
        if isinstance(child, RepBlock):
            setattr(module, name, child.fused())
        else:
            fuse(child)
    if isinstance(module, nn.Sequential):
        for (before, conv), (after, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, before, fuse_conv_bn_eval(conv, norm))
                setattr(module, after, nn.Identity())
