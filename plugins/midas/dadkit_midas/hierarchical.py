"""The other backbones that answer with maps: Next-ViT, LeViT, and the two convolutional ones of MiDaS v2.1."""

from __future__ import annotations

from typing import Any

import timm
from timm.models.levit import Levit
from timm.models.nextvit import NextViT
from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["LeViT", "Lite", "Next", "ResNeXt"]


class Next(nn.Module):
    """Next-ViT, a mixture of convolution and attention, with the outputs of its four stages.

    Args:
        depths: blocks of each stage.
    """

    def __init__(self, *, depths: tuple[int, int, int, int]) -> None:
        super().__init__()
        whole = NextViT(in_chans=3, num_classes=0, depths=depths, drop_path_rate=0.0)
        self.stem = whole.stem
        self.stages = whole.stages

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, 32 h, 32 w) -> four maps at strides 4, 8, 16, 32."""
        return _through(self.stem(x), self.stages)


class LeViT(nn.Module):
    """LeViT, tapped in the middle of its stages: after the second block of the first, and the first of the other two.

    The official files hold the last blocks too, which nothing uses; here they are left out. Its attention is made for one image
    size, so other ones are resized to it.

    Args:
        widths: channels of each stage.
        depths: blocks of each stage.
        heads: attention heads of each stage.
        key: channels of a key.
        native: the one size that it takes.
    """

    def __init__(
        self,
        *,
        widths: tuple[int, int, int],
        depths: tuple[int, int, int],
        heads: tuple[int, int, int],
        key: int,
        native: int,
    ) -> None:
        super().__init__()
        whole = Levit(
            img_size=native,
            num_classes=0,
            embed_dim=widths,
            key_dim=key,
            # Of the third stage all but the first block come after the last tap.
            depth=(*depths[:2], 1),
            num_heads=heads,
            attn_ratio=2,
            mlp_ratio=2,
        )
        self.native = native
        self.stem = whole.stem
        self.stages = whole.stages

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> three maps at strides 16, 32, 64 of the native size."""
        self._forget_biases()
        if x.shape[-2:] != (self.native, self.native):
            x = F.interpolate(x, (self.native, self.native), mode="bicubic", align_corners=False)
        x = self.stem(x)
        grid = x.shape[-1]
        x = x.flatten(2).transpose(1, 2)  # (B, N, C)
        maps = []
        for stage, tapped in zip(self.stages, (1, 0, 0), strict=True):
            x = stage.downsample(x)
            for index, block in enumerate(stage.blocks):
                x = block(x)
                if index == tapped:
                    maps.append(x.transpose(1, 2).unflatten(2, (grid, grid)))
            grid = (grid + 1) // 2
        return maps

    def _forget_biases(self) -> None:
        """timm keeps the biases that an attention has looked up, also when weights of other values or precision come."""
        for module in self.stages.modules():
            if hasattr(module, "attention_bias_cache"):
                module.attention_bias_cache = {}


class ResNeXt(nn.Module):
    """ResNeXt with the outputs of its four stages.

    Args:
        layers: blocks of each stage.
        cardinality: groups of the 3x3 convolutions.
        base_width: channels of a group in the first stage.
    """

    def __init__(self, *, layers: tuple[int, int, int, int], cardinality: int, base_width: int) -> None:
        super().__init__()
        whole = ResNet(Bottleneck, list(layers), num_classes=0, cardinality=cardinality, base_width=base_width)
        self.conv1, self.bn1, self.act1, self.maxpool = whole.conv1, whole.bn1, whole.act1, whole.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = whole.layer1, whole.layer2, whole.layer3, whole.layer4

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, 32 h, 32 w) -> four maps at strides 4, 8, 16, 32."""
        x = self.maxpool(self.act1(self.bn1(self.conv1(x))))
        return _through(x, (self.layer1, self.layer2, self.layer3, self.layer4))


class Lite(nn.Module):
    """EfficientNet-Lite with the outputs of strides 4, 8, 16 and 32, without its classifier.

    Args:
        name: timm's name of the network.
    """

    def __init__(self, *, name: str) -> None:
        super().__init__()
        whole: Any = timm.create_model(name, pretrained=False)
        self.conv_stem, self.bn1 = whole.conv_stem, whole.bn1
        self.blocks = whole.blocks

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, 32 h, 32 w) -> four maps at strides 4, 8, 16, 32."""
        x = self.bn1(self.conv_stem(x))
        return _through(x, (self.blocks[:2], self.blocks[2:3], self.blocks[3:5], self.blocks[5:]))


def _through(x: Tensor, stages: Any) -> list[Tensor]:
    maps = []
    for stage in stages:
        x = stage(x)
        maps.append(x)
    return maps
