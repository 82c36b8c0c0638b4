"""Swin Transformer, the first and the second, with the outputs of all four stages."""

from __future__ import annotations

from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor, nn

__all__ = ["Swin", "Swin2"]


class Swin(nn.Module):
    """Swin Transformer with timm's parameter names, without classifier and final norm.

    Other sizes than the native one work too: windows keep their size, and maps are padded to whole windows.

    Args:
        width: channels of the first stage; each next one has twice as many.
        depths: blocks of each stage.
        heads: attention heads of each stage.
        window: side of a window, in tokens.
        native: side of the image that the windows are cut for: a stage that is no larger than a window does not shift it.
    """

    def __init__(self, *, width: int, depths: tuple[int, ...], heads: tuple[int, ...], window: int, native: int) -> None:
        super().__init__()
        whole = SwinTransformer(
            img_size=native,
            embed_dim=width,
            depths=depths,
            num_heads=heads,
            window_size=window,
            num_classes=0,
            drop_path_rate=0.0,
            strict_img_size=False,
        )
        self.patch_embed = whole.patch_embed
        self.layers = whole.layers

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, 32 h, 32 w) -> four maps (B, C 2^k, 8 h / 2^k, 8 w / 2^k)."""
        return _stages(x, self.patch_embed, self.layers)


class Swin2(nn.Module):
    """Swin Transformer V2: as :class:`Swin`, with a small network that makes the biases of relative positions.

    Args:
        pretrained_windows: sides of the windows that the network was first trained with, by which offsets are scaled; zeros
            for the window's own.
    """

    def __init__(
        self,
        *,
        width: int,
        depths: tuple[int, ...],
        heads: tuple[int, ...],
        window: int,
        native: int,
        pretrained_windows: tuple[int, ...] = (0, 0, 0, 0),
    ) -> None:
        super().__init__()
        whole = SwinTransformerV2(
            img_size=native,
            embed_dim=width,
            depths=depths,
            num_heads=heads,
            window_size=window,
            pretrained_window_sizes=pretrained_windows,
            num_classes=0,
            drop_path_rate=0.0,
            strict_img_size=False,
        )
        self.patch_embed = whole.patch_embed
        self.layers = whole.layers
        # timm starts the norms after each branch at zero, so that no gradient reaches a branch until they have moved. From
        # random weights all should take part at once.
        for name, parameter in self.layers.named_parameters():
            if name.endswith(("norm1.weight", "norm2.weight")):
                nn.init.ones_(parameter)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, 32 h, 32 w) -> four maps (B, C 2^k, 8 h / 2^k, 8 w / 2^k)."""
        return _stages(x, self.patch_embed, self.layers)


def _stages(x: Tensor, embed: nn.Module, layers: nn.Sequential) -> list[Tensor]:
    x = embed(x)  # (B, h, w, C)
    maps = []
    for layer in layers:
        x = layer(x)
        maps.append(x.permute(0, 3, 1, 2))
    return maps
