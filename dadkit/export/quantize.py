"""ONNX files with smaller weights: half precision, or 8 bits by onnxruntime's quantiser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = ["LADDER", "halve_weights", "quantize"]

LADDER = ("all operators", "convolutions and products", "without the last convolution", "16-bit activations")
"""Ways to quantise, the fastest first; each keeps more in higher precision than the one before."""

_FEW = 256
"""Tensors with at most so many elements stay as they are: they cost nothing and their digits may matter."""


def halve_weights(source: Path, target: Path) -> None:
    """Store the large weights in half precision, and cast them where they are used: half the size, the same arithmetic."""
    import numpy as np
    import onnx

    model = onnx.load(source)
    graph = model.graph
    casts = []
    for tensor in list(graph.initializer):
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims, dtype=int) <= _FEW:
            continue
        name, half = tensor.name, f"{tensor.name}.half"
        values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        if not np.isfinite(values).all():
            continue  # larger than half precision can say
        graph.initializer.remove(tensor)
        graph.initializer.append(onnx.numpy_helper.from_array(values, half))
        casts.append(onnx.helper.make_node("Cast", [half], [name], to=onnx.TensorProto.FLOAT, name=f"{name}.float"))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, target)


def quantize(
    source: Path, target: Path, calibration: Sequence[np.ndarray], variant: str, *, input: str, symmetric: bool = False
) -> None:
    """Write ``source`` with weights of 8 bits, one scale a channel.

    Args:
        source, target: the files.
        calibration: inputs, of which the ranges of activations are measured; none: ranges are found when the file runs
            ("dynamic"), and only products of matrices are quantised.
        variant: one of :data:`LADDER`.
        input: the file's input name.
        symmetric: zero is zero in 8 bits too.
    """
    import logging

    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = source.with_suffix(".prepared.onnx")
    quiet = logging.getLogger()
    before = quiet.level
    quiet.setLevel(logging.ERROR)  # its advice is to do what the next line does
    try:
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        if not calibration:
            quantize_dynamic(
                prepared, target, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True
            )
            return
        activation = QuantType.QUInt16 if variant == LADDER[3] else QuantType.QInt8 if symmetric else QuantType.QUInt8
        convolutions = [node.name for node in onnx.load(prepared).graph.node if node.op_type == "Conv"]
        quantize_static(
            prepared,
            target,
            _reader(calibration, input),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=None if variant == LADDER[0] else ["Conv", "MatMul", "Gemm"],
            nodes_to_exclude=convolutions[-1:] if variant in LADDER[2:] else [],
            activation_type=activation,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"ActivationSymmetric": symmetric},
        )
    finally:
        quiet.setLevel(before)
        prepared.unlink(missing_ok=True)


def _reader(calibration: Sequence[np.ndarray], input: str) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.left, None)
            return None if image is None else {input: image}

    return Reader()
