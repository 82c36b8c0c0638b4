"""Layers of timm that no exporter takes as they are, replaced by equal ones that all take."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["mend"]


def mend(network: nn.Module) -> None:
    """Replace, in place, what cannot be traced at sizes that are not known yet.

    TensorFlow's "same" padding depends on the input's size. For a side that the stride divides, all of it is constant, and
    sides inside a depth network are such as long as its size multiple is the product of its strides; the check of every
    export finds the network for which it is not.
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
