"""DINOv2 as a network: timm's vision transformer with DINOv2's own rules, answering with the tokens of chosen blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.layers import Mlp, SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from dadkit_dinov2.grids import GRID_RULES
from dadkit_dinov2.sizes import PATCH, Size

__all__ = ["Encoder"]


class Encoder(VisionTransformer):
    """DINOv2 with the parameter names of timm, which are the official ones but for giant's MLP and the unused mask token.

    Args:
        size: the architecture.
        taps: the blocks, counted from 0, whose tokens are the answer.
        pos_embed: ``"official"`` or ``"hf"``, see :data:`dadkit_dinov2.grids.GRID_RULES`.
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
        """Tokens of the tapped blocks after the final norm.

        Args:
            x: (B, 3, 14 h, 14 w).

        Returns:
            A tensor (B, h w, C) for each tap, rows first, without the class token.
        """
        return [self.norm(tokens[:, 1:]) for tokens in self.tapped(x)]

    def tapped(self, x: Tensor) -> list[Tensor]:
        """As :meth:`forward`, before the final norm and with the class token first: (B, 1 + h w, C) for each tap."""
        patches = self.patch_embed(x)  # (B, h, w, C)
        rows, columns = patches.shape[1:3]
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), patches.flatten(1, 2)], dim=1)  # (B, 1 + h w, C)
        x = x + self.positions(rows, columns)
        answers = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                answers.append(x)
        return answers

    def positions(self, rows: int, columns: int) -> Tensor:
        """The position embedding (1, 1 + rows columns, C), class token first; as it is at its own grid, else by the rule."""
        height, width = self.patch_embed.grid_size
        if isinstance(rows, int) and (rows, columns) == (height, width):
            return self.pos_embed
        # Half precision would move the tokens more than the two rules differ.
        exact = self.pos_embed.to(torch.promote_types(self.pos_embed.dtype, torch.float32))
        grid = exact[:, 1:].reshape(1, height, width, -1).permute(0, 3, 1, 2)  # (1, C, N, N)
        grid = self.rule(grid, rows, columns)
        return torch.cat([exact[:, :1], grid.flatten(2).transpose(1, 2)], dim=1).to(self.pos_embed.dtype)
