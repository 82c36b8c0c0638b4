"""TCSmallNet: ShuffleNetV2 x0.5 without its max-pool, and a decoder of separable convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dadkit.interfaces import ModelSpec, SizePolicy, Student
from dadkit.spaces import Space
from dadkit.weights import load_strict, read_weights

__all__ = ["TCSmallNet"]

# Blocks of each stage, and channels after the first convolution and after each stage.
_BLOCKS = (4, 8, 4)
_CHANNELS = (24, 48, 96, 192)
# In official files: every block a second time, and two more heads, which only training looks at.
_UNUSED = ("encoder.stage", "decoder.final2.", "decoder.final3.")
_START = 3.0  # as a random MiDaS head: answers start above zero, or a last ReLU could be dead for every image


class TCSmallNet(Student):
    """The small network of TCMonoDepth: relative disparity, never negative, larger = nearer; 0 is usually sky.

    Args:
        weights: the official ``_ckpt_small.pt.tar`` or a trained student: file or folder; None for random weights.
        init: ``"all"``, ``"encoder"`` or ``"none"`` of the weights.
        native_size: the shorter side that ``predict`` aims at.

    Raises:
        WeightsError: the file cannot be read, or is another model's.

    Source: Li et al., Enforcing Temporal Consistency in Video Depth Estimation (ICCVW 2021); Ma et al., ShuffleNet V2 (ECCV
    2018). The names of the tensors are the official file's.
    """

    channels_last = True

    def __init__(
        self,
        *,
        weights: str | Path | None = None,
        init: Literal["all", "encoder", "none"] = "all",
        native_size: int = 256,
    ) -> None:
        super().__init__()
        self.spec = ModelSpec(
            name="tcmono-small",
            space=Space.DISPARITY,
            size_multiple=32,
            native=SizePolicy(native_size, multiple=32, antialias=True),
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            range=(0.0, None),
            features={"tokens": _CHANNELS[-1]},
            # Random weights are nobody's: only the licence of this code is left.
            license="MIT" if weights is not None else "Apache-2.0",
        )
        self.encoder = _Encoder()
        self.decoder = _Decoder()
        if weights is not None and init != "none":
            self._load(weights, init)

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """(B, 3, 32 h, 32 w) -> disparity (B, 1, 16 h, 16 w), and the encoder's last map as the tap ``tokens``."""
        maps = self.encoder(x)
        return self.decoder(maps), {"tokens": maps[-1]}

    def _load(self, weights: str | Path, init: str) -> None:
        state = {name: value for name, value in read_weights(weights).items() if not name.startswith(_UNUSED)}
        if init == "encoder":
            state = {name: value for name, value in state.items() if name.startswith("encoder.")}
        load_strict(self, state, source=weights, optional=lambda name: init == "encoder" and name.startswith("decoder."))
        self.head_is_trained = init == "all"


def _pointwise(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]


def _depthwise(channels: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False), nn.BatchNorm2d(channels)]


class _Block(nn.Module):
    """Half of the channels pass through convolutions, half as they are; at the start of a stage all of them do."""

    def __init__(self, channels: int, *, shrinks: bool) -> None:
        super().__init__()
        stride = 2 if shrinks else 1
        first, second = _pointwise(channels, channels), _pointwise(channels, channels)
        self.branch_main = nn.Sequential(*first, nn.ReLU(), *_depthwise(channels, stride), *second, nn.ReLU())
        self.branch_proj = None
        if shrinks:
            self.branch_proj = nn.Sequential(*_depthwise(channels, stride), *_pointwise(channels, channels), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape; at the start of a stage (B, 2 C, h / 2, w / 2)."""
        if self.branch_proj is not None:
            return torch.cat((self.branch_proj(x), self.branch_main(x)), 1)
        return torch.cat((x[:, ::2], self.branch_main(x[:, 1::2])), 1)


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first_conv = nn.Sequential(
            nn.Conv2d(3, _CHANNELS[0], 3, 2, 1, bias=False), nn.BatchNorm2d(_CHANNELS[0]), nn.ReLU()
        )
        # A block that starts a stage doubles its channels; the others work on half of them: the same number.
        self.features = nn.ModuleList(
            _Block(channels, shrinks=index == 0)
            for channels, count in zip(_CHANNELS, _BLOCKS, strict=False)
            for index in range(count)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, h, w) -> maps at strides 2, 4, 8, 16."""
        maps = [self.first_conv(x)]
        blocks = iter(self.features)
        for count in _BLOCKS:
            x = maps[-1]
            for _ in range(count):
                x = next(blocks)(x)
            maps.append(x)
        return maps


class _Fusion(nn.Module):
    def __init__(self, fine: int, coarse: int) -> None:
        super().__init__()
        self.skip_conv = nn.Sequential(*_pointwise(fine, coarse // 4), nn.ReLU())
        both = coarse + coarse // 4
        separable = nn.Sequential(*_depthwise(both), nn.ReLU(), nn.Conv2d(both, fine, 1, bias=False))
        self.last_conv = nn.Sequential(_Named(separable), nn.BatchNorm2d(fine), nn.ReLU())

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        coarse = F.interpolate(coarse, fine.shape[-2:], mode="bilinear", align_corners=False)
        answer: Tensor = self.last_conv(torch.cat((coarse, self.skip_conv(fine)), 1))
        return answer


class _Named(nn.Module):
    """A layer under the name ``conv``, as the official file has it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.conv = layer

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.conv(x)
        return answer


class _Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decoder3 = _Fusion(_CHANNELS[2], _CHANNELS[3])
        self.decoder2 = _Fusion(_CHANNELS[1], _CHANNELS[2])
        self.decoder1 = _Fusion(_CHANNELS[0], _CHANNELS[1])
        self.final = nn.Conv2d(_CHANNELS[0], 1, 3, padding=1)
        assert self.final.bias is not None
        nn.init.constant_(self.final.bias, _START)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """The encoder's maps -> (B, 1, h, w) at the finest one's size."""
        x = self.decoder3(maps[2], maps[3])
        x = self.decoder2(maps[1], x)
        x = self.decoder1(maps[0], x)
        return F.relu(self.final(x))
