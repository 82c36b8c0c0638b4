"""An exported file as a depth model, so that everything that takes a model takes the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dadkit.errors import DadkitError, first_line
from dadkit.interfaces.exporter import Exporter, as_input
from dadkit.interfaces.model import Teacher
from dadkit.interfaces.prediction import Prediction
from dadkit.interfaces.resizing import SizePolicy, resize
from dadkit.interfaces.spec import ModelSpec
from dadkit.spaces import Space

if TYPE_CHECKING:
    import numpy as np

__all__ = ["DeployedModel"]


class DeployedModel(Teacher):
    """A file that ``dadkit export`` wrote, run by its own runtime on the processor.

    It has no parameter that torch knows of. A file of one size sees every image resized to it, one image at a time.

    Args:
        exporter: of the file's format.
        path: the file.
        facts: what its metadata say, see :func:`dadkit.export.metadata.describe`.
    """

    def __init__(self, exporter: Exporter, path: Path, facts: Mapping[str, Any]) -> None:
        super().__init__()
        self.exporter, self.path, self.facts = exporter, path, facts
        low, high = facts["range"]
        self.spec = ModelSpec(
            name=facts["name"],
            space=Space(facts["space"]),
            size_multiple=facts["size_multiple"],
            native=SizePolicy(**facts["native"]),
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            range=(low, high),
            license=facts["license"],
            align_corners=facts["align_corners"],
            upsampling=facts["upsampling"],
            exportable="no",
        )
        self._size = tuple(facts["size"]) if facts["size"] else None
        self._opened: Callable[[np.ndarray], np.ndarray] | None = None

    def to_legal_size(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) at the file's size, or at the nearest legal multiple if it takes any."""
        return super().to_legal_size(images) if self._size is None else resize(images, self._size, self.spec.native)

    def predict_batch(self, images: Tensor, cameras: Tensor | None = None) -> Prediction:
        """As in the base class; a file of one size runs at that."""
        return super().predict_batch(images) if self._size is None else self.forward(images)

    def seen_size(self, height: int, width: int) -> tuple[int, int] | None:
        """Returns the file's size, or what ``spec.native`` says if it takes any."""
        return self._size or self.spec.native.target(height, width)

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """(B, 3, h, w) in [0, 1] -> the file's map (B, 1, h, w)."""
        if self._opened is None:
            try:
                self._opened = self.exporter.open(self.path, threads=torch.get_num_threads())
            except Exception as error:  # a damaged file; runtimes have no common class of errors
                raise DadkitError(f"{self.path} cannot be run: {first_line(error)}. Export it anew") from error
        parts = [x[i : i + 1] for i in range(len(x))] if self._size else [x]
        maps = [torch.from_numpy(self._opened(as_input(part, self.facts["input"]))) for part in parts]
        return torch.cat(maps).to(x.device), {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}  # a session cannot be copied or sent to another process
