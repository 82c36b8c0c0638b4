"""The encoder by itself: the right tensors, under names that its own code takes."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import dadkit
from dadkit.conversion import convert, encoder_state
from dadkit.errors import DadkitError
from dadkit.loading import ModelCard


@pytest.fixture
def trained(tmp_path):
    """``trained("dav2/tiny")``: the model and its file, as a run leaves it."""

    def write(name: str):
        model = dadkit.load_student(name)
        card = ModelCard(name, {}, str(model.spec.space), ["MIT", "Apache-2.0"], {"dadkit": "0.1"}, "mine", "main", 3, "0")
        save_file(model.state_dict(), tmp_path / "model.safetensors", metadata=card.to_metadata())
        return model.eval(), tmp_path / "model.safetensors"

    return write


def test_timm_loads_the_encoder_and_sees_the_same(trained, tmp_path):
    model, file = trained("dav2/tiny")
    result = convert(file, tmp_path / "encoder.safetensors", "encoder")
    card = (tmp_path / "encoder.md").read_text()
    code = card.split("```python")[1].split("```")[0].replace("encoder.safetensors", str(tmp_path / "encoder.safetensors"))
    images = torch.rand(2, 3, 126, 126, generator=torch.Generator().manual_seed(0))
    scope = {"images": model.normalized(images)}
    exec(code, scope)  # what the card tells its reader to do
    assert isinstance(scope["model"], timm.models.VisionTransformer)
    torch.testing.assert_close(scope["tokens"], model(images).features["tokens"], rtol=1e-4, atol=1e-5)
    with safe_open(tmp_path / "encoder.safetensors", "pt") as written:
        assert written.metadata()["license"] == "MIT AND Apache-2.0"
    assert "(0.485, 0.456, 0.406)" in card
    assert any("126 x 126" in note for note in result.notes)


@pytest.mark.parametrize("size", ["small", "base", "large"])
def test_timms_models_have_these_tensors(size):
    with torch.device("meta"):
        model = dadkit.load_student(f"dav2/{size}")
        theirs = timm.create_model(f"vit_{size}_patch14_dinov2", dynamic_img_size=True)
    shapes = [{name: t.shape for name, t in one.items()} for one in (encoder_state(model), theirs.state_dict())]
    assert shapes[0] == shapes[1]
    assert f"vit_{size}_patch14_dinov2" in model.export("encoder").usage


def test_any_student_has_its_encoder(trained, tmp_path):
    model, file = trained("midas/tiny")
    convert(file, tmp_path / "encoder.safetensors", "encoder")
    other = dadkit.load_student("midas/tiny")
    other.backbone.load_state_dict(load_file(tmp_path / "encoder.safetensors"))
    assert all(torch.equal(other.backbone.state_dict()[name], tensor) for name, tensor in model.backbone.state_dict().items())


def test_every_encoder_parameter_is_there_and_no_other():
    model = dadkit.load_student("topformer/tiny")
    groups = {group["name"]: group["params"] for group in model.param_groups()}
    names = {id(tensor) for tensor in groups["encoder"]}
    expected = [parameter for parameter in model.parameters() if id(parameter) in names]
    found = encoder_state(model)
    sizes = sorted(tensor.numel() for name, tensor in found.items() if not name.endswith(("mean", "var", "tracked")))
    assert sizes == sorted(parameter.numel() for parameter in expected)


def test_a_model_without_a_named_encoder_is_refused():
    student = dadkit.load_student("midas/tiny")
    student.encoder_prefixes = ("trunk.",)
    with pytest.raises(DadkitError, match="does not say which"):
        encoder_state(student)
