"""The network of Depth Anything 3: DINOv2, plain or with rotary positions, and DPT heads with an exponential.

``mono-large`` and ``metric-large`` are a plain DINOv2 with a map of sky; the any-view models change the encoder, and answer
with a confidence and a camera.
"""

from __future__ import annotations

import torch
from dadkit_dinov2.dpt import DPTDecoder, output
from dadkit_dinov2.network import Encoder
from torch import Tensor, nn
from torch.nn import functional as F

from dadkit_da3.sizes import Model

__all__ = ["AnyViewEncoder", "CameraHead", "DPTHead", "PlainEncoder"]

# The official final norm has torch's epsilon, the blocks' norms have DINOv2's 1e-6.
_FINAL_EPS = 1e-5
_BASE = 100.0


class PlainEncoder(Encoder):
    """DINOv2 with the final norm's epsilon of Depth Anything 3."""

    def __init__(self, model: Model) -> None:
        super().__init__(model.encoder, taps=model.taps)
        self.norm.eps = _FINAL_EPS


class Attention(nn.Module):
    """Attention with normalised queries and keys, rotated by their positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.LayerNorm(width // heads)
        self.k_norm = nn.LayerNorm(width // heads)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        """(B, N, C) and the tables of :func:`rotary_tables` -> (B, N, C)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, d)
        q, k = rotate(self.q_norm(q), *tables), rotate(self.k_norm(k), *tables)
        y: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return y


def rotary_tables(positions: Tensor, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines (N, width) of positions (N, 2) = (row, column): the first half of the channels turns by the row.

    The frequencies are those of the official code, in float32: base 100, the same for both halves of a half.
    """
    half = width // 2
    frequencies = _BASE ** (-torch.arange(0, half, 2, dtype=torch.float32, device=positions.device) / half)
    angles = (positions.float()[:, :, None] * frequencies).repeat(1, 1, 2).flatten(1).to(like)  # (N, width)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """(B, heads, N, d) turned by the tables, rows' half and columns' half apart."""
    one, two, three, four = x.chunk(4, -1)
    return x * cosines + torch.cat([-two, one, -four, three], -1) * sines


class AnyViewEncoder(Encoder):
    """The encoder of the any-view models, on one view.

    From block ``rotary_from`` the class token is the camera's, and blocks are local and global in turn. Several views would
    meet in the global ones; with one view both kinds see the same tokens, but a global block sees all patches at one position.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model.encoder, taps=model.taps)
        assert model.rotary_from is not None
        self.start = model.rotary_from
        self.norm.eps = _FINAL_EPS
        width = model.encoder.width
        # Of a reference view, which one view always is, and of another.
        self.camera_token = nn.Parameter(torch.randn(1, 2, width) * 0.02)
        for block in self.blocks[self.start :]:
            block.attn = Attention(width, model.encoder.heads)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:  # type: ignore[override]
        """Returns the tokens of the tapped blocks, and the camera's.

        Args:
            x: (B, 3, 14 h, 14 w).

        Returns:
            A tensor (B, h w, 2C) for each tap, rows first: the tokens after the last local block as they are, and those of the
            tapped block after the final norm; and (B, 2C), the camera token of the last tap, without the norm.
        """
        patches = self.patch_embed(x)
        rows, columns = patches.shape[1:3]
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), patches.flatten(1, 2)], dim=1) + self.positions(rows, columns)
        grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(x.device) + 1
        ends = torch.zeros(1, 2, device=x.device), torch.ones(rows * columns, 2, device=x.device)
        head = self.embed_dim // self.blocks[self.start].attn.heads
        local_tables = rotary_tables(torch.cat([ends[0], grid]), head, x)
        global_tables = rotary_tables(torch.cat(ends), head, x)
        taps, local, camera = [], x, x[:, 0]
        for index, block in enumerate(self.blocks):
            if index < self.start:
                x = block(x)
            else:
                if index == self.start:
                    x = torch.cat([self.camera_token[:, :1].expand(len(x), -1, -1), x[:, 1:]], dim=1)
                tables = global_tables if index % 2 else local_tables
                x = x + block.ls1(block.attn(block.norm1(x), tables))
                x = x + block.ls2(block.mlp(block.norm2(x)))
            if index < self.start or index % 2 == 0:
                local = x
            if index in self.taps:
                taps.append(torch.cat([local, self.norm(x)], -1)[:, 1:])
                camera = torch.cat([local[:, 0], x[:, 0]], -1)
        return taps, camera


