"""TopFormer and its decoder: a pyramid of tokens, one transformer over all of them, and fusion from coarse to fine.

The encoder's parameters bear the official names. Own code after Zhang et al., TopFormer: Token Pyramid Transformer for Mobile
Semantic Segmentation, CVPR 2022. The decoder's structure is that of LeReS (Yin et al., CVPR 2021), as the lightweight paper
pairs it with TopFormer; own code. Upsampling is to the size of the finer level, not by a fixed factor of two, so any input size
works; widths may differ per level.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dadkit_topformer.sizes import STEM, Residual, Size

__all__ = [
    "Attention",
    "Decoder",
    "Injection",
    "TopFormer",
    "fold_batch_norms",
]


_KEY = 16  # channels of a head's queries and keys
_VALUE = 32  # channels of a head's values
_BLOCKS = 4


class ConvBN(nn.Sequential):
    """Convolution ``c`` without bias, then batch norm ``bn``."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)


class InvertedResidual(nn.Module):
    """Expand, depth-wise, project; plus the input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, row: Residual) -> None:
        super().__init__()
        hidden = inputs * row.expansion
        expand = [ConvBN(inputs, hidden), nn.ReLU()] if row.expansion > 1 else []
        depthwise = ConvBN(hidden, hidden, row.kernel, row.stride, groups=hidden)
        self.conv = nn.Sequential(*expand, depthwise, nn.ReLU(), ConvBN(hidden, outputs))
        self.adds = row.stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, outputs, ceil(h/stride), ceil(w/stride))."""
        y: Tensor = self.conv(x)
        return x + y if self.adds else y


class TokenPyramid(nn.Module):
    """MobileNetV2-like stages; the last map of each stride from 4 on is a level of tokens."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvBN(3, STEM, 3, 2), nn.ReLU())
        channels, inputs = (STEM, *size.channels), STEM
        self.ends: dict[int, str] = {}  # level -> name of its last residual
        self.names: list[str] = []
        for number, row in enumerate(size.pyramid, start=1):
            name = f"layer{number}"
            self.add_module(name, InvertedResidual(inputs, channels[row.level], row))
            self.names.append(name)
            self.ends[row.level] = name
            inputs = channels[row.level]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> four maps at strides 4, 8, 16, 32."""
        levels = []
        x = self.stem(x)
        ends = set(self.ends.values()) - {self.ends[0]}
        for name in self.names:
            x = self.get_submodule(name)(x)
            if name in ends:
                levels.append(x)
        return levels


