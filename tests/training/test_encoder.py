"""The encoder by itself, and the linear probe on generated label maps."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import dadkit
from dadkit.errors import DadkitError
from dadkit.training.encoder import encoder_state, export_encoder

PROBE = Path(__file__).parents[2] / "benchmarks" / "linear_probe.py"


def test_the_encoders_tensors_load_into_the_encoder(tmp_path):
    model = dadkit.load_student("dav2/tiny")
    export_encoder(model, tmp_path / "encoder.safetensors")
    state = load_file(tmp_path / "encoder.safetensors")
    other = dadkit.load_student("dav2/tiny")
    (encoder,) = [module for name, module in other.named_children() if f"{name}." in other.encoder_prefixes]
    encoder.load_state_dict(state)
    images = torch.rand(1, 3, 56, 56)
    torch.testing.assert_close(other.eval()(images).features["tokens"], model.eval()(images).features["tokens"])
    with safe_open(tmp_path / "encoder.safetensors", "pt") as file:
        about = json.loads(file.metadata()["dadkit_encoder"])
    assert about["size_multiple"] == 14
    assert about["features"] == dict(model.spec.features)


def test_every_encoder_parameter_is_there_and_no_other():
    model = dadkit.load_student("topformer/tiny")
    groups = {group["name"]: group["params"] for group in model.param_groups()}
    names = {id(tensor) for tensor in groups["encoder"]}
    expected = [parameter for parameter in model.parameters() if id(parameter) in names]
    found = encoder_state(model)
    sizes = sorted(tensor.numel() for name, tensor in found.items() if not name.endswith(("mean", "var", "tracked")))
    assert sizes == sorted(parameter.numel() for parameter in expected)


def test_a_model_without_a_named_encoder_is_refused(toys):
    student = toys.Student()
    student.encoder_prefixes = ("trunk.",)
    with pytest.raises(DadkitError, match="does not say which"):
        encoder_state(student)


def test_the_linear_probe_runs(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("linear_probe", PROBE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    images, labels = module.label_maps("train", 3, 64)
    assert images.shape == (3, 3, 64, 64)
    assert set(labels.unique().tolist()) <= {0, 1, 2, 3}
    assert len(labels.unique()) > 1
    export = tmp_path / "encoder.safetensors"
    found = module.main(["topformer/tiny", "--scenes", "6", "--size", "64", "--steps", "10", "--export", str(export)])
    assert export.is_file()
    assert all(0 < value < 1 for value in found.values())
    assert "mIoU" in capsys.readouterr().out
