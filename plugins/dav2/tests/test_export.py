"""Students written for the official code and for transformers, and read back with the same answers."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from dadkit_dav2.model import DepthAnything
from safetensors import safe_open
from safetensors.torch import save_file

import dadkit
from dadkit.cli import main
from dadkit.conversion import ConversionError, convert
from dadkit.loading import ModelCard


@pytest.fixture
def student(tmp_path):
    """``student(build("tiny"), component, **options)``: the file of a trained student, as a run leaves it."""

    def write(model: DepthAnything, component: str = "dav2/tiny", **options: object):
        card = ModelCard(
            component=component,
            options=options,
            space=str(model.spec.space),
            licenses=["Apache-2.0", "CC-BY-NC-4.0"],
            versions={"dadkit": "0.1"},
            run="mine",
            stage="main",
            step=12,
            config_hash="0",
        )
        save_file(model.state_dict(), tmp_path / "model.safetensors", metadata=card.to_metadata())
        return tmp_path / "model.safetensors"

    return write


def images(height: int, width: int) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(height))


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert theirs.std() > 0.05
    assert (ours - theirs).abs().max() <= 2e-5 * theirs.abs().max()


@pytest.mark.parametrize("options", [{}, {"version": "v1"}, {"max_depth": 20.0}], ids=str)
@pytest.mark.parametrize(("height", "width"), [(126, 126), (98, 168)])
def test_transformers_loads_it_with_the_same_answers(build, student, tmp_path, options, height, width):
    model = build("tiny", pos_embed="hf", **options)
    component = "dav2/tiny-metric" if "max_depth" in options else "dav2/tiny"
    result = convert(student(model, component, pos_embed="hf", **options), tmp_path / "folder", "hf")
    assert result.notes == []
    theirs, report = transformers.AutoModelForDepthEstimation.from_pretrained(tmp_path / "folder", output_loading_info=True)
    assert not any(report.values()), report  # nothing missing, nothing left over
    x = images(height, width)
    with torch.inference_mode():
        close(model(x).depth[:, 0], theirs.eval()(model.normalized(x)).predicted_depth)


def test_the_other_rule_is_said_and_its_own_grid_is_the_same(build, student, tmp_path):
    model = build("tiny")
    (note,) = convert(student(model), tmp_path / "folder", "hf").notes
    assert "at every input but 126 x 126 its answers differ" in note
    theirs = transformers.AutoModelForDepthEstimation.from_pretrained(tmp_path / "folder").eval()
    with torch.inference_mode():
        x = images(126, 126)
        close(model(x).depth[:, 0], theirs(model.normalized(x)).predicted_depth)
        x = images(98, 168)
        assert (model(x).depth[:, 0] - theirs(model.normalized(x)).predicted_depth).abs().max() > 1e-3


def test_the_processor_prepares_images_as_we_do(build, student, tmp_path):
    model = build("tiny", pos_embed="hf")
    convert(student(model, pos_embed="hf"), tmp_path / "folder", "hf")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "folder")
    picture = (torch.rand(3, 180, 240, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    pixels = processor(images=picture, return_tensors="pt")["pixel_values"]
    assert tuple(pixels.shape[-2:]) == model.spec.native.target(180, 240)
    assert abs(pixels.mean() - model.normalized(picture[None] / 255).mean()) < 0.02


def test_giants_mlp(build, tmp_path):
    """SwiGLU has names of its own in both layouts."""
    model = build("mini-giant", pos_embed="hf")
    export = model.export("hf")
    (tmp_path / "g").mkdir()
    save_file(
        {name: tensor.clone() for name, tensor in export.tensors.items()}, tmp_path / "g/model.safetensors", {"format": "pt"}
    )
    for name, text in export.files.items():
        (tmp_path / "g" / name).write_text(text)
    theirs = transformers.AutoModelForDepthEstimation.from_pretrained(tmp_path / "g").eval()
    x = images(126, 126)
    with torch.inference_mode():
        close(model(x).depth[:, 0], theirs(model.normalized(x)).predicted_depth)
    assert "pretrained.blocks.0.mlp.w12.weight" in model.export("dav2").tensors


@pytest.mark.parametrize("size", ["small", "base", "large", "giant"])
def test_official_names_and_shapes(size, official_shapes):
    with torch.device("meta"):
        tensors = DepthAnything(size).export("dav2").tensors
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == official_shapes(size)


@pytest.mark.parametrize("name", ["depth.pth", "depth.safetensors"])
def test_official_round_trip(build, student, tmp_path, name):
    model = build("tiny")
    result = convert(student(model), tmp_path / "out" / name, "dav2")
    assert result.files == [tmp_path / "out" / name, tmp_path / "out" / "depth.md"]
    if name.endswith(".pth"):
        assert isinstance(torch.load(result.files[0], weights_only=True), dict)
    back = DepthAnything("tiny", weights=result.files[0]).eval()
    x = images(98, 126)
    with torch.inference_mode():
        assert torch.equal(back(x).depth, model(x).depth)


def test_licences_travel(build, student, tmp_path):
    result = convert(student(build("tiny")), tmp_path / "folder", "hf")
    assert result.licenses == ["Apache-2.0", "CC-BY-NC-4.0"]
    card = (tmp_path / "folder" / "README.md").read_text()
    assert "- Apache-2.0\n- CC-BY-NC-4.0\n" in card
    assert "run `mine`, 12 steps" in card
    assert "AutoModelForDepthEstimation" in card
    with safe_open(tmp_path / "folder" / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt", "license": "Apache-2.0 AND CC-BY-NC-4.0"}
    assert json.loads((tmp_path / "folder" / "config.json").read_text())["model_type"] == "depth_anything"


def test_the_command(build, student, tmp_path, capsys):
    source = student(build("tiny"))
    with pytest.raises(SystemExit) as done:
        main(["convert", str(source), str(tmp_path / "folder"), "--to", "hf"])
    assert done.value.code == 0
    shown = capsys.readouterr().err
    assert "licence: Apache-2.0 AND CC-BY-NC-4.0" in shown
    assert "note: transformers resizes the position embedding by another rule" in shown
    with pytest.raises(SystemExit) as done:
        main(["convert", "dav2/tiny", str(tmp_path / "tiny.pth"), "--to", "dav2"])
    assert done.value.code == 0
    assert dadkit.load_teacher("dav2/tiny", weights=tmp_path / "tiny.pth").spec.license == "Apache-2.0"


def test_what_cannot_be_written(build, student, tmp_path):
    source = student(build("tiny"))
    with pytest.raises(ConversionError, match=r"has no layout 'onnx'; it offers .*dav2 \(one \.pth .*; hf \(a folder"):
        convert(source, tmp_path / "x", "onnx")
    with pytest.raises(ConversionError, match=r"topformer-tiny, which has no layout 'dav2'; it offers encoder"):
        convert("topformer/tiny", tmp_path / "x", "dav2")
    with pytest.raises(ConversionError, match=r"must end in \.safetensors, \.pth, \.pt"):
        convert(source, tmp_path / "x", "dav2")
    with pytest.raises(ConversionError, match="this layout is a folder"):
        convert(source, tmp_path / "x.pth", "hf")
    with pytest.raises(ConversionError, match="is not empty; give a new one"):
        convert(source, tmp_path, "hf")
    with pytest.raises(ConversionError, match="exists already"):
        convert(source, source, "dav2")
