"""A model on its way to another program: exporters, what they are asked for, and a model in another program's layout."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import numpy as np
    from torch.export import ExportedProgram


__all__ = [
    "Export",
    "ExportRequest",
    "Exporter",
    "as_input",
]


_MOST = 4096
"""Longest side that a dynamic graph is traced for, in multiples; runtimes do not hold it against an image."""


@dataclass(frozen=True)
class ExportRequest:
    """What is wanted of a file.

    Attributes:
        multiple: heights and widths are multiples of this.
        size: (height, width) if the file is for this one size and one image at a time; None: any legal size and batch.
        input: ``"float"``: (B, 3, H, W) RGB in [0, 1]; ``"uint8"``: (B, H, W, 3) RGB in 0 to 255, as cameras give it.
        precision: of weights and arithmetic; one of the exporter's ``precisions``.
        variant: of the precision; one of :meth:`Exporter.variants`.
        calibration: arrays as the file takes them, of which a quantiser measures ranges.
    """

    multiple: int
    size: tuple[int, int] | None = None
    input: Literal["float", "uint8"] = "float"
    precision: str = "fp32"
    variant: str = ""
    calibration: Sequence[np.ndarray] = ()

    def example(self) -> Tensor:
        """Returns an input to trace with. Its sizes are no sizes that a network treats in its own way."""
        batch, (height, width) = (1, self.size) if self.size else (2, (3 * self.multiple, 5 * self.multiple))
        if self.input == "uint8":
            return torch.zeros(batch, height, width, 3, dtype=torch.uint8)
        return torch.zeros(batch, 3, height, width)

    def trace(self, network: nn.Module) -> ExportedProgram:
        """``network``, which takes what :meth:`example` gives, as a graph with the symbolic sizes that are wanted.

        Raises:
            Exception: whatever ``torch.export`` raises for a network that it cannot trace at these sizes.
        """
        from torch.export import Dim, export

        shape = None
        if self.size is None:
            rows, columns = (self.multiple * Dim(name, min=2, max=_MOST) for name in ("rows", "columns"))
            height_at = 1 if self.input == "uint8" else 2
            shape = ({0: Dim("batch", min=1, max=_MOST), height_at: rows, height_at + 1: columns},)
        with torch.no_grad():
            return export(network, (self.example(),), dynamic_shapes=shape, strict=False)


def as_input(images: Tensor, input: Literal["float", "uint8"]) -> np.ndarray:
    """(B, 3, H, W) RGB in [0, 1] as a file takes it, see :attr:`ExportRequest.input`."""
    if input == "uint8":
        images = (images.permute(0, 2, 3, 1) * 255).round().clamp(0, 255).to(torch.uint8)
    array: np.ndarray = images.detach().cpu().contiguous().numpy()
    return array


class Exporter(ABC):
    """Writes a depth model as a file of one format, and can run what it wrote.

    The rest is dadkit's: it prepares the network, checks the file against the model, and gives it its final name.

    Attributes:
        suffix: of the file, with its dot.
        precisions: what :attr:`ExportRequest.precision` may be.
        any_size: the format takes graphs whose sizes are not fixed.
        runs_here: None if :meth:`open` works on this machine; else the reason why not. Such a file is written unchecked.
    """

    suffix: ClassVar[str]
    precisions: ClassVar[Sequence[str]] = ("fp32",)
    any_size: ClassVar[bool] = True
    runs_here: str | None = None

    @abstractmethod
    def write(self, network: nn.Module, path: Path, request: ExportRequest) -> None:
        """Write ``network`` to ``path``, and what else belongs to it beside ``path``.

        Args:
            network: takes one tensor as ``request.example()`` gives it, answers (B, 1, H, W) float32; in eval mode.
            path: a new file in an empty folder; it has the final name. The file must hold no path of this machine.
            request: sizes, input and precision.
        """

    def companions(self, path: Path) -> Sequence[Path]:
        """Returns files beside ``path`` that belong to it; none for most formats."""
        return []

    def variants(self, precision: str) -> Sequence[str]:
        """Ways to reach a precision, the fastest first. The first one whose file is true enough to the model is kept."""
        return [""]

    @abstractmethod
    def annotate(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Store ``metadata`` in the written file, where its format keeps such things."""

    @abstractmethod
    def metadata(self, path: Path) -> Mapping[str, str]:
        """Returns what :meth:`annotate` stored; empty for a file of another writer."""

    @abstractmethod
    def open(self, path: Path, *, threads: int = 0) -> Callable[[np.ndarray], np.ndarray]:
        """Returns the file as a function from an array, as ``request.example()`` describes it, to the map (B, 1, H, W) float32.

        Args:
            path: the written file.
            threads: processor threads; 0 is the runtime's default.
        """


@dataclass(frozen=True, eq=False)
class Export:
    """What :meth:`dadkit.interfaces.DepthModel.export` answers.

    Attributes:
        tensors: name in the other program -> tensor.
        files: name -> text of the files that belong beside the weights (``config.json``, …). With them the result is a
            folder, without them a single file.
        notes: what a user of the result must know, a sentence each: where its answers differ, what has to be given by hand.
        usage: Python that loads the result, for its card; ``{path}`` is replaced by its path.
    """

    tensors: Mapping[str, Tensor]
    files: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    usage: str = ""
