"""Formats for devices: each file does what the model does. A format is skipped where its package is missing."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch

import dadkit
from dadkit.export import export_model
from dadkit.loading import LoadError
from dadkit.testing import Outcome, check_exporter
from dadkit.testing.toy import ToyStudent

NEEDS = {"ncnn": ".param", "litert_torch": ".tflite", "coremltools": ".mlpackage", "executorch": ".pte"}
NAMES = {"litert_torch": "litert", "coremltools": "coreml"}


def installed(*packages):
    return [
        pytest.param(
            NAMES.get(package, package),
            NEEDS[package],
            id=NAMES.get(package, package),
            marks=pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"needs {package}"),
        )
        for package in packages
    ]


@pytest.mark.slow  # translators take their time
@pytest.mark.parametrize(("to", "suffix"), installed("ncnn", "litert_torch", "executorch"))
def test_a_student_in_this_format_is_the_same_model(tmp_path, to, suffix):
    model = dadkit.load_model("starter/tiny")
    path = tmp_path / f"student{suffix}"
    result = export_model(model, path, to=to, size=(64, 96))
    assert result.agreement.worst < 1e-5
    assert result.metadata["size"] == [64, 96]
    assert set(result.files) == set(tmp_path.iterdir())
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    deployed = dadkit.load_model(path)
    assert (deployed.spec.space, deployed.spec.license) == (model.spec.space, model.spec.license)
    with torch.no_grad():
        wanted = model(image).depth
    assert (deployed(image).depth - wanted).abs().max() < 1e-4 * wanted.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize(("to", "suffix"), installed("litert_torch", "executorch"))
def test_the_contract_of_exporters(to, suffix):
    assert [result for result in check_exporter(to) if result.outcome is Outcome.FAILED] == []


@pytest.mark.slow
@pytest.mark.parametrize(("to", "suffix"), installed("coremltools"))
def test_what_does_not_run_here_is_converted_and_says_so(tmp_path, to, suffix):
    path = tmp_path / f"student{suffix}"
    model = dadkit.load_model("starter/small")
    assert model.spec.upsampling == "bicubic"  # by a convolution: coremltools has no such interpolation
    result = export_model(model, path, to=to, options={"picture": True}, size=(64, 96), precision="fp16")
    assert path.is_dir()
    assert list(tmp_path.iterdir()) == [path]
    import coremltools

    if sys.platform == "darwin":
        pytest.skip("this machine runs it: the checks of the contract do")
    assert result.notes == ["The file was converted, not run: CoreML runs on Apple's systems only."]
    (image,) = coremltools.models.MLModel(str(path), skip_model_load=True).get_spec().description.input
    assert (image.name, image.type.imageType.height, image.type.imageType.width) == ("image", 64, 96)
    with pytest.raises(LoadError, match="CoreML runs on Apple's systems only"):
        dadkit.load_model(path)


@pytest.mark.parametrize(("to", "suffix"), installed("ncnn", "coremltools"))
def test_bytes_are_refused_where_the_runtime_takes_none(tmp_path, to, suffix):
    with pytest.raises(dadkit.errors.DadkitError, match=r"takes (floats|a camera's picture)"):
        export_model(ToyStudent(), tmp_path / f"x{suffix}", to=to, input="uint8", size=(16, 24))
    assert list(tmp_path.iterdir()) == []