class Attention(nn.Module):
    """Multi-head attention on a map, **without** the usual 1/sqrt(d): the published weights are trained that way."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = ConvBN(width, heads * _KEY)
        self.to_k = ConvBN(width, heads * _KEY)
        self.to_v = ConvBN(width, heads * _VALUE)
        self.proj = nn.Sequential(nn.ReLU6(), ConvBN(heads * _VALUE, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        height, width = x.shape[-2:]
        q, k, v = (
            layer(x).reshape(x.shape[0], self.heads, -1, height * width).transpose(2, 3)  # (B, heads, h w, channels)
            for layer in (self.to_q, self.to_k, self.to_v)
        )
        y = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        y = y.transpose(2, 3).reshape(x.shape[0], self.heads * _VALUE, height, width)
        answer: Tensor = self.proj(y)
        return answer


class MLP(nn.Module):
    """1x1, depth-wise 3x3 (the only convolution with a bias here), ReLU6, 1x1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = 2 * width
        self.fc1 = ConvBN(width, hidden)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = ConvBN(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        answer: Tensor = self.fc2(F.relu6(self.dwconv(self.fc1(x))))
        return answer


class Block(nn.Module):
    """Attention and MLP, each added to its input; in training an image skips either with probability ``drop``."""

    def __init__(self, width: int, heads: int, drop: float) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.mlp = MLP(width)
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        x = x + self._dropped(self.attn(x))
        return x + self._dropped(self.mlp(x))

    def _dropped(self, x: Tensor) -> Tensor:
        if not self.training or self.drop == 0:
            return x
        keep = 1 - self.drop
        return x * x.new_empty(len(x), 1, 1, 1).bernoulli_(keep).div_(keep)


class Transformer(nn.Module):
    """Four blocks; the later a block, the likelier it is skipped."""

    def __init__(self, size: Size, drop_path: float) -> None:
        super().__init__()
        drops = [drop_path * i / (_BLOCKS - 1) for i in range(_BLOCKS)]
        self.transformer_blocks = nn.Sequential(*(Block(size.width, size.heads, drop) for drop in drops))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        answer: Tensor = self.transformer_blocks(x)
        return answer


class NamedConvBN(nn.Sequential):
    """As :class:`ConvBN`, 1x1, with the names of mmcv: ``conv`` and ``bn``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)


class Injection(nn.Module):
    """Puts the transformer's view of the whole image into one level: ``local * gate(global) + global'``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.local_embedding = NamedConvBN(inputs, outputs)
        self.global_embedding = NamedConvBN(inputs, outputs)
        self.global_act = NamedConvBN(inputs, outputs)

    def forward(self, local: Tensor, overall: Tensor) -> Tensor:
        """(B, C, h, w) of the level and (B, C, h', w') of the transformer -> (B, outputs, h, w)."""
        size = local.shape[-2:]
        gate = F.interpolate(F.hardsigmoid(self.global_act(overall)), size, mode="bilinear", align_corners=False)
        shift = F.interpolate(self.global_embedding(overall), size, mode="bilinear", align_corners=False)
        answer: Tensor = self.local_embedding(local) * gate + shift
        return answer


class TopFormer(nn.Module):
    """The encoder.

    Args:
        size: the architecture.
        injection: ``"official"``: levels of strides 8, 16, 32, all with ``size.injected`` channels, as published; ``"all"``:
            all four levels, each keeping its channels; ``"none"``: no injection, the transformer's map goes to the coarsest.
        drop_path: probability of skipping the last block's parts in training (published: 0.1).
    """

    def __init__(self, size: Size, *, injection: Literal["official", "all", "none"], drop_path: float) -> None:
        super().__init__()
        self.channels = size.channels
        self.tpm = TokenPyramid(size)
        self.trans = Transformer(size, drop_path)
        first, *others = size.channels
        if injection == "official":
            self.outputs = (first, *[size.injected] * len(others))
            self.SIM = nn.ModuleList([nn.Identity(), *(Injection(c, size.injected) for c in others)])
        elif injection == "all":
            self.outputs = size.channels
            self.SIM = nn.ModuleList(Injection(c, c) for c in size.channels)
        else:
            self.outputs = (*size.channels[:-1], size.channels[-1] + size.width)
            self.SIM = nn.ModuleList()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # Each block starts as the identity: random blocks would drown the pyramid's answer in noise. In a trial of 400 steps on
        # procedural scenes at 96 pixels the held-out loss came to 0.72 instead of 0.77.
        for block in self.trans.transformer_blocks:
            nn.init.zeros_(block.attn.proj[1].bn.weight)
            nn.init.zeros_(block.mlp.fc2.bn.weight)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """(B, 3, H, W) -> four maps at strides 4 to 32, with ``outputs`` channels, and the transformer's map at stride 64."""
        levels = self.tpm(x)
        height, width = levels[-1].shape[-2:]
        pooled = ((height + 1) // 2, (width + 1) // 2)
        overall = self.trans(torch.cat([_pooled(level, pooled) for level in levels], dim=1))
        if not self.SIM:
            coarse = F.interpolate(overall, (height, width), mode="bilinear", align_corners=False)
            return [*levels[:-1], torch.cat([levels[-1], coarse], dim=1)], overall
        parts = overall.split(self.channels, dim=1)
        injected = [
            inject(level, part) if isinstance(inject, Injection) else level
            for inject, level, part in zip(self.SIM, levels, parts, strict=True)
        ]
        return injected, overall


def _pooled(level: Tensor, size: tuple[int, int]) -> Tensor:
    """``adaptive_avg_pool2d``: (B, C, h, w) -> (B, C, *size).

    Where the sizes are symbols, as under ``torch.export``, torch would write the example's indices into the graph. There the
    same averages are two products with matrices. In a graph of one size that can be divided they are two means, of columns and
    of rows: onnxruntime pools large windows of 24 channels ten times as slowly.
    """
    height, width = level.shape[-2:]
    if isinstance(height, int) and isinstance(width, int):
        if torch.compiler.is_exporting() and height % size[0] == width % size[1] == 0:
            columns_averaged = level.unflatten(-1, (size[1], width // size[1])).mean(-1)
            return columns_averaged.unflatten(-2, (size[0], height // size[0])).mean(-2)
        return F.adaptive_avg_pool2d(level, size)
    rows, columns = _averages(height, size[0], level), _averages(width, size[1], level)
    return rows @ level @ columns.T


def _averages(length: int, parts: int, like: Tensor) -> Tensor:
    """(parts, length): row i averages the entries from floor(i length / parts) to ceil((i + 1) length / parts)."""
    part = torch.arange(parts, device=like.device)
    first, end = part * length // parts, ((part + 1) * length + parts - 1) // parts
    entry = torch.arange(length, device=like.device)
    inside = (entry >= first[:, None]) & (entry < end[:, None])
    return inside.to(like.dtype) / (end - first)[:, None].to(like.dtype)


class Refine(nn.Module):
    """A 3x3 convolution to ``outputs`` channels, then a two-convolution residual, then ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.branch = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, h, w)."""
        x = self.conv(x)
        return F.relu(x + self.branch(x))


class Fuse(nn.Module):
    """Refines a level, adds the coarser result, refines the sum."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.before = Refine(inputs, width)
        self.after = Refine(width, outputs)

    def forward(self, level: Tensor, coarser: Tensor) -> Tensor:
        """(B, inputs, h, w) and (B, width, h', w') -> (B, outputs, h, w)."""
        answer: Tensor = self.after(self.before(level) + _resized(coarser, level.shape[-2:]))
        return answer


class Decoder(nn.Module):
    """Four levels to one map at half the input's size.

    Its last bias starts at 3 for relative maps: the student's magnitude is anchored at a mean absolute deviation of about 1,
    and the farthest pixels of usual scenes lie two to three of these below the median. The map then starts positive and in
    the softplus' nearly linear part, and no part of it has to be squeezed towards zero to be told apart.

    Args:
        inputs: channels of the levels, fine to coarse.
        widths: the decoder's channels at these levels; most of the cost lies in the first.
        start: where the answer of random weights starts.
    """

    def __init__(self, inputs: tuple[int, ...], widths: tuple[int, ...], start: float = 3.0) -> None:
        super().__init__()
        self.coarsest = Refine(inputs[-1], widths[-1])
        self.join = nn.Conv2d(widths[-1], widths[-2], 3, padding=1)
        steps = zip(inputs[:-1], pairwise((widths[0], *widths[:-1])), strict=True)  # (level's channels, (answer, width))
        self.fuse = nn.ModuleList(Fuse(c, width, outputs) for c, (outputs, width) in steps)
        half = max(widths[0] // 2, 1)
        self.output = nn.Sequential(
            nn.Conv2d(widths[0], half, 3, padding=1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, 1, 3, padding=1),
        )
        last = self.output[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.constant_(last.bias, start)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Maps at strides 4, 8, 16, 32 -> (B, 1, H/2, W/2), unbounded."""
        x = self.join(self.coarsest(levels[-1]))
        for fuse, level in zip(reversed(self.fuse), reversed(levels[:-1]), strict=True):
            x = fuse(level, x)
        height, width = x.shape[-2:]
        answer: Tensor = self.output(_resized(x, (2 * height, 2 * width)))
        return answer


def _resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def fold_batch_norms(module: nn.Module) -> None:
    """Replace, in place, every pair of convolution and batch norm in ``module`` by one convolution with a bias.

    In eval mode a batch norm is affine, ``y = (x - mean) / sqrt(var + eps) * weight + bias``, so it can be multiplied into the
    convolution's weights: exact up to rounding, computed in float64. Pairs are neighbours in an ``nn.Sequential``; an identity
    stays in the norm's place, so that the parameters' names do not move.

    Raises:
        ValueError: a batch norm does not follow a convolution; nothing may be left over in silence.
    """
    for container in [part for part in module.modules() if isinstance(part, nn.Sequential)]:
        for (_, conv), (name, norm) in pairwise(list(container.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                _fold(conv, norm)
                setattr(container, name, nn.Identity())
    left = [name for name, part in module.named_modules() if isinstance(part, nn.BatchNorm2d)]
    if left:
        raise ValueError(f"no convolution stands before the batch norms {', '.join(left)}, so they cannot be folded")


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()  # (outputs,)
    shift = norm.bias.double() - norm.running_mean.double() * scale
    if conv.bias is not None:
        shift += conv.bias.double() * scale
    conv.weight.copy_(conv.weight.double() * scale.view(-1, 1, 1, 1))
    conv.bias = nn.Parameter(shift.to(conv.weight), requires_grad=conv.weight.requires_grad)
