"""Small ONNX files with known weights, and the same network in torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def network():
    """Weighs a neighbourhood: never negative for images, and each pixel has its own answer."""
    conv = nn.Conv2d(3, 1, 3, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.rand(1, 3, 3, 3, generator=torch.Generator().manual_seed(0)))
    return conv.requires_grad_(False).eval()


@pytest.fixture(scope="session")
def write(network, tmp_path_factory):
    """``write(shape)`` writes the network as a file that takes images of that shape; strings are open sides."""

    def file(shape, *, last=False, dtype="FLOAT", squeeze=False) -> Path:
        weight = onnx.numpy_helper.from_array(network.weight.numpy().astype(np.float32), "weight")
        kind = getattr(onnx.TensorProto, dtype)
        nodes = [onnx.helper.make_node("Cast", ["image"], ["real"], to=onnx.TensorProto.FLOAT)]
        given = "real"
        if last:
            nodes.append(onnx.helper.make_node("Transpose", ["real"], ["first"], perm=[0, 3, 1, 2]))
            given = "first"
        nodes.append(onnx.helper.make_node("Conv", [given, "weight"], ["map"], pads=[1, 1, 1, 1]))
        nodes.append(onnx.helper.make_node("ReduceMean", ["map"], ["flat"], axes=[1], keepdims=0))
        answers = [("flat" if squeeze else "map", None), ("map" if squeeze else "flat", None)]
        graph = onnx.helper.make_graph(
            nodes,
            "small",
            [onnx.helper.make_tensor_value_info("image", kind, shape)],
            [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, size) for name, size in answers],
            [weight],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
        path = tmp_path_factory.mktemp("onnx") / "small.onnx"
        onnx.save(model, path)
        return path

    return file
