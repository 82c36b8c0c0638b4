"""BEiT as MiDaS v3.1 uses it: at any size, by resizing the tables of relative positions on each call."""

from __future__ import annotations

import torch
from einops import rearrange
from timm.layers import Mlp
from torch import Tensor, nn
from torch.nn import functional as F

from dadkit_midas.vit import PATCH, small_normal_

__all__ = ["Beit", "position_index", "resize_table"]

_SPECIAL = 3
"""Rows at the end of a table: class token to patch, patch to class token, class token to itself."""


class Attention(nn.Module):
    """Self-attention with a learnt bias for each relative position, and no bias in the keys."""

    def __init__(self, width: int, heads: int, grid: int) -> None:
        super().__init__()
        self.heads = heads
        self.grid = grid
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * grid - 1) ** 2 + _SPECIAL, heads))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, index: Tensor, rows: int, columns: int) -> Tensor:
        """(B, N, C), the (N, N) rows of the table for each pair of tokens, and their grid -> (B, N, C)."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias)
        q, k, v = rearrange(qkv, "b n (three heads c) -> three b heads n c", three=3, heads=self.heads)
        table = resize_table(self.relative_position_bias_table, self.grid, rows, columns)
        positions = rearrange(table[index], "query key heads -> heads query key").to(q.dtype)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=positions[None])
        answer: Tensor = self.proj(rearrange(x, "b heads n c -> b n (heads c)"))
        return answer


class Block(nn.Module):
    """Attention and MLP, each before a learnt scale of its channels."""

    def __init__(self, width: int, heads: int, grid: int, scale: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads, grid)
        self.gamma_1 = nn.Parameter(torch.full((width,), scale))
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, 4 * width)
        self.gamma_2 = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor, index: Tensor, rows: int, columns: int) -> Tensor:
        """As :meth:`Attention.forward`."""
        x = x + self.gamma_1 * self.attn(self.norm1(x), index, rows, columns)
        return x + self.gamma_2 * self.mlp(self.norm2(x))


class Beit(nn.Module):
    """BEiT with the parameter names of timm, answering with the raw tokens of some blocks. It has no position embedding.

    Args:
        width: channels of a token.
        depth: number of blocks.
        heads: attention heads.
        taps: the blocks (counted from 0) whose outputs are answered.
        grid: side, in patches, of the grid that the tables are made for.
        scale: where the learnt scales of the blocks start.
    """

    def __init__(self, *, width: int, depth: int, heads: int, taps: tuple[int, ...], grid: int, scale: float) -> None:
        super().__init__()
        self.width = width
        self.taps = taps
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, stride=PATCH)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(Block(width, heads, grid, scale) for _ in range(depth))
        self.blocks.apply(small_normal_)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, 16 h, 16 w) -> tokens (B, 1 + h w, C) of the tapped blocks, class token first."""
        patches = self.patch_embed["proj"](x)  # (B, C, h, w)
        rows, columns = patches.shape[-2:]
        index = position_index(rows, columns, patches.device)
        x = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        answers = []
        for number, block in enumerate(self.blocks):
            x = block(x, index, rows, columns)
            if number in self.taps:
                answers.append(x)
        return answers


def resize_table(table: Tensor, grid: int, rows: int, columns: int) -> Tensor:
    """Returns the biases of all relative positions of a ``grid`` x ``grid`` window, for one of ``rows`` x ``columns``.

    The official rule: bilinear between the offsets, the class token's three rows as they are. (timm's own rule changes answers
    by 2 to 4 %.) Computed in float32 at least.

    Args:
        table: ((2 grid - 1)^2 + 3, heads).

    Returns:
        ((2 rows - 1)(2 columns - 1) + 3, heads).
    """
    if isinstance(rows, int) and (rows, columns) == (grid, grid):
        return table
    exact = table.to(torch.promote_types(table.dtype, torch.float32))
    offsets = exact[:-_SPECIAL].reshape(1, 2 * grid - 1, 2 * grid - 1, -1).permute(0, 3, 1, 2)  # (1, heads, dy, dx)
    offsets = F.interpolate(offsets, (2 * rows - 1, 2 * columns - 1), mode="bilinear", align_corners=False)
    return torch.cat([offsets[0].flatten(1).T, exact[-_SPECIAL:]])


def position_index(rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    """Returns which row of a table belongs to each pair of tokens (query, key): (1 + rows columns) squared, class
    token first.
    """
    token = torch.arange(rows * columns, device=device)
    y = token // columns
    x = token - y * columns
    dy = y[:, None] - y + rows - 1
    dx = x[:, None] - x + columns - 1
    offsets = torch.full((1, 1), (2 * rows - 1) * (2 * columns - 1), dtype=torch.long, device=device)
    to_patches, to_class = offsets.expand(1, rows * columns), (offsets + 1).expand(rows * columns, 1)
    first = torch.cat([offsets + 2, to_patches], dim=1)
    return torch.cat([first, torch.cat([to_class, dy * (2 * columns - 1) + dx], dim=1)])
