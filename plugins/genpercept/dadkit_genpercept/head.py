"""GenPercept's DPT head in plain torch, with the parameter names of its released files.

Own code after Ranftl et al., Vision Transformers for Dense Prediction (ICCV 2021), as transformers names its parts.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["DPTHead"]

_HIDDEN = 32


class Upsample(nn.Module):
    """Each pixel doubled, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, 2h, 2w)."""
        answer: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return answer


class ResidualUnit(nn.Module):
    """``x + convolution2(relu(convolution1(relu(x))))``, without biases."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.convolution2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        y: Tensor = self.convolution2(F.relu(self.convolution1(F.relu(x))))
        return x + y


class FusionLayer(nn.Module):
    """Adds a finer map to the coarse one, refines, and doubles the size. The coarsest layer has nothing to add."""

    def __init__(self, channels: int, *, takes_skip: bool) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, channels, 1)
        if takes_skip:
            self.residual_layer1 = ResidualUnit(channels)
        self.residual_layer2 = ResidualUnit(channels)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """(B, C, h, w), and a map of the same shape or None -> (B, C, 2h, 2w)."""
        if skip is not None:
            x = x + self.residual_layer1(skip)
        # The official code doubles first. A 1x1 convolution commutes with that, and here touches a quarter of the pixels.
        x = self.projection(self.residual_layer2(x))
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)


class FusionStage(nn.Module):
    """From coarse to fine."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FusionLayer(channels, takes_skip=index > 0) for index in range(count))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps from fine to coarse, each (B, C, …) of twice the next one's size -> (B, C, …) of twice the finest's size."""
        coarsest, *finer = reversed(maps)
        x: Tensor = self.layers[0](coarsest, None)
        for layer, skip in zip(self.layers[1:], finer, strict=True):
            x = layer(x, skip)
        return x


class Neck(nn.Module):
    """Brings all maps to one number of channels and fuses them."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, width, 3, padding=1, bias=False) for c in channels)
        self.fusion_stage = FusionStage(width, len(channels))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps from fine to coarse -> (B, width, …) of twice the finest's size."""
        answer: Tensor = self.fusion_stage([conv(x) for conv, x in zip(self.convs, maps, strict=True)])
        return answer


class Output(nn.Module):
    """Convolutions to one map of twice the size, without a last activation (their "identity" head)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(width, width, 3, padding=1)
        self.head = nn.Sequential(
            nn.Conv2d(width, width // 2, 3, padding=1),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(width // 2, _HIDDEN, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_HIDDEN, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) -> (B, 1, 2h, 2w)."""
        answer: Tensor = self.head(F.relu(self.projection(x)))
        return answer


class DPTHead(nn.Module):
    """The UNet's four up-block maps to one unbounded map at the size of the network's input.

    Args:
        channels: of the maps from fine to coarse.
        width: channels of the fusion path.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.feature_upsample_0 = Upsample(channels[0])
        self.neck = Neck(channels, width)
        self.head = Output(width)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Four maps from fine to coarse, at strides 8, 8, 16, 32 of an input (64 h, 64 w) -> (B, 1, 64 h, 64 w)."""
        finest, *others = maps
        answer: Tensor = self.head(self.neck([self.feature_upsample_0(finest), *others]))  # strides 4, 8, 16, 32
        return answer
