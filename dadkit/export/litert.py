"""LiteRT, once TensorFlow Lite: a .tflite file for Android and small boards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from dadkit.export.metadata import append, appended
from dadkit.interfaces import Exporter, ExportRequest

if TYPE_CHECKING:
    import numpy as np

__all__ = ["LiteRtExporter"]


class LiteRtExporter(Exporter):
    """One image of one size at a time, in the layout of ``dadkit export``: channels first as floats, last as bytes.

    ``int8-dynamic`` stores the weights in 8 bits and measures the ranges of activations while the file runs.
    """

    suffix = ".tflite"
    precisions = ("fp32", "int8-dynamic")
    any_size = False

    def write(self, network: nn.Module, path: Path, request: ExportRequest) -> None:
        """By litert-torch, from the graph of torch.export; fewer bits by the quantiser of AI Edge."""
        import litert_torch

        litert_torch.convert(network, (request.example(),)).export(str(path))
        if request.precision == "int8-dynamic":
            from ai_edge_quantizer import quantizer, recipe

            whole = path.rename(path.with_name(f"fp32-{path.name}"))
            quantizer.Quantizer(str(whole), recipe.dynamic_wi8_afp32()).quantize().export_model(str(path))
            whole.unlink()

    def annotate(self, path: Path, metadata: Mapping[str, str]) -> None:
        """As a file appended to the model, which is how the format keeps such things."""
        append(path, metadata)

    def metadata(self, path: Path) -> Mapping[str, str]:
        """Returns what :meth:`annotate` stored."""
        return appended(path)

    def open(self, path: Path, *, threads: int = 0) -> Callable[[np.ndarray], np.ndarray]:
        """By the interpreter, with XNNPACK, on the processor."""
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(path), num_threads=threads or None)
        ((signature, names),) = interpreter.get_signature_list().items()
        (image,), (depth,) = names["inputs"], names["outputs"]
        runner = interpreter.get_signature_runner(signature)
        return lambda images: runner(**{image: images})[depth]
