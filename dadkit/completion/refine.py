"""The learned completer: what a small network adds to the closed form. See `docs/completion.md`.

    answer = align * exp(w * (log kriging - log align))

``w`` is a map of a U-Net on a grid of fixed size. ``kriging`` is the global fit corrected by the residuals at the points, each
the more the nearer it is in place and depth. A map of its own that the network added to the logarithm made rendered scenes no
better and real pictures worse; a second map, for the fit to the nearest points, gained one per cent.

All of the network's inputs are ratios, so ten times the points' depth gives ten times the answer; its last layer begins at
zero, so that an untrained network answers with the closed form. With fewer than ten points that is all. The change fades out
where points are so dense that the grid is too coarse to help, between 5 and 2 cells from point to point, and where the global
fit is nearer or farther than all points, which nothing is known of.

The three modules are those of Robust Lightweight Depth Estimation's completion (a relative map, an alignment, a network that is
guided by the picture). Its network is not published, and neither is Yin et al.'s, which it builds on: this one is our own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dadkit.alignment import Keep, SparseFit, align_to_points, fill, kriging, within
from dadkit.interfaces import Completer, CompleterSpec, Hints, Prediction, Student
from dadkit.loading import load_student
from dadkit.spaces import Space
from dadkit.weights import load_strict, read_weights

__all__ = ["Refine"]

CHANNELS = 11
"""Colours, log answer / median, log answer / global fit, log kriging / answer, residual and presence of points, log
distance to them, log of their number, row."""
MOST_POINTS = 500
"""Points that ``kriging`` looks at; with many more of them the closed form needs no help."""
DENSE, SPARSE = 2.0, 5.0
"""Cells from point to point at which the network's change is gone, and at which it is whole."""
MOST = 1.5
"""Largest logarithm that is added."""
MANY = 10
"""Points from which the network is asked, and ``kriging`` is looked at."""


