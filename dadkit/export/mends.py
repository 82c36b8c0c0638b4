"""Layers that exporters do not take, or that runtimes compute slowly, replaced by equal ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["mend"]

_BLOCK = 4


def mend(network: nn.Module, sizes: tuple[int, int]) -> None:
    """Replace layers in place.

    TensorFlow's "same" padding depends on the input's size. For a side that the stride divides, all of it is constant, and
    sides inside a depth network are such as long as its size multiple is the product of its strides; the check of every
    export finds the network for which it is not.

    Args:
        network: takes (B, 3, h, w) float32.
        sizes: (h, w) of the file; of a file for any size, two successive legal sides: what four divides at both, it divides
            at all.
    """
    from timm.layers import Conv2dSame
    from timm.models.vision_transformer import Attention

    for name, module in list(network.named_modules()):
        if type(module) is Conv2dSame:
            parent, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(parent), attribute, _PaddedConv(module))
        elif type(module) is Attention and isinstance(module.q_norm, nn.Identity) and isinstance(module.norm, nn.Identity):
            parent, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(parent), attribute, _SplitAttention(module))
    for name in _dividing(network, [name for name, module in network.named_modules() if _is_single(module)], sizes):
        parent, _, attribute = name.rpartition(".")
        setattr(network.get_submodule(parent), attribute, _InBlocks(network.get_submodule(name)))


def _is_single(module: nn.Module) -> bool:
    return type(module) is nn.Conv2d and (
        (module.out_channels, module.kernel_size, module.stride, module.padding, module.dilation, module.padding_mode)
        == (1, (3, 3), (1, 1), (1, 1), (1, 1), "zeros")
    )


def _dividing(network: nn.Module, names: list[str], sizes: tuple[int, int]) -> list[str]:
    """Returns which of the layers are given maps whose sides the block divides."""
    if not names:
        return []
    shapes: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
    hooks = [
        network.get_submodule(name).register_forward_pre_hook(
            lambda _, given, found=shapes[name]: found.append((given[0].shape[-2], given[0].shape[-1]))
        )
        for name in names
    ]
    with torch.no_grad():
        network(torch.zeros(1, 3, *sizes))
    for hook in hooks:
        hook.remove()
    return [name for name, found in shapes.items() if found and not any(side % _BLOCK for shape in found for side in shape)]


class _InBlocks(nn.Module):
    """A 3x3 convolution to one channel, which answers with the pixels of a block as channels.

    Runtimes compute 8 or 16 channels at once, and throw all but one away where there is one. A block of 4x4 pixels is 16
    channels of a convolution of 6x6 with stride 4: a quarter of the work.
    """

    def __init__(self, conv: Any) -> None:
        super().__init__()
        kernel, count = 3 + _BLOCK - 1, _BLOCK**2
        self.conv = nn.Conv2d(conv.in_channels, count, kernel, _BLOCK, 1, bias=conv.bias is not None)
        weight = conv.weight.new_zeros(count, conv.in_channels, kernel, kernel)
        for pixel in range(count):
            row, column = divmod(pixel, _BLOCK)
            weight[pixel, :, row : row + 3, column : column + 3] = conv.weight[0]
        self.conv.weight = nn.Parameter(weight, requires_grad=False)
        if conv.bias is not None:
            self.conv.bias = nn.Parameter(conv.bias.detach().expand(count).clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), _BLOCK)


class _PaddedConv(nn.Module):
    """A convolution with TensorFlow's padding for sides that its stride divides."""

    def __init__(self, conv: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, dilation=conv.dilation, groups=conv.groups
        )
        self.conv.weight, self.conv.bias = conv.weight, conv.bias
        height, width = (
            dilation * (kernel - 1) + 1 - stride
            for kernel, stride, dilation in zip(conv.kernel_size, conv.stride, conv.dilation, strict=True)
        )
        self.pad = (width // 2, width - width // 2, height // 2, height - height // 2)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.conv(F.pad(x, self.pad))
        return answer


class _SplitAttention(nn.Module):
    """timm's attention without its tensor of five dimensions, which several runtimes do not know."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.qkv, self.proj, self.heads = attention.qkv, attention.proj, attention.num_heads

    def forward(self, x: Tensor, **_: Any) -> Tensor:
        count, channels = x.shape[1], x.shape[2]
        q, k, v = (
            part.reshape(x.shape[0], count, self.heads, channels // self.heads).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        y = F.scaled_dot_product_attention(q, k, v)
        answer: Tensor = self.proj(y.transpose(1, 2).reshape(x.shape[0], count, channels))
        return answer
