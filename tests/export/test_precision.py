"""Lower precision: what is kept passes a gate on pictures that the quantiser has not seen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

import dadkit
from dadkit.evaluation import EvaluationPlan, load_protocol
from dadkit.export import ExportError, export_model, writing
from dadkit.export.gate import judge
from dadkit.export.photographs import photographs
from dadkit.testing.toy import ToyStudent

pytest.importorskip("onnxruntime")


class Wide(ToyStudent):
    """A toy with a layer that is worth storing in fewer bits, and a native size."""

    def __init__(self):
        super().__init__(width=64)
        self.between = torch.nn.Conv2d(64, 64, 3, padding=1)

    def estimate(self, x):
        depth, features = super().estimate(x)
        grey = torch.nn.functional.avg_pool2d(x, 4).mean(1, keepdim=True)
        return depth + 0.05 * self.between(grey.expand(-1, 64, -1, -1)).mean(1, keepdim=True), features


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Eight parts of a photograph."""
    folder = tmp_path_factory.mktemp("pictures")
    whole = photographs()[0].permute(1, 2, 0).numpy()
    for i in range(8):
        Image.fromarray(np.ascontiguousarray(whole[i * 40 : i * 40 + 300, i * 20 : i * 20 + 350])).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Wide().eval()


@pytest.mark.slow
def test_half_precision_stores_half(tmp_path, pictures, model):
    whole = export_model(model, tmp_path / "whole.onnx")
    half = export_model(model, tmp_path / "half.onnx", precision="fp16", pictures=[pictures])
    assert half.files[0].stat().st_size < 0.7 * whole.files[0].stat().st_size
    assert half.verdicts[-1].abs_rel < 0.002
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half.onnx", "whole.onnx"]


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_eight_bits_pass_the_gate_and_say_so(tmp_path, pictures, model, to):
    pytest.importorskip(to)
    result = export_model(
        model, tmp_path / f"small.{'onnx' if to == 'onnx' else 'xml'}", to=to, precision="int8", pictures=[pictures]
    )
    assert result.verdicts[-1].passes
    assert result.verdicts[-1].pictures == 4
    assert result.metadata["gate"][-1]["variant"] == result.verdicts[-1].variant
    assert {path.suffix for path in tmp_path.iterdir()} == ({".onnx"} if to == "onnx" else {".xml", ".bin"})


@pytest.mark.slow
def test_eight_bits_for_tensorrt_are_symmetric(tmp_path, pictures, model):
    import onnx

    options = {"symmetric": True}
    result = export_model(model, tmp_path / "x.onnx", options=options, precision="int8", size=(32, 48), pictures=[pictures])
    graph = onnx.load(result.files[0]).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    zeros = [constants[node.input[2]] for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert zeros
    assert all(zero.dtype in (np.int8, np.int32) and not zero.any() for zero in zeros)


@pytest.mark.slow
def test_what_no_variant_keeps_is_not_written(tmp_path, pictures, model, monkeypatch):
    monkeypatch.setattr("dadkit.export.gate.MAX_ABS_REL", 1e-9)
    monkeypatch.setattr(writing, "MAX_ABS_REL", 1e-9)
    with pytest.raises(ExportError, match=r"no way to int8 keeps the map: the best, .*; nothing was written"):
        export_model(model, tmp_path / "small.onnx", precision="int8", pictures=[pictures])
    assert list(tmp_path.iterdir()) == []


def test_ranges_need_photographs(tmp_path, model):
    with pytest.raises(ExportError, match="int8 needs at least 4 photographs"):
        export_model(model, tmp_path / "small.onnx", precision="int8")


def test_the_gate_sees_a_bent_map_and_forgives_scale_and_shift(model):
    images = [torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))]

    def seen(change):
        with torch.no_grad():
            return judge(model, lambda x: change(model(torch.from_numpy(x)).depth).numpy(), images, variant="", megabytes=0.0)

    assert seen(lambda depth: 3 * depth + 7).abs_rel < 1e-5
    assert not seen(lambda depth: (depth - depth.mean()).abs()).passes


@pytest.mark.slow
def test_the_most_sensitive_nodes_stay_in_float_and_true_depth_has_the_last_word(tmp_path, pictures, model, monkeypatch):
    """The fast rungs are refused; the rung by measured order is kept, and says what it kept. Then nothing may be lost."""
    judged = []

    def strict(*arguments, **row):
        judged.append(row["variant"])
        return dataclasses.replace(judge(*arguments, **row), abs_rel=0.0 if "tenth" in row["variant"] else 1.0)

    monkeypatch.setattr(writing, "judge", strict)
    plan = EvaluationPlan(load_protocol("affine-disparity"), "procedural", {"count": 3, "size": [48, 64], "split": "test"})
    settings = {"precision": "int8", "pictures": [pictures], "size": (48, 64), "truth": plan}
    result = export_model(model, tmp_path / "small.onnx", max_drop=10.0, **settings)
    assert judged == ["all operators", "convolutions and products", "the most sensitive tenth in float"]
    ((name, error),) = result.verdicts[-1].kept
    assert error > 0
    import onnx

    graph = onnx.load(result.files[0]).graph
    (kept,) = (node for node in graph.node if node.name == name)
    assert not any("Dequantize" in source for source in kept.input)
    facts = dadkit.load_model(result.files[0]).facts
    assert facts["truth"]["images"] == 3
    assert facts["truth"]["abs_rel"] == pytest.approx(result.drop.abs_rel)
    assert result.drop.low <= result.drop.abs_rel_change <= result.drop.high
    with pytest.raises(ExportError, match=r"no way to int8 passes: the best changes AbsRel by .* on 3 images"):
        export_model(model, tmp_path / "none.onnx", max_drop=-1.0, **settings)
    assert not (tmp_path / "none.onnx").exists()
