"""ONNX files with smaller weights: half precision, or 8 bits by onnxruntime's quantiser."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dadkit.export.metadata import KEPT

if TYPE_CHECKING:
    import numpy as np

__all__ = ["LADDER", "halve_weights", "quantize"]

LADDER = (
    "all operators",
    "convolutions and products",
    "the most sensitive tenth in float",
    "the most sensitive quarter in float",
    "16-bit activations",
)
"""Ways to quantise, the fastest first; each keeps more in higher precision than the one before."""

_SHARES = {LADDER[2]: 0.1, LADDER[3]: 0.25}
_OPERATORS = ["Conv", "MatMul", "Gemm"]

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
        activation = QuantType.QUInt16 if variant == LADDER[-1] else QuantType.QInt8 if symmetric else QuantType.QUInt8
        kept: list[tuple[str, float]] = []
        if variant in _SHARES:
            order = _sensitivity(prepared, calibration, input)
            kept = order[: math.ceil(_SHARES[variant] * len(order))]
        quantize_static(
            prepared,
            target,
            _reader(calibration, input),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=None if variant == LADDER[0] else _OPERATORS,
            nodes_to_exclude=[name for name, _ in kept],
            activation_type=activation,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"ActivationSymmetric": symmetric},
        )
        if kept:
            model = onnx.load(target)
            onnx.helper.set_model_props(model, {KEPT: json.dumps(kept)})
            onnx.save(model, target)
    finally:
        quiet.setLevel(before)
        prepared.unlink(missing_ok=True)


def _sensitivity(prepared: Path, calibration: Sequence[np.ndarray], input: str) -> list[tuple[str, float]]:
    """Returns (node, error), largest first: how far the map moves where this node alone is quantised.

    The error is the mean difference after a fit by scale and shift, in parts of the map's standard deviation, on the first two
    calibration images. The result is kept beside ``prepared`` for the next variant.
    """
    import numpy as np
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    store = prepared.with_suffix(".order.json")
    if store.exists():
        return [(name, error) for name, error in json.loads(store.read_text())]
    images = calibration[:2]
    exact = _answers(prepared, images, input)
    order = []
    for node in onnx.load(prepared).graph.node:
        if node.op_type not in _OPERATORS:
            continue
        one = prepared.with_suffix(".one.onnx")
        quantize_static(
            prepared,
            one,
            _reader(images, input),
            quant_format=QuantFormat.QDQ,
            nodes_to_quantize=[node.name],
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
        )
        errors = []
        for found, wanted in zip(_answers(one, images, input), exact, strict=True):
            x, y = found - found.mean(), wanted - wanted.mean()
            fitted = x * (float((x * y).sum()) / max(float((x * x).sum()), 1e-24))
            errors.append(float(np.abs(fitted - y).mean() / max(float(y.std()), 1e-12)))
        order.append((node.name, sum(errors) / len(errors)))
        one.unlink()
    order.sort(key=lambda row: -row[1])
    store.write_text(json.dumps(order))
    return order


def _answers(path: Path, images: Sequence[np.ndarray], input: str) -> list[np.ndarray]:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [np.asarray(session.run(None, {input: image})[0], dtype=np.float64) for image in images]


def _reader(calibration: Sequence[np.ndarray], input: str) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.left, None)
            return None if image is None else {input: image}

    return Reader()
