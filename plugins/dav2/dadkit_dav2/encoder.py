"""DINOv2 as Depth Anything uses it: timm's vision transformer with the official rule for other grids than 37 x 37."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from timm.layers import Mlp, SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from dadkit_dav2.sizes import PATCH, Size

__all__ = ["GRID_RULES", "Encoder", "hf_rule", "official_rule"]

GridRule = Callable[[Tensor, int, int], Tensor]


def official_rule(grid: Tensor, rows: int, columns: int) -> Tensor:
    """The rule of DINOv2 and Depth Anything: bicubic, sampled with the step (n + 0.1)/N of the scale factor, not n/N.

    The 0.1 was put there against rounding, but torch takes a given scale factor for the sampling positions too, so the grid
    is stretched a little. The released weights were trained with it; n/N instead changes answers by 2 to 9 %.

    Args:
        grid: (1, C, N, N) position embedding.
        rows: wanted height in patches.
        columns: wanted width in patches.

    Returns:
        (1, C, rows, columns).
    """
    scale = ((rows + 0.1) / grid.shape[-2], (columns + 0.1) / grid.shape[-1])
    return F.interpolate(grid, scale_factor=scale, mode="bicubic", align_corners=False)


def hf_rule(grid: Tensor, rows: int, columns: int) -> Tensor:
    """The rule of transformers' DepthAnything: bicubic with the step n/N. Arguments as in :func:`official_rule`."""
    return F.interpolate(grid, (rows, columns), mode="bicubic", align_corners=False)


GRID_RULES: Mapping[str, GridRule] = MappingProxyType({"official": official_rule, "hf": hf_rule})
"""Option ``pos_embed`` -> how the position embedding is brought to another grid."""


class Encoder(VisionTransformer):
    """DINOv2 with the parameter names of timm, answering with the tokens of four blocks.

    Args:
        size: the architecture.
        version: ``"v1"`` or ``"v2"``: which blocks are tapped.
        pos_embed: ``"official"`` or ``"hf"``, see :data:`GRID_RULES`.
    """

    cls_token: nn.Parameter
    pos_embed: nn.Parameter

    def __init__(self, size: Size, *, version: str, pos_embed: str) -> None:
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
        self.taps = size.tapped(version)
        self.rule = GRID_RULES[pos_embed]

    def forward(self, x: Tensor) -> list[Tensor]:  # type: ignore[override]
        """Tokens of the tapped blocks after the final norm.

        Args:
            x: (B, 3, 14 h, 14 w).

        Returns:
            Four tensors (B, h w, C), rows first, without the class token.
        """
        patches = self.patch_embed(x)  # (B, h, w, C)
        rows, columns = patches.shape[1:3]
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), patches.flatten(1, 2)], dim=1)  # (B, 1 + h w, C)
        x = x + self.positions(rows, columns)
        answers = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                answers.append(self.norm(x[:, 1:]))
        return answers

    def positions(self, rows: int, columns: int) -> Tensor:
        """The position embedding (1, 1 + rows columns, C), class token first; as it is at its own grid, else by the rule."""
        height, width = self.patch_embed.grid_size
        if (rows, columns) == (height, width):
            return self.pos_embed
        # Half precision would move the tokens more than the two rules differ.
        exact = self.pos_embed.to(torch.promote_types(self.pos_embed.dtype, torch.float32))
        grid = exact[:, 1:].reshape(1, height, width, -1).permute(0, 3, 1, 2)  # (1, C, N, N)
        grid = self.rule(grid, rows, columns)
        return torch.cat([exact[:, :1], grid.flatten(2).transpose(1, 2)], dim=1).to(self.pos_embed.dtype)
