"""The plain vision transformer, and the hybrid whose patches come from a small ResNet, as MiDaS v3.0 taps them."""

from __future__ import annotations

from functools import partial

import torch
from timm.layers import StdConv2dSame, trunc_normal_
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["PATCH", "Hybrid", "ViT", "resize_positions", "small_normal_"]

PATCH = 16
"""Side of a patch in pixels."""


class ViT(nn.Module):
    """A vision transformer with the parameter names of timm, answering with the raw tokens of some blocks.

    There is no final norm, classifier or pooling: the official files hold them, and MiDaS does not use them.

    Args:
        width: channels of a token.
        depth: number of blocks.
        heads: attention heads.
        taps: the blocks (counted from 0) whose outputs are answered.
        grid: side, in patches, of the grid that the position embedding is made for.
    """

    def __init__(self, *, width: int, depth: int, heads: int, taps: tuple[int, ...], grid: int) -> None:
        super().__init__()
        self.width = width
        self.taps = taps
        self.grid = grid
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, stride=PATCH)})
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + grid * grid, width))
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.Sequential(*(Block(width, heads, qkv_bias=True, norm_layer=norm) for _ in range(depth)))
        self.blocks.apply(small_normal_)
        nn.init.normal_(self.cls_token, std=1e-6)
        trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, 16 h, 16 w) -> tokens (B, 1 + h w, C) of the tapped blocks, class token first."""
        return self.transform(self.patch_embed["proj"](x))

    def transform(self, patches: Tensor) -> list[Tensor]:
        """Embedded patches (B, C, h, w) -> tokens of the tapped blocks."""
        tokens = patches.flatten(2).transpose(1, 2)  # (B, h w, C)
        x = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        x = x + resize_positions(self.pos_embed, self.grid, patches.shape[-2], patches.shape[-1])
        answers = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                answers.append(x)
        return answers


class Hybrid(ViT):
    """A vision transformer on the third stage of a weight-standardised ResNet, whose first two stages are tapped as well.

    Args:
        layers: blocks of each stage of the ResNet.
        stages: channels of each stage.
        transformer: arguments of :class:`ViT`.
    """

    def __init__(self, *, layers: tuple[int, int, int], stages: tuple[int, int, int], **transformer: object) -> None:
        super().__init__(**transformer)  # type: ignore[arg-type]
        resnet = ResNetV2(
            layers=layers,
            channels=stages,
            num_classes=0,
            global_pool="",
            preact=False,
            # Padding like TensorFlow's, by the input's size, more on the right and at the bottom: Google's weights want it.
            stem_type="same",
            conv_layer=partial(StdConv2dSame, eps=1e-8),
        )
        self.patch_embed = nn.ModuleDict({"backbone": resnet, "proj": nn.Conv2d(stages[-1], self.width, 1)})

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, 16 h, 16 w) -> maps at strides 4 and 8, then tokens (B, 1 + h w, C) of the tapped blocks."""
        resnet = self.patch_embed["backbone"]
        assert isinstance(resnet, ResNetV2)
        fine, medium, coarse = resnet.stages
        one = fine(resnet.stem(x))
        two = medium(one)
        return [one, two, *self.transform(self.patch_embed["proj"](coarse(two)))]


def resize_positions(embedding: Tensor, grid: int, rows: int, columns: int) -> Tensor:
    """Returns a position embedding (1, 1 + grid^2, C), class token first, for ``rows`` x ``columns`` patches.

    Bilinear, as the official code and transformers do; timm's own bicubic rule changes answers by 3 to 5 %. Off the native grid
    it is computed in float32 at least, since half precision would move the tokens more.
    """
    if isinstance(rows, int) and (rows, columns) == (grid, grid):
        return embedding
    exact = embedding.to(torch.promote_types(embedding.dtype, torch.float32))
    patches = exact[:, 1:].reshape(1, grid, grid, -1).permute(0, 3, 1, 2)  # (1, C, grid, grid)
    patches = F.interpolate(patches, (rows, columns), mode="bilinear", align_corners=False)
    return torch.cat([exact[:, :1], patches.flatten(2).transpose(1, 2)], dim=1).to(embedding.dtype)


def small_normal_(module: nn.Module) -> None:
    """What transformers start from: linear weights near zero, no bias. For ``Module.apply``."""
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
