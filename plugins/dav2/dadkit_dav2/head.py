"""The DPT head of Depth Anything, with the official parameter names."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from dadkit_dav2.sizes import PATCH, Size

__all__ = ["DPTHead"]

_HIDDEN = 32
# Where a randomly initialised head starts: see DPTHead.start_at.
_START = 3.0


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
        takes_skip: False for the coarsest block, which has nothing to add. Its first unit exists in every checkpoint all the
            same, so it exists here, but does not train.
    """

    def __init__(self, channels: int, *, takes_skip: bool = True) -> None:
        super().__init__()
        self.resConfUnit1 = ResidualUnit(channels).requires_grad_(takes_skip)
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
    """The part of the head that the official code calls ``scratch``: equal channels, fusion, and output."""

    def __init__(self, channels: tuple[int, ...], features: int, last: nn.Module) -> None:
        super().__init__()
        self.layer1_rn, self.layer2_rn, self.layer3_rn, self.layer4_rn = (
            nn.Conv2d(c, features, 3, padding=1, bias=False) for c in channels
        )
        self.refinenet1 = FusionBlock(features)
        self.refinenet2 = FusionBlock(features)
        self.refinenet3 = FusionBlock(features)
        self.refinenet4 = FusionBlock(features, takes_skip=False)
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(features // 2, _HIDDEN, 3, padding=1), nn.ReLU(), nn.Conv2d(_HIDDEN, 1, 1), last
        )


class DPTHead(nn.Module):
    """Four token maps to one map at the size of the network's input.

    Args:
        size: the architecture.
        max_depth: None: relative. A number: metres in (0, ``max_depth``), by a sigmoid. The parameters are the same.
        last: what relative answers pass through at last: officially a ReLU, for disparity.
        start: where the relative answers of random weights start.
    """

    def __init__(
        self, size: Size, max_depth: float | None = None, *, last: type[nn.Module] = nn.ReLU, start: float = _START
    ) -> None:
        super().__init__()
        self.scale = 1.0 if max_depth is None else max_depth
        fine, medium, _, coarse = size.channels
        self.projects = nn.ModuleList(nn.Conv2d(size.width, c, 1) for c in size.channels)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(fine, fine, 4, stride=4),
                nn.ConvTranspose2d(medium, medium, 2, stride=2),
                nn.Identity(),
                nn.Conv2d(coarse, coarse, 3, stride=2, padding=1),
            ]
        )
        self.scratch = Scratch(size.channels, size.features, last() if max_depth is None else nn.Sigmoid())
        if max_depth is None:
            self.start_at(start)

    def start_at(self, start: float) -> None:
        """Let a random head start well above zero.

        With torch's default bias of about 0 a whole random map may fall under the last ReLU, for every image; it then gets no
        gradient and never leaves. The losses are shift-invariant, so nothing would lift a half-dead map either. A random
        head varies by about 0.1 around its bias, and training brings it to a mean absolute deviation of about 1, of which
        the farthest pixels of usual scenes lie two to three below the median: hence 3.
        """
        last = self.scratch.output_conv2[2]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.constant_(last.bias, start)

    def forward(self, tokens: list[Tensor], rows: int, columns: int) -> Tensor:
        """Four tensors (B, rows columns, C), early to late, -> (B, 1, 14 rows, 14 columns)."""
        scratch = self.scratch
        maps = [
            resize(
                project(t.reshape(t.shape[0], rows, columns, t.shape[-1]).permute(0, 3, 1, 2))
            )  # strides of channels-last: no copy
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
        answer: Tensor = scratch.output_conv2(x)
        return answer if self.scale == 1.0 else answer * self.scale


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]