class Refine(Completer):
    """``align``, and a small network that corrects it between the points.

    Args:
        weights: a ``model.safetensors`` of a stage that trained it, or None for a network that adds nothing.
        width: channels of the first level.
        grid: cells of the longer side on which the network works, whatever the picture's size.
        keep: ``soft`` or ``exact``, as for ``align``.
        max_depth: farthest depth in metres, as for ``align``.
        encoder: a registered student whose encoder looks at the picture besides (``topformer/tiny``, ``timm/auto``); it learns
            with the network, and its weights are part of the network's. None: the network sees colours alone.
        encoder_options: of the encoder, ``weights`` among them.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        width: int = 32,
        grid: int = 160,
        keep: Keep = "soft",
        max_depth: float | None = None,
        encoder: str | None = None,
        encoder_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if keep not in ("soft", "exact"):
            raise ValueError(f"keep must be soft or exact, got {keep!r}")
        if max_depth is not None and not max_depth > 0:
            raise ValueError(f"max_depth must be above 0 metres, got {max_depth}")
        if grid < 32 or width < 8:
            raise ValueError(f"grid must be at least 32 and width at least 8, got {grid} and {width}")
        self.spec = CompleterSpec(name="refine")
        self.grid, self.keep, self.max_depth = grid, keep, max_depth
        widths = (width, width * 3 // 2, width * 2, width * 3)
        self.network = _UNet(CHANNELS, widths)
        self.encoder = None if encoder is None else _Encoder(load_student(encoder, **(encoder_options or {})), widths)
        if self.encoder is not None:
            self.spec = CompleterSpec(name="refine", license=self.encoder.model.spec.license)
        if weights is not None:
            load_strict(self, read_weights(weights), source=weights)
            self.eval()

    def complete(
        self, images: Tensor, hints: Hints, relative: Prediction | None = None, intrinsics: Tensor | None = None
    ) -> Prediction:
        """See :meth:`dadkit.interfaces.Completer.complete`. ``intrinsics`` are not looked at."""
        if relative is None:
            raise ValueError("refine needs the map of a depth model (relative=…)")
        fit = align_to_points(
            relative.depth, relative.space, hints.depth, hints.valid, sigma=hints.sigma, max_depth=self.max_depth
        )
        size = (fit.depth.shape[-2], fit.depth.shape[-1])
        inputs, apart = self.inputs(images, hints, fit)
        seen = () if self.encoder is None else self.encoder(images, (inputs.shape[-2], inputs.shape[-1]))
        change = MOST * torch.tanh(self.network(inputs, seen).float() * apart / MOST)
        count = fit.used.sum((1, 2, 3))
        spacing = (change.shape[-2:].numel() / count.clamp(min=1)).sqrt()
        change = change * (((spacing - DENSE) / (SPARSE - DENSE)).clamp(0, 1) * (count >= MANY)).view(-1, 1, 1, 1)
        change = change * _shrink(within(fit.fitted.log(), fit.used), (change.shape[-2], change.shape[-1]))
        change = F.interpolate(change, size, mode="bilinear", align_corners=False)
        far = fit.limits[:, 1].to(change.dtype).view(-1, 1, 1, 1)
        depth = fit.depth * change.exp()
        depth = torch.minimum(depth, torch.maximum(far, fit.depth))
        if self.keep == "exact":
            depth = torch.where(fit.used, hints.depth, depth)
        features = {"support": fit.support, "used": fit.used}
        return replace(relative, depth=depth, space=Space.METRIC, features=features)

    @torch.no_grad()
    def inputs(self, images: Tensor, hints: Hints, fit: SparseFit) -> tuple[Tensor, Tensor]:
        """Returns what the network sees, (B, CHANNELS, h, w), and log(kriging / align), (B, 1, h, w)."""
        height, width = fit.depth.shape[-2:]
        long = max(height, width)
        grid = (max(8, round(self.grid * height / long)), max(8, round(self.grid * width / long)))
        maps = torch.cat((fit.depth.log(), fit.fitted.log(), fit.support.clamp(max=long) + 0.5), 1).nan_to_num()
        own, fitted, distance = _shrink(maps, grid).split(1, 1)
        rows = [_of_points(hints.depth[i, 0], fit, i, fitted[i, 0].double()) for i in range(len(images))]
        middle, count, residual, there, kriged = (torch.stack(parts) for parts in zip(*rows, strict=True))
        apart = (kriged - own).clamp(-1, 1) * (count >= MANY).view(-1, 1, 1, 1)
        row = torch.linspace(-1, 1, grid[0], device=images.device).view(1, 1, -1, 1).expand_as(own)
        inputs = torch.cat(
            (
                (_shrink(images.float(), grid) - 0.45) / 0.25,
                own - middle.view(-1, 1, 1, 1),
                own - fitted,
                apart,
                residual,
                there,
                (distance / long).log(),
                (count.log() / 8).view(-1, 1, 1, 1).expand_as(own),
                row,
            ),
            1,
        )
        return inputs, apart


def _of_points(z: Tensor, fit: SparseFit, index: int, fitted: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of one picture: log of the points' median, their number, residual and presence (1, h, w), log of ``kriging`` (1, h, w).
    ``fitted`` is the logarithm of the global fit on the grid."""
    used, grid = fit.used[index, 0], (fitted.shape[0], fitted.shape[1])
    at, z = used.nonzero(), z[used].double()
    scale = torch.tensor([grid[0] / used.shape[0], grid[1] / used.shape[1]], device=at.device)
    cell = ((at + 0.5) * scale).long()
    place = cell[:, 0] * grid[1] + cell[:, 1]
    apart = (z / fit.depth[index, 0][used]).log().clamp(-1, 1)
    sums = torch.zeros(2, grid[0] * grid[1], dtype=torch.float64, device=at.device)
    sums.index_add_(1, place, torch.stack((apart, torch.ones_like(z))))
    residual, there = (sums[0] / sums[1].clamp(min=1)).view(1, *grid), (sums[1] > 0).view(1, *grid)
    kriged = fitted
    if len(z) >= MANY:
        ones, from_fit = torch.ones_like(z), (z / fit.fitted[index, 0][used]).log()
        some = slice(None, None, math.ceil(len(z) / MOST_POINTS))
        field = kriging(from_fit[some], cell[some], ones[some], fitted)
        kriged = fitted + field + fill(from_fit - field[cell[:, 0], cell[:, 1]], cell, ones, grid, cell=1)
    middle = (z.median() if len(z) else z.new_ones(())).log().float()
    return middle, z.new_tensor(max(1, len(z))).float(), residual.float(), there.float(), kriged[None].float()


