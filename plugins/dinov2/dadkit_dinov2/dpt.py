"""The DPT decoder over the tokens of DINOv2, as all of Depth Anything has it, with the official parameter names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from dadkit_dinov2.sizes import PATCH

__all__ = ["DPTDecoder", "FusionBlock", "ResidualUnit", "output"]

_HIDDEN = 32
Skip = Literal["used", "unused", "absent"]


class ResidualUnit(nn.Module):
    """``x + conv2(relu(conv1(relu(x))))``; the residual is x itself, not relu(x) as in MiDaS v2.1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        y: Tensor = self.conv2(F.relu(self.conv1(F.relu(x))))
        return x + y


class FusionBlock(nn.Module):
    """Adds a finer map to the coarse one, refines, and upsamples.

    Args:
        channels: channels of all maps.
        skip: ``"used"``; or, of the coarsest block, which has nothing to add: ``"absent"``, or ``"unused"`` where the released
            files hold its first unit all the same: it then exists, but does not train.
    """

    def __init__(self, channels: int, *, skip: Skip = "used") -> None:
        super().__init__()
        if skip != "absent":
            self.resConfUnit1 = ResidualUnit(channels).requires_grad_(skip == "used")
        self.resConfUnit2 = ResidualUnit(channels)
        self.out_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, skip: Tensor | None, size: tuple[int, int]) -> Tensor:
        """(B, C, h, w), a finer map of the same size or None, and the wanted size -> (B, C, *size)."""
        if skip is not None:
            x = x + self.resConfUnit1(skip)
        # The official code upsamples first. A 1x1 convolution commutes with interpolation, whose weights sum to one, and here
        # it touches a quarter of the pixels.
        x = self.out_conv(self.resConfUnit2(x))
        return F.interpolate(x, size, mode="bilinear", align_corners=True)


class Scratch(nn.Module):
    """The part of the decoder that the official code calls ``scratch``: equal channels and fusion. Heads add their output."""

    def __init__(self, channels: Sequence[int], features: int, coarsest: Skip) -> None:
        super().__init__()
        self.layer1_rn, self.layer2_rn, self.layer3_rn, self.layer4_rn = (
            nn.Conv2d(c, features, 3, padding=1, bias=False) for c in channels
        )
        self.refinenet1 = FusionBlock(features)
        self.refinenet2 = FusionBlock(features)
        self.refinenet3 = FusionBlock(features)
        self.refinenet4 = FusionBlock(features, skip=coarsest)
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)


def output(features: int, channels: int, *last: nn.Module) -> nn.Sequential:
    """Returns what makes ``channels`` maps of the decoder's answer; ``last`` follows it."""
    return nn.Sequential(nn.Conv2d(features // 2, _HIDDEN, 3, padding=1), nn.ReLU(), nn.Conv2d(_HIDDEN, channels, 1), *last)


class DPTDecoder(nn.Module):
    """Four token maps to one map of features at the size of the network's input. A head derives from it and adds the output.

    Args:
        width: channels of a token.
        channels: channels of the four reassembled maps, fine to coarse.
        features: channels of the fusion path.
        coarsest: what the coarsest block does with its first unit, see :class:`FusionBlock`.
    """

    def __init__(self, width: int, channels: Sequence[int], features: int, *, coarsest: Skip) -> None:
        super().__init__()
        fine, medium, _, coarse = channels
        self.projects = nn.ModuleList(nn.Conv2d(width, c, 1) for c in channels)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(fine, fine, 4, stride=4),
                nn.ConvTranspose2d(medium, medium, 2, stride=2),
                nn.Identity(),
                nn.Conv2d(coarse, coarse, 3, stride=2, padding=1),
            ]
        )
        self.scratch = Scratch(channels, features, coarsest)

    def placed(self, x: Tensor, aspect: float) -> Tensor:
        """Returns maps (B, c, h, w) of a picture with this aspect as they are; a head may add to each pixel where it is."""
        return x

    def fused(self, tokens: Sequence[Tensor], rows: int, columns: int) -> Tensor:
        """Four tensors (B, rows columns, C), early to late, -> (B, features / 2, 14 rows, 14 columns)."""
        scratch, aspect = self.scratch, columns / rows
        maps = [
            # The strides are those of channels-last: no copy.
            resize(self.placed(project(t.reshape(t.shape[0], rows, columns, t.shape[-1]).permute(0, 3, 1, 2)), aspect))
            for t, project, resize in zip(tokens, self.projects, self.resize_layers, strict=True)
        ]  # (B, c, 4h, 4w), (B, c, 2h, 2w), (B, c, h, w), (B, c, ceil(h/2), ceil(w/2))
        one = scratch.layer1_rn(maps[0])
        two = scratch.layer2_rn(maps[1])
        three = scratch.layer3_rn(maps[2])
        x = scratch.refinenet4(scratch.layer4_rn(maps[3]), None, _size(three))
        x = scratch.refinenet3(x, three, _size(two))
        x = scratch.refinenet2(x, two, _size(one))
        x = scratch.refinenet1(x, one, (2 * one.shape[-2], 2 * one.shape[-1]))
        x = F.interpolate(scratch.output_conv1(x), (PATCH * rows, PATCH * columns), mode="bilinear", align_corners=True)
        return self.placed(x, aspect)


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]
