"""ONNX, which onnxruntime and most other runtimes read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from dadkit.export.quantize import LADDER, halve_weights, quantize
from dadkit.interfaces import Exporter, ExportRequest

if TYPE_CHECKING:
    import numpy as np

__all__ = ["OnnxExporter"]


class OnnxExporter(Exporter):
    """One ``.onnx`` file: input ``image``, output ``depth``, dimensions ``batch``, ``height`` and ``width``.

    Args:
        opset: version of ONNX's operators; lower it for old runtimes.
        symmetric: 8-bit values are symmetric about zero, as TensorRT wants them; onnxruntime computes faster without.

    Precisions: ``fp16`` stores the weights in half precision and computes in float32; ``int8`` computes with 8 bits, for which
    ranges are measured on photographs; ``int8-dynamic`` finds them when the file runs, and quantises products of matrices only.
    """

    suffix = ".onnx"
    precisions = ("fp32", "fp16", "int8", "int8-dynamic")

    def __init__(self, opset: Literal[18, 19, 20, 21, 22, 23] = 20, symmetric: bool = False) -> None:
        self.opset, self.symmetric = opset, symmetric

    def write(self, network: nn.Module, path: Path, request: ExportRequest) -> None:
        """Trace, translate, and take out what the translation says about this machine; then lower the precision."""
        import onnx

        if request.precision != "fp32":
            whole = path.with_name(f"fp32-{path.name}")
            if not whole.exists():  # one translation for all variants
                self.write(network, whole, replace(request, precision="fp32"))
            if request.precision == "fp16":
                halve_weights(whole, path)
            else:
                quantize(whole, path, request.calibration, request.variant, input="image", symmetric=self.symmetric)
            return
        # Never torch.onnx.export(network, …): where a dynamic size cannot be traced, it writes the example's in silence.
        program = request.trace(network)
        translated = torch.onnx.export(
            program,
            dynamo=True,
            input_names=["image"],
            output_names=["depth"],
            opset_version=self.opset,
            external_data=False,
            verbose=False,
            custom_translation_table={torch.ops.aten.softplus.default: _softplus},
        )
        assert translated is not None
        model = translated.model_proto
        _forget_places(model)
        if request.size is None:
            names = ["batch", "height", "width", None] if request.input == "uint8" else ["batch", None, "height", "width"]
            _name_dimensions(model.graph.input[0], names)
            _name_dimensions(model.graph.output[0], ["batch", None, "height", "width"])
        onnx.save(model, path)

    def variants(self, precision: str) -> Sequence[str]:
        """Of ``int8`` the rungs of a ladder that keeps more and more in float."""
        if precision != "int8":
            return [""]
        return LADDER[:-1] if self.symmetric else LADDER  # the last rung's 16 bits are not symmetric

    def annotate(self, path: Path, metadata: Mapping[str, str]) -> None:
        """As the model's ``metadata_props``."""
        import onnx

        model = onnx.load(path)
        onnx.helper.set_model_props(model, {**self.metadata(path), **metadata})
        onnx.save(model, path)

    def metadata(self, path: Path) -> Mapping[str, str]:
        """Returns the model's ``metadata_props``."""
        import onnx

        return {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}

    def open(self, path: Path, *, threads: int = 0) -> Callable[[np.ndarray], np.ndarray]:
        """Returns a session of onnxruntime on the processor."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda image: session.run(None, {name: image})[0]


def _softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """``softplus`` of operators that runtimes vectorise, for every x: onnxruntime computes its own one number at a time."""
    from onnxscript import opset18 as op

    scaled = x if beta == 1 else op.Mul(x, beta)
    answer = op.Sub(op.Relu(scaled), op.Log(op.Sigmoid(op.Abs(scaled))))
    return answer if beta == 1 else op.Div(answer, beta)


def _forget_places(model: Any) -> None:
    """Every node carries the stack of the Python code that made it, with paths: 5 % of a small file, and private."""
    for graph in (model.graph, *model.functions):
        for node in graph.node:
            del node.metadata_props[:]
            node.doc_string = ""
        del graph.value_info[:]
        del graph.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    del model.metadata_props[:]


def _name_dimensions(value: Any, names: list[str | None]) -> None:
    for dimension, name in zip(value.type.tensor_type.shape.dim, names, strict=True):
        if name is not None:
            dimension.dim_param = name