def _shrink(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    return maps if tuple(maps.shape[-2:]) == grid else F.interpolate(maps, grid, mode="area")


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="replicate"),
            nn.GroupNorm(4, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="replicate"),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.body(x)
        return y


class _Encoder(nn.Module):
    """A student's feature maps of the picture, for the levels of the U-Net that have their size. Its depth is not looked at.

    The student sees the picture at twice the grid, so that a map of stride 4 fits the finest level.

    Args:
        model: the student.
        widths: channels of the levels.
    """

    def __init__(self, model: Student, widths: Sequence[int]) -> None:
        super().__init__()
        self.model, side = model, 8 * model.spec.size_multiple
        was = model.training
        with torch.no_grad():
            found = model.eval()(torch.zeros(1, 3, side, side)).features
        model.train(was)
        maps = {name: found[name] for name in sorted(found) if found[name].ndim == 4}
        if not maps:
            raise ValueError(f"{model.spec.name} has no feature maps for refine; take topformer/* or timm/* as encoder")
        strides = {name: side / tap.shape[-1] for name, tap in maps.items()}
        self.levels = {name: min(max(round(math.log2(strides[name])) - 2, 0), len(widths) - 1) for name in maps}
        self.adapt = nn.ModuleDict({name: nn.Conv2d(tap.shape[1], widths[self.levels[name]], 1) for name, tap in maps.items()})

    def forward(self, images: Tensor, grid: tuple[int, int]) -> list[tuple[int, Tensor]]:
        """Images (B, 3, H, W) in [0, 1] -> (level, map) of each tap."""
        small = F.interpolate(images, (2 * grid[0], 2 * grid[1]), mode="bilinear", align_corners=False, antialias=True)
        taps = self.model(small).features
        return [(level, self.adapt[name](taps[name])) for name, level in self.levels.items()]


class _UNet(nn.Module):
    """Four levels from half the grid on; a map on the grid. The last layer begins at zero."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(inputs, widths[0], 4, 2, 1)
        self.down = nn.ModuleList(_Block(width) for width in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(widths))
        self.lateral = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(_Block(width) for width in widths[:-1])
        # Without a norm here a large rate has left the SiLU dead at every pixel: the answer was one constant.
        head = nn.Conv2d(widths[0], 1, 3, padding=1, padding_mode="replicate")
        self.last = nn.Sequential(nn.GroupNorm(1, widths[0]), nn.SiLU(), head)
        for parameter in head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, seen: Sequence[tuple[int, Tensor]] = ()) -> Tensor:
        size = x.shape[-2:]
        levels: list[Tensor] = []
        x = self.stem(x)
        for index, block in enumerate(self.down):
            x = self.shrink[index - 1](x) if index else x
            for _, tap in (one for one in seen if one[0] == index):
                x = x + F.interpolate(tap, x.shape[-2:], mode="bilinear", align_corners=False)
            x = block(x)
            levels.append(x)
        for index in range(len(self.up) - 1, -1, -1):
            skip = levels[index]
            coarse = F.interpolate(self.lateral[index](x), skip.shape[-2:], mode="bilinear", align_corners=False)
            x = self.up[index](skip + coarse)
        return F.interpolate(self.last(x), size, mode="bilinear", align_corners=False)
