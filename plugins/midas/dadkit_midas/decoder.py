"""The decoder of MiDaS: tokens to maps by DPT's reassemble operation, equal channels, fusion from coarse to fine, a head."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Decoder", "FusionBlock", "Reassemble", "ResidualUnit"]

# Where a randomly initialised head starts: see Decoder.start_positive.
_START = 3.0


class Reassemble(nn.Module):
    """Mixes the class token into every patch token, lays them out, and brings them to one of four strides.

    Args:
        width: channels of a token.
        channels: channels of the map.
        level: 0 to 3 for strides 4, 8, 16, 32, of tokens at stride 16.
    """

    def __init__(self, width: int, channels: int, level: int) -> None:
        super().__init__()
        self.readout = nn.Linear(2 * width, width)
        self.project = nn.Conv2d(width, channels, 1)
        self.resize = (
            nn.ConvTranspose2d(channels, channels, 4, stride=4),
            nn.ConvTranspose2d(channels, channels, 2, stride=2),
            nn.Identity(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
        )[level]

    def forward(self, tokens: Tensor, rows: int, columns: int) -> Tensor:
        """(B, 1 + rows columns, C), class token first -> (B, channels, h, w)."""
        # The official code joins the class token to each patch token. Its share of the product is the same for all of them.
        patches, token = self.readout.weight.chunk(2, dim=1)
        shared = F.linear(tokens[:, :1], token, self.readout.bias)  # (B, 1, C)
        x = F.gelu(F.linear(tokens[:, 1:], patches) + shared)  # (B, N, C)
        x = x.transpose(1, 2).unflatten(2, (rows, columns))
        answer: Tensor = self.resize(self.project(x))
        return answer


class ResidualUnit(nn.Module):
    """``r + conv2(relu(conv1(relu(x))))``, where the residual r is x, or relu(x) if ``rectified``.

    The first unit of the official code rectifies in place, and so adds relu(x) without saying so; v2.1 large was trained with
    it, and its answers differ by 45 % without. All later models use another unit.
    """

    def __init__(self, channels: int, *, rectified: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.rectified = rectified

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        positive = F.relu(x)
        y: Tensor = self.conv2(F.relu(self.conv1(positive)))
        return y + (positive if self.rectified else x)


class FusionBlock(nn.Module):
    """Adds a finer map to the coarse one, refines, and upsamples.

    Args:
        channels: channels of both maps.
        outputs: channels of the answer; None leaves out the 1x1 convolution that makes them (v2.1 large).
        takes_skip: False for the coarsest block, which has nothing to add. Its first unit is in every official file, takes no
            part in the function, and is left out here.
        rectified: see :class:`ResidualUnit`.
    """

    def __init__(self, channels: int, outputs: int | None, *, takes_skip: bool, rectified: bool) -> None:
        super().__init__()
        self.skip = ResidualUnit(channels, rectified=rectified) if takes_skip else None
        self.refine = ResidualUnit(channels, rectified=rectified)
        self.out = nn.Identity() if outputs is None else nn.Conv2d(channels, outputs, 1)

    def forward(self, x: Tensor, skip: Tensor | None, size: tuple[int, int]) -> Tensor:
        """(B, C, h, w), a finer map of the same size or None, and the wanted size -> (B, C', *size)."""
        if self.skip is not None and skip is not None:
            x = x + self.skip(skip)
        # The official code upsamples first. A 1x1 convolution commutes with interpolation, whose weights sum to one, and here
        # it touches a quarter of the pixels.
        x = self.out(self.refine(x))
        return F.interpolate(x, size, mode="bilinear", align_corners=True)


class Decoder(nn.Module):
    """Maps of a backbone to one non-negative map at twice the size of the fusion path's end.

    Args:
        channels: channels of the maps, fine to coarse, each half the size of the one before.
        widths: channels of the fusion path at each of them; a block answers with those of the next finer one.
        hidden: channels before the last convolution.
        rectified, project, align_corners: what tells v2.1 large from the rest: the residual of its units, no 1x1 convolution
            after fusion; and v2.1 from v3: corners of pixels are not aligned in the last upsampling.
        transposed: two transposed convolutions before the head, which bring LeViT's stride 16 down to 4.
    """

    def __init__(
        self,
        channels: Sequence[int],
        widths: Sequence[int],
        hidden: int,
        *,
        rectified: bool = False,
        project: bool = True,
        align_corners: bool = True,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        coarsest = len(channels) - 1
        self.adapt = nn.ModuleList(nn.Conv2d(c, w, 3, padding=1, bias=False) for c, w in zip(channels, widths, strict=True))
        self.fuse = nn.ModuleList(
            FusionBlock(width, finer if project else None, takes_skip=level < coarsest, rectified=rectified)
            for level, (finer, width) in enumerate(pairwise([widths[0], *widths]))
        )
        width = widths[0]
        self.transposed = _transposed_stem(width) if transposed else nn.Identity()
        width = width // 4 if transposed else width
        self.head = nn.ModuleList(
            [nn.Conv2d(width, width // 2, 3, padding=1), nn.Conv2d(width // 2, hidden, 3, padding=1), nn.Conv2d(hidden, 1, 1)]
        )
        self.align_corners = align_corners
        self.start_positive()

    def start_positive(self) -> None:
        """Let a random head start well above zero.

        With torch's default bias of about 0 a whole random map may fall under the last ReLU, for every image; it then gets no
        gradient and never leaves. Training brings a map to a mean absolute deviation of about 1, of which the farthest pixels
        of usual scenes lie two to three below the median: hence 3.
        """
        last = self.head[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.constant_(last.bias, _START)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C_k, h_k, w_k), fine to coarse -> (B, 1, 4 h_0, 4 w_0); four times that with transposed convolutions."""
        levels = [adapt(x) for adapt, x in zip(self.adapt, maps, strict=True)]
        sizes = [(2 * levels[0].shape[-2], 2 * levels[0].shape[-1]), *((x.shape[-2], x.shape[-1]) for x in levels)]
        x = levels[-1]
        for level in reversed(range(len(levels))):
            x = self.fuse[level](x, levels[level], sizes[level])
        x = self.head[0](self.transposed(x))
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=self.align_corners)
        return F.relu(self.head[2](F.relu(self.head[1](x))))


def _transposed_stem(channels: int) -> nn.Sequential:
    """Returns two upsamplings by 2 that halve the channels each.

    The official code passes a dilation of 1 by position, and it arrives as output padding; without it the sizes would not
    double.
    """
    layers: list[nn.Module] = []
    for width in (channels, channels // 2):
        layers += [
            nn.ConvTranspose2d(width, width // 2, 3, stride=2, padding=1, output_padding=1, bias=False),
            nn.BatchNorm2d(width // 2),
            nn.Hardswish(),
        ]
    return nn.Sequential(*layers)
