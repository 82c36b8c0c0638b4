"""A network in an ONNX file as a dadkit teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from dadkit.interfaces import ModelSpec, Prediction, SizePolicy, Teacher
from dadkit.spaces import Space
from dadkit.weights import find_file
from dadkit_onnx.session import Network, open_network

__all__ = ["OnnxDepth"]


class OnnxDepth(Teacher):
    """A depth network in an ONNX file. It has no parameter that torch knows of, and runs where onnxruntime does.

    A file that fixes height and width sees every image stretched to them, whatever its shape. A file that fixes the batch
    gets its images in such batches, the last one filled up.

    Args:
        file: the .onnx file, or hf://ORG/NAME/FILE; see :class:`dadkit_onnx.options.Options` for this and the rest.

    Raises:
        WeightsError: there is no such file, or it does not take images and answer with maps.
    """

    def __init__(
        self,
        file: str | Path,
        *,
        space: Literal["disparity", "scale", "depth", "metric"],
        input_max: float = 1.0,
        mean: tuple[float, float, float] = (0.0, 0.0, 0.0),
        std: tuple[float, float, float] = (1.0, 1.0, 1.0),
        size: int | None = None,
        mode: Literal["lower_bound", "upper_bound", "minimal", "exact"] = "lower_bound",
        size_multiple: int = 32,
        batch: int | None = None,
        threads: int | None = None,
        output: str | None = None,
        license: str = "unknown",
    ) -> None:
        super().__init__()
        self._file, self._output, self._threads = find_file(file), output, threads
        self._input_max = input_max
        self._network: Network | None = None
        network = self.network
        self._fixed = None if network.height is None or network.width is None else (network.height, network.width)
        self._batch = network.batch or batch
        self.spec = ModelSpec(
            name=f"onnx-{self._file.stem}",
            space=Space(space),
            size_multiple=size_multiple if self._fixed is None else 1,
            native=SizePolicy(size, mode=mode, multiple=size_multiple, antialias=True),
            mean=mean,
            std=std,
            license=license,
        )

    @property
    def network(self) -> Network:
        """The open file; a copy of the model opens it again."""
        if self._network is None:
            self._network = open_network(self._file, threads=self._threads or torch.get_num_threads(), output=self._output)
        return self._network

    def to_legal_size(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) at the size that the file fixes, or at the nearest multiple of ``spec.size_multiple``."""
        if self._fixed is None:
            return super().to_legal_size(images)
        if images.shape[-2:] == self._fixed:
            return images
        return F.interpolate(images, self._fixed, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)

    def predict_batch(self, images: Tensor) -> Prediction:
        """As :meth:`DepthModel.predict_batch`; at the size that the file fixes if it fixes one."""
        return super().predict_batch(images) if self._fixed is None else self.forward(images)

    def seen_size(self, height: int, width: int) -> tuple[int, int] | None:
        """The size that the file fixes, or the one that ``spec.native`` says."""
        return self._fixed or self.spec.native.target(height, width)

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """(B, 3, h, w) -> the file's map, (B, 1, h', w')."""
        x = x * self._input_max
        step = self._batch or len(x)
        maps = []
        for part in x.split(step):
            missing = step - len(part) if self.network.batch else 0
            filled = torch.cat([part, part[-1:].expand(missing, -1, -1, -1)]) if missing else part
            maps.append(self.network(filled)[: len(part)])
        return torch.cat(maps), {}

    def __getstate__(self) -> dict[str, Any]:
        # A session cannot be copied or sent to another process.
        return {**self.__dict__, "_network": None}
