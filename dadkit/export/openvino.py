"""OpenVINO, the fastest runtime on most processors: an .xml file with its weights in a .bin file beside it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from dadkit.export.onnx import OnnxExporter
from dadkit.interfaces import Exporter, ExportRequest

if TYPE_CHECKING:
    import numpy as np
    import openvino

__all__ = ["OpenVinoExporter"]

_KEY = "metadata"


@functools.cache
def _core() -> openvino.Core:
    """Returns the runtime, one for the life of the process.

    Its CPU plugin puts the thread's signal handlers on a stack of its own, and frees that stack with the last core: the next
    signal that Python handles, such as Ctrl-C or the end of a loader's process, would then end the process.
    """
    import openvino

    return openvino.Core()


class OpenVinoExporter(Exporter):
    """What the ONNX exporter writes, translated: the same names, sizes and precisions.

    :meth:`open` computes in float32. OpenVINO's own default is bfloat16 where the processor has it: about twice as fast, and
    different from the model by about 1 % of the map's range.
    """

    suffix = ".xml"
    precisions = OnnxExporter.precisions

    def write(self, network: nn.Module, path: Path, request: ExportRequest) -> None:
        """By way of an ONNX file, which is what OpenVINO reads best."""
        import openvino

        draft = path.with_suffix(".onnx")
        OnnxExporter().write(network, draft, request)
        model = _core().read_model(draft)  # convert_model would store the draft's path
        openvino.save_model(model, path, compress_to_fp16=request.precision == "fp16")
        if told := OnnxExporter().metadata(draft):  # which nodes stay in float
            self.annotate(path, told)
        draft.unlink()

    def variants(self, precision: str) -> Sequence[str]:
        """As of ONNX, but for 16-bit activations, which OpenVINO does not take."""
        return OnnxExporter().variants(precision)[:-1] if precision == "int8" else [""]

    def companions(self, path: Path) -> Sequence[Path]:
        """Returns the weights."""
        return [path.with_suffix(".bin")]

    def annotate(self, path: Path, metadata: Mapping[str, str]) -> None:
        """In the model's runtime information, as one text."""
        import openvino

        model = _core().read_model(path)
        model.set_rt_info(json.dumps({**self.metadata(path), **metadata}), [_KEY])
        renamed = path.with_name(f"annotated-{path.name}")  # the weights are mapped while the model lives
        openvino.save_model(model, renamed, compress_to_fp16=False)
        del model
        for suffix in (".bin", ".xml"):
            renamed.with_suffix(suffix).replace(path.with_suffix(suffix))

    def metadata(self, path: Path) -> Mapping[str, str]:
        """Returns what :meth:`annotate` stored."""
        model = _core().read_model(path)
        if not model.has_rt_info([_KEY]):
            return {}
        found: Mapping[str, str] = json.loads(model.get_rt_info([_KEY]).astype(str))
        return found

    def open(self, path: Path, *, threads: int = 0) -> Callable[[np.ndarray], np.ndarray]:
        """Compiled for the processor, in float32."""
        config = {"INFERENCE_PRECISION_HINT": "f32", **({"INFERENCE_NUM_THREADS": threads} if threads else {})}
        compiled = _core().compile_model(_core().read_model(path), "CPU", config)
        return lambda image: compiled(image)[0].copy()
