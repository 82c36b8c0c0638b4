"""ExecuTorch, torch's own runtime for devices: a .pte file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from dadkit.export.metadata import append, appended
from dadkit.interfaces import Exporter, ExportRequest

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ExecuTorchExporter"]


class ExecuTorchExporter(Exporter):
    """One image of one size at a time, by XNNPACK; the method is ``forward``."""

    suffix = ".pte"
    any_size = False

    def write(self, network: nn.Module, path: Path, request: ExportRequest) -> None:
        """Trace, and give XNNPACK every part of the graph that it takes."""
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        lowered = to_edge_transform_and_lower(request.trace(network), partitioner=[XnnpackPartitioner()])
        path.write_bytes(lowered.to_executorch().buffer)

    def annotate(self, path: Path, metadata: Mapping[str, str]) -> None:
        """As a file appended to the program, which the runtime does not look at."""
        append(path, metadata)

    def metadata(self, path: Path) -> Mapping[str, str]:
        """Returns what :meth:`annotate` stored."""
        return appended(path)

    def open(self, path: Path, *, threads: int = 0) -> Callable[[np.ndarray], np.ndarray]:
        """On the processor. The runtime has one number of threads for the whole process, so ``threads`` is not looked at."""
        from executorch.runtime import Runtime

        method = Runtime.get().load_program(path).load_method("forward")

        def run(images: np.ndarray) -> np.ndarray:
            (depth,) = method.execute([torch.from_numpy(images)])
            answer: np.ndarray = depth.numpy().copy()  # the runtime uses this memory again
            return answer

        return run