def place_embedding(channels: int, rows: int, columns: int, aspect: float, like: Tensor) -> Tensor:
    """(channels, rows, columns): sines and cosines of places in the picture, whose half diagonal is 1; float32 inside.

    The first half of the channels speaks of x, the second of y; frequencies are 100^(-4 i / channels).
    """
    diagonal = (aspect**2 + 1) ** 0.5
    frequencies = 1 / 100.0 ** (torch.arange(channels // 4, dtype=torch.float32, device=like.device) / (channels / 4))

    def one(count: int, reach: float) -> Tensor:
        end = reach * (count - 1) / count
        angles = torch.linspace(-end, end, count, dtype=torch.float32, device=like.device)[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], 1)  # (count, channels / 2)

    across, down = one(columns, aspect / diagonal), one(rows, 1 / diagonal)
    both = torch.cat([across[None].expand(rows, -1, -1), down[:, None].expand(-1, columns, -1)], -1)
    return both.permute(2, 0, 1).to(like)


class DPTHead(DPTDecoder):
    """Four token maps to depth, always positive, and a second map at the size of the network's input.

    The official any-view head also answers with rays, in a chain of its own that takes no part in depth and is left out here.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model.tapped_width, model.channels, model.features, coarsest="absent")
        self.any_view = model.rotary_from is not None
        self.norm = nn.LayerNorm(model.tapped_width) if self.any_view else nn.Identity()
        self.scratch.output_conv2 = output(model.features, 2 if self.any_view else 1)
        if not self.any_view:
            # A mask passes no gradient: a student keeps its sky as it is.
            self.scratch.sky_output_conv2 = output(model.features, 1).requires_grad_(False)

    def forward(self, tokens: list[Tensor], rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """Four tensors (B, rows columns, C), early to late, -> two maps (B, 1, 14 rows, 14 columns).

        The first is the depth; the second the sky's score, 0 or more, or for an any-view model the confidence, 1 or more.
        """
        x = self.fused([self.norm(one) for one in tokens], rows, columns)
        if self.any_view:
            depth, confidence = self.scratch.output_conv2(x).chunk(2, 1)
            return depth.float().exp(), confidence.float().exp() + 1
        return self.scratch.output_conv2(x).float().exp(), F.relu(self.scratch.sky_output_conv2(x))

    def placed(self, x: Tensor, aspect: float) -> Tensor:
        """Adds to an any-view model's maps (B, c, h, w) a tenth of the embedding of places."""
        if not self.any_view:
            return x
        return x + 0.1 * place_embedding(x.shape[1], x.shape[-2], x.shape[-1], aspect, x)


class CameraHead(nn.Module):
    """The camera of a view from its token: two fields of view. Its pose, of no use for one view, is left out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.fc_fov = nn.Sequential(nn.Linear(width, 2), nn.ReLU())

    def forward(self, token: Tensor, height: int, width: int) -> Tensor:
        """(B, C) and the size of the network's input -> cameras (B, 3, 3) in its pixels."""
        fov = self.fc_fov(self.backbone(token)).float()  # vertical, horizontal
        half = torch.tan(fov / 2).clamp(min=1e-6)
        camera = torch.zeros(len(token), 3, 3, device=token.device)
        camera[:, 0, 0], camera[:, 1, 1] = width / 2 / half[:, 1], height / 2 / half[:, 0]
        camera[:, 0, 2], camera[:, 1, 2], camera[:, 2, 2] = width / 2, height / 2, 1.0
        return camera
