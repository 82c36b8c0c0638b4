"""The head of Depth Anything V1 and V2: DPT, and one map."""

from __future__ import annotations

from dadkit_dinov2.dpt import DPTDecoder, output
from torch import Tensor, nn

from dadkit_dav2.sizes import Size

__all__ = ["DPTHead"]

# Where a randomly initialised head starts: see DPTHead.start_at.
_START = 3.0


class DPTHead(DPTDecoder):
    """Four token maps to one map at the size of the network's input.

    Args:
        size: the architecture.
        max_depth: None: relative. A number: metres in (0, ``max_depth``), by a sigmoid. The parameters are the same.
        last: what relative answers pass through at last: officially a ReLU, for disparity.
        start: where the relative answers of random weights start.
    """

    def __init__(
        self, size: Size, max_depth: float | None = None, *, last: type[nn.Module] = nn.ReLU, start: float = _START
    ) -> None:
        super().__init__(size.width, size.channels, size.features, coarsest="unused")
        self.scale = 1.0 if max_depth is None else max_depth
        self.scratch.output_conv2 = output(size.features, 1, last() if max_depth is None else nn.Sigmoid())
        if max_depth is None:
            self.start_at(start)

    def start_at(self, start: float) -> None:
        """Let a random head start well above zero.

        With torch's default bias of about 0 a whole random map may fall under the last ReLU, for every image; it then gets no
        gradient and never leaves. The losses are shift-invariant, so nothing would lift a half-dead map either. A random
        head varies by about 0.1 around its bias, and training brings it to a mean absolute deviation of about 1, of which
        the farthest pixels of usual scenes lie two to three below the median: hence 3.
        """
        last = self.scratch.output_conv2[2]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.constant_(last.bias, start)

    def forward(self, tokens: list[Tensor], rows: int, columns: int) -> Tensor:
        """Four tensors (B, rows columns, C), early to late, -> (B, 1, 14 rows, 14 columns)."""
        answer: Tensor = self.scratch.output_conv2(self.fused(tokens, rows, columns))
        return answer if self.scale == 1.0 else answer * self.scale
