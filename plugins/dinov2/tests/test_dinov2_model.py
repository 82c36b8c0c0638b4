"""The function, against transformers and timm; files in every layout; what is declared."""

from __future__ import annotations

import copy

import dadkit_dinov2
import pytest
import timm
import torch
import transformers
from dadkit_dinov2.model import DINOv2
from dadkit_dinov2.options import Options, ReleasedOptions
from dadkit_dinov2.sizes import SIZES
from pydantic import ValidationError
from safetensors.torch import save_file

import dadkit
from dadkit.errors import DadkitError
from dadkit.interfaces import FeatureEncoder


def images(height: int, width: int, count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(height * 1000 + width))


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert theirs.std() > 0.1  # dead features would prove nothing
    assert (ours - theirs).abs().max() <= 2e-5 * theirs.abs().max()


@pytest.mark.parametrize(
    ("size", "height", "width"),
    [("mini", 518, 518), ("mini", 392, 518), ("tiny", 126, 126), ("tiny", 98, 168), ("mini-giant", 126, 154)],
)
def test_equals_transformers_in_its_mode(build, transformers_model, size, height, width):
    model = build(size, pos_embed="hf")
    theirs = transformers_model(size, model)
    x = images(height, width, 2)
    with torch.inference_mode():
        close(model(x)["tokens"], theirs(model.normalized(x)).last_hidden_state[:, 1:])


def test_equals_timm_at_its_own_grid():
    """Only there, since timm brings the position embedding to other grids by a rule of its own."""
    torch.manual_seed(0)
    theirs = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=126).eval()
    for block in theirs.blocks:
        for scale in (block.ls1, block.ls2):
            torch.nn.init.uniform_(scale.gamma, 0.5, 1.5)  # timm begins at 1e-5, with dead blocks
    small = SIZES["small"]
    from dadkit_dinov2.network import Encoder
    from dadkit_dinov2.sizes import Size

    ours = Encoder(Size(small.width, small.depth, small.heads, native=126), taps=[2, 5, 8, 11]).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 126, 126)
    with torch.inference_mode():
        for mine, wanted in zip(
            ours(x),
            theirs.forward_intermediates(x, indices=[2, 5, 8, 11], norm=True, output_fmt="NLC", intermediates_only=True),
            strict=True,
        ):
            close(mine, wanted)


def test_the_two_rules_differ_off_the_own_grid_only(build):
    official, hf = build("mini"), build("mini", pos_embed="hf")
    with torch.inference_mode():
        assert torch.equal(official(images(518, 518))["tokens"], hf(images(518, 518))["tokens"])
        assert (official(images(140, 182))["tokens"] - hf(images(140, 182))["tokens"]).abs().max() > 1e-3


@pytest.mark.parametrize("size", ["tiny", "mini-giant"])
def test_every_layout_gives_the_same_encoder(build, transformers_model, tmp_path, size):
    model = build(size)
    ours = model.encoder.state_dict()
    theirs = transformers_model(size, model)
    official = {name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): t for name, t in ours.items()}
    torch.save({**(official if size == "mini-giant" else ours), "mask_token": torch.zeros(1, 4)}, tmp_path / "official.pth")
    save_file(ours, tmp_path / "timm.safetensors")
    torch.save(theirs.state_dict(), tmp_path / "memory.pth")
    theirs.save_pretrained(tmp_path / "folder")
    config = copy.deepcopy(theirs.config)
    config.num_labels = 3
    classifier = transformers.Dinov2ForImageClassification(config)
    classifier.dinov2.load_state_dict(theirs.state_dict())
    classifier.save_pretrained(tmp_path / "classifier")
    for source in ("official.pth", "timm.safetensors", "memory.pth", "folder", "classifier"):
        loaded = DINOv2(size, weights=tmp_path / source).encoder.state_dict()
        assert loaded.keys() == ours.keys()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in ours.items()), source


def test_a_file_of_another_model_says_which(build, tmp_path):
    torch.save(build("tiny").encoder.state_dict(), tmp_path / "tiny.pth")
    with pytest.raises(DadkitError, match="It looks like DINOv2 tiny: use dinov2/tiny"):
        DINOv2("mini", weights=tmp_path / "tiny.pth")
    names = ["pretrained.cls_token", "pretrained.blocks.0.norm1.bias", "depth_head.scratch.layer1_rn.weight"]
    torch.save({name: torch.zeros(1) for name in names}, tmp_path / "da.pth")
    with pytest.raises(DadkitError, match="Its names are those of Depth Anything, as its authors publish it: use dav2"):
        DINOv2("mini", weights=tmp_path / "da.pth")
    with pytest.raises(DadkitError, match=r"dinov2/mini: no weight file at"):
        DINOv2("mini", weights=tmp_path / "nowhere.pth")


def test_frozen_at_any_size(build):
    encoder = build("mini").train()
    x = images(143, 179, 2).requires_grad_()
    tokens = encoder(x)["tokens"]
    assert tokens.shape == (2, 10 * 13, 48)
    assert encoder.spec.features == {"tokens": 48}
    assert not tokens.requires_grad
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert (encoder(x[1:])["tokens"] - tokens[1:]).abs().max() < 2e-5 * tokens.abs().max()


def test_declared_metadata_is_true():
    found = {}
    dadkit_dinov2.register_encoders(lambda name, target, **metadata: found.update({name: metadata}))
    assert found.keys() == SIZES.keys()
    for name, metadata in found.items():
        with torch.device("meta"):
            spec = DINOv2(name).spec
        assert (metadata["license"], metadata["size_multiple"]) == (spec.license, spec.size_multiple) == ("Apache-2.0", 14)
        assert metadata["arguments"] == {"size": name}


def test_options():
    assert Options().model_dump() == {"weights": None, "pos_embed": "official"}
    assert Options(weights="none").weights is ReleasedOptions(weights="none").weights is None
    with pytest.raises(ValidationError, match="an encoder needs weights: give a file, a folder or hf://ORG/NAME, or `none`"):
        ReleasedOptions()


def test_by_name():
    encoder = dadkit.load_encoder("dinov2/tiny", pos_embed="hf")
    assert isinstance(encoder, FeatureEncoder)
    with pytest.raises(DadkitError, match="'dinov2/small' is a feature encoder, not a teacher; `dadkit teachers`"):
        dadkit.load_teacher("dinov2/small", weights="none")
