"""The networks of MoGe 1 and 2: DINOv2, and convolutions that double the patch grid until it is fine enough.

Source: Wang et al., MoGe (CVPR 2025) and MoGe-2 (2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from dadkit_dinov2.network import Encoder
from torch import Tensor, nn
from torch.nn import functional as F

from dadkit_moge.sizes import PATCH, Model

__all__ = ["Raw", "Version1", "Version2", "places"]

Raw = tuple[Tensor, Tensor, Tensor | None]
"""Raw points (B, 3, h, w) and raw mask (B, 1, h, w) of one size, and the logarithm of the metric scale (B,) of MoGe 2."""


def places(height: int, width: int, aspect: float, like: Tensor) -> Tensor:
    """(2, height, width): x and y of pixel centres, in halves of the diagonal of a picture of this aspect (width / height)."""
    diagonal = (1 + aspect**2) ** 0.5

    def ends(count: int, reach: float) -> Tensor:
        end = reach * (count - 1) / count
        return torch.linspace(-end, end, count, dtype=like.dtype, device=like.device)

    x, y = torch.meshgrid(ends(width, aspect / diagonal), ends(height, 1 / diagonal), indexing="xy")
    return torch.stack([x, y])


def _conv3(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate")


class Residual(nn.Module):
    """``x + conv(relu(conv(relu(x))))``; in MoGe 1 each ReLU follows a group norm, and the inner width is doubled."""

    def __init__(self, channels: int, *, normed: bool = False) -> None:
        super().__init__()
        hidden = 2 * channels if normed else channels
        self.norm1 = nn.GroupNorm(1, channels) if normed else nn.Identity()
        self.conv1 = _conv3(channels, hidden)
        self.norm2 = nn.GroupNorm(max(1, hidden // 32), hidden) if normed else nn.Identity()
        self.conv2 = _conv3(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        y: Tensor = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return x + y


class Pyramid(nn.Module):
    """Five maps, each of twice the size of the one before: what is given at a level is added, refined, and doubled.

    Args:
        inputs: channels of what is given at each level; 0 = nothing but what comes from below.
        widths: channels inside.
        blocks: residual blocks at each level.
        outputs: channels of the answer at the last level; None = the five maps themselves.
    """

    def __init__(self, inputs: Sequence[int], widths: Sequence[int], blocks: Sequence[int], outputs: int | None = None) -> None:
        super().__init__()
        self.enter = nn.ModuleList(nn.Conv2d(given, width, 1) for given, width in zip(inputs, widths, strict=True))
        self.refine = nn.ModuleList(
            nn.Sequential(*(Residual(width) for _ in range(count))) for width, count in zip(widths, blocks, strict=True)
        )
        last = len(widths) - 2
        self.grow = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
                if level == last
                else nn.ConvTranspose2d(width, finer, 2, stride=2),
                _conv3(width if level == last else finer, finer),
            )
            for level, (width, finer) in enumerate(pairwise(widths))
        )
        self.out = None if outputs is None else nn.Conv2d(widths[-1], outputs, 1)

    def forward(self, given: Sequence[Tensor]) -> list[Tensor]:
        """A map for each level -> a map for each level; with ``outputs`` only the last one."""
        maps = []
        x: Tensor | None = None
        for level, (enter, refine) in enumerate(zip(self.enter, self.refine, strict=True)):
            entered = enter(given[level])
            x = refine(entered if x is None else x + entered)
            maps.append(x)
            if level < len(self.grow):
                x = self.grow[level](x)
        return maps if self.out is None else [self.out(maps[-1])]


class Version2(nn.Module):
    """MoGe 2, without its normals."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        width, inner = model.encoder.width, model.widths
        self.encoder = Encoder(model.encoder, taps=model.taps)
        self.projections = nn.ModuleList(nn.Conv2d(width, inner[0], 1) for _ in model.taps)
        head = (0, 1, 1, 1, 0)
        self.neck = Pyramid((inner[0] + 2, 2, 2, 2, 2), inner, model.neck)
        self.points = Pyramid(inner, inner, head, 3)
        self.mask = Pyramid(inner, inner, head, 1)
        self.scale = nn.Sequential(
            nn.Linear(width, inner[0]), nn.ReLU(), nn.Linear(inner[0], inner[0]), nn.ReLU(), nn.Linear(inner[0], 1)
        )

    def forward(self, x: Tensor, size: tuple[int, int], aspect: float) -> Raw:
        """(B, 3, 14 h, 14 w) normalised, of a picture of this aspect -> raw maps at ``size``, and the scale's logarithm."""
        rows, columns = x.shape[-2] // PATCH, x.shape[-1] // PATCH
        taps = [self.encoder.norm(tokens) for tokens in self.encoder.tapped(x)]
        features = _summed(self.projections, taps, rows, columns)
        given = [places(rows * 2**i, columns * 2**i, aspect, x).expand(len(x), -1, -1, -1) for i in range(5)]
        maps = self.neck([torch.cat([features, given[0]], 1), *given[1:]])
        points, mask = (_resized(head(maps)[-1], size) for head in (self.points, self.mask))
        return points, mask.sigmoid(), self.scale(taps[-1][:, 0])[:, 0]


class Version1(nn.Module):
    """MoGe 1."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        widths = model.widths
        self.encoder = Encoder(model.encoder, taps=model.taps)
        self.projections = nn.ModuleList(nn.Conv2d(model.encoder.width, widths[0], 1) for _ in model.taps)
        self.grow = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(before + 2, after, 2, stride=2),
                _conv3(after, after),
                Residual(after, normed=True),
                Residual(after, normed=True),
            )
            for before, after in pairwise(widths)
        )
        self.points, self.mask = (
            nn.Sequential(_conv3(widths[-1] + 2, 32), nn.ReLU(), nn.Conv2d(32, outputs, 1)) for outputs in (3, 1)
        )

    def forward(self, x: Tensor, size: tuple[int, int], aspect: float) -> Raw:
        """As :meth:`Version2.forward`, with no scale; ``size`` is that of the picture before it was cut to whole patches."""
        rows, columns = x.shape[-2] // PATCH, x.shape[-1] // PATCH
        taps = [self.encoder.norm(tokens) for tokens in self.encoder.tapped(x)]
        y = _summed(self.projections, taps, rows, columns)
        for grow in self.grow:
            y = grow(torch.cat([y, places(y.shape[-2], y.shape[-1], aspect, y).expand(len(y), -1, -1, -1)], 1))
        y = _resized(y, size)
        y = torch.cat([y, places(*size, aspect, y).expand(len(y), -1, -1, -1)], 1)
        return self.points(y), self.mask(y), None


def _summed(projections: nn.ModuleList, taps: Sequence[Tensor], rows: int, columns: int) -> Tensor:
    maps = [
        project(tokens[:, 1:].reshape(len(tokens), rows, columns, -1).permute(0, 3, 1, 2))
        for project, tokens in zip(projections, taps, strict=True)
    ]
    return torch.stack(maps).sum(0)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=False)
