"""From tokens to a map: DPT's reassemble operation with the readout that MiDaS uses."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Reassemble"]


class Reassemble(nn.Module):
    """Mixes the class token into every patch token, lays them out, and brings them to one of four strides.

    Args:
        width: channels of a token.
        channels: channels of the map.
        level: 0 to 3 for strides 4, 8, 16, 32, of tokens at stride 16.
    """

    def __init__(self, width: int, channels: int, level: int) -> None:
        super().__init__()
        self.readout = nn.Linear(2 * width, width)
        self.project = nn.Conv2d(width, channels, 1)
        self.resize = (
            nn.ConvTranspose2d(channels, channels, 4, stride=4),
            nn.ConvTranspose2d(channels, channels, 2, stride=2),
            nn.Identity(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
        )[level]

    def forward(self, tokens: Tensor, rows: int, columns: int) -> Tensor:
        """(B, 1 + rows columns, C), class token first -> (B, channels, h, w)."""
        # The official code joins the class token to each patch token. Its share of the product is the same for all of them.
        patches, token = self.readout.weight.chunk(2, dim=1)
        shared = F.linear(tokens[:, :1], token, self.readout.bias)  # (B, 1, C)
        x = F.gelu(F.linear(tokens[:, 1:], patches) + shared)  # (B, N, C)
        x = x.transpose(1, 2).unflatten(2, (rows, columns))
        answer: Tensor = self.resize(self.project(x))
        return answer
