"""DINOv2 as a network: timm's vision transformer with DINOv2's own rules, answering with the tokens of chosen blocks.

One of the rules says how the position embedding is brought to another grid than its own 37 x 37.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from timm.layers import Mlp, SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from dadkit_dinov2.sizes import PATCH, Size

__all__ = [
    "GRID_RULES",
    "Encoder",
    "GridRule",
    "hf_rule",
    "official_rule",
]


GridRule = Callable[[Tensor, int, int], Tensor]


def official_rule(grid: Tensor, rows: int, columns: int) -> Tensor:
    """Resizes by the rule of DINOv2 and Depth Anything: bicubic, sampled with the step (n + 0.1)/N of the scale factor, not
    n/N.

    The 0.1 was put there against rounding, but torch takes a given scale factor for the sampling positions too, so the grid
    is stretched a little. The released depth models were trained with it; n/N instead changes answers by 2 to 9 %.

    Args:
        grid: (1, C, N, N) position embedding.
        rows: wanted height in patches.
        columns: wanted width in patches.

    Returns:
        (1, C, rows, columns).
    """
    if not isinstance(rows, int):
        return _by_matrices(grid, rows, columns, 0.1)
    scale = ((rows + 0.1) / grid.shape[-2], (columns + 0.1) / grid.shape[-1])
    return F.interpolate(grid, scale_factor=scale, mode="bicubic", align_corners=False)


def hf_rule(grid: Tensor, rows: int, columns: int) -> Tensor:
    """Resizes by the rule of transformers: bicubic with the step n/N. Arguments as in :func:`official_rule`."""
    if not isinstance(rows, int):
        return _by_matrices(grid, rows, columns, 0.0)
    return F.interpolate(grid, (rows, columns), mode="bicubic", align_corners=False)


def _by_matrices(grid: Tensor, rows: int, columns: int, offset: float) -> Tensor:
    """Resizes by either rule where the sizes are symbols, as under ``torch.export``: torch would write the example's scale into
    the graph.

    The grid's own size, at which no rule applies, cannot be a branch there either: there the offset becomes 0, and the
    interpolation with step 1 returns the grid itself.
    """
    height, width = grid.shape[-2:]
    row_count, column_count = (torch.full((), count, device=grid.device) for count in (rows, columns))
    own = ((row_count == height) & (column_count == width)).to(grid.dtype)
    offsets = offset * (1 - own)
    across = _cubic(height, rows, height / (row_count + offsets), grid)  # (rows, N)
    along = _cubic(width, columns, width / (column_count + offsets), grid)  # (columns, N)
    return across @ grid @ along.T


def _cubic(length: int, count: int, step: Tensor, like: Tensor) -> Tensor:
    """(count, length): the weights of torch's bicubic interpolation (Keys' kernel, a = -0.75) at ``count`` places."""
    a = -0.75
    place = (torch.arange(count, device=like.device, dtype=like.dtype) + 0.5) * step - 0.5
    left = torch.floor(place)
    entry = torch.arange(length, device=like.device, dtype=like.dtype)
    weights = like.new_zeros(1)
    for neighbour in (-1.0, 0.0, 1.0, 2.0):
        d = (place - left - neighbour).abs()
        weight = torch.where(d <= 1, ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a)
        at = (left + neighbour).clamp(0, length - 1)  # beyond the border the last entry goes on
        weights = weights + weight[:, None] * (entry == at[:, None]).to(like.dtype)
    return weights


GRID_RULES: Mapping[str, GridRule] = MappingProxyType({"official": official_rule, "hf": hf_rule})
"""Option ``pos_embed`` -> the rule."""


class Encoder(VisionTransformer):
    """DINOv2 with the parameter names of timm, which are the official ones but for giant's MLP and the unused mask token.

    Args:
        size: the architecture.
        taps: the blocks, counted from 0, whose tokens are the answer.
        pos_embed: ``"official"`` or ``"hf"``, see :data:`dadkit_dinov2.network.GRID_RULES`.
    """

    cls_token: nn.Parameter
    pos_embed: nn.Parameter

    def __init__(self, size: Size, *, taps: Sequence[int], pos_embed: str = "official") -> None:
        super().__init__(
            img_size=size.native,
            patch_size=PATCH,
            embed_dim=size.width,
            depth=size.depth,
            num_heads=size.heads,
            # LayerScale at 1, as in the official code, not timm's 1e-5: from random weights the blocks must take part at once.
            init_values=1.0,
            num_classes=0,
            dynamic_img_size=True,
            # SwiGLUPacked halves its hidden width, and giant's is 4096 for 1536 channels.
            mlp_ratio=2 * 4096 / 1536 if size.swiglu else 4.0,
            mlp_layer=SwiGLUPacked if size.swiglu else Mlp,
            act_layer=nn.SiLU if size.swiglu else nn.GELU,
        )
        self.taps = tuple(taps)
        self.rule = GRID_RULES[pos_embed]

    def forward(self, x: Tensor) -> list[Tensor]:  # type: ignore[override]
        """Returns the tokens of the tapped blocks after the final norm.

        Args:
            x: (B, 3, 14 h, 14 w).

        Returns:
            A tensor (B, h w, C) for each tap, rows first, without the class token.
        """
        return [self.norm(tokens[:, 1:]) for tokens in self.tapped(x)]

    def tapped(self, x: Tensor) -> list[Tensor]:
        """As :meth:`forward`, before the final norm and with the class token first: (B, 1 + h w, C) for each tap."""
        patches = self.patches(x)
        rows, columns = patches.shape[1:3]
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), patches.flatten(1, 2)], dim=1)  # (B, 1 + h w, C)
        x = x + self.positions(rows, columns)
        answers = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                answers.append(x)
        return answers

    def patches(self, x: Tensor) -> Tensor:
        """(B, 3, 14 h, 14 w) -> (B, h, w, C); a model that sees more channels overrides it."""
        embedded: Tensor = self.patch_embed(x)
        return embedded

    def positions(self, rows: int, columns: int) -> Tensor:
        """Returns the position embedding (1, 1 + rows columns, C), class token first; as it is at its own grid, else by the
        rule.
        """
        height, width = self.patch_embed.grid_size
        if isinstance(rows, int) and (rows, columns) == (height, width):
            return self.pos_embed
        # Half precision would move the tokens more than the two rules differ.
        exact = self.pos_embed.to(torch.promote_types(self.pos_embed.dtype, torch.float32))
        grid = exact[:, 1:].reshape(1, height, width, -1).permute(0, 3, 1, 2)  # (1, C, N, N)
        grid = self.rule(grid, rows, columns)
        return torch.cat([exact[:, :1], grid.flatten(2).transpose(1, 2)], dim=1).to(self.pos_embed.dtype)
