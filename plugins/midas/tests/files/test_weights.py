"""Official files through the front door, files that fit in part, and files that do not fit."""

from __future__ import annotations

import pytest
import timm
import torch
from dadkit_midas.model import Midas
from dadkit_midas.sizes import SIZES

from dadkit.errors import DadkitError


@pytest.fixture
def save(tmp_path):
    def write(state: object, name: str = "weights.pt"):
        torch.save(state, tmp_path / name)
        return tmp_path / name

    return write


def same(model, source):
    return all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_official_files(mini, build, sizes, official_file, save):
    source = build(mini)
    official = official_file(sizes[mini], source)
    model = Midas(mini, weights=save(official))
    assert same(model, source)
    assert model.head_is_trained
    # As the training code of MiDaS saved them, and without what some files leave out.
    lean = {k: v for k, v in official.items() if not k.endswith(("num_batches_tracked", "_index", "_mask", "_idxs"))}
    assert same(Midas(mini, weights=save({"model": lean, "optimizer": {}})), source)


def test_files_of_trained_students(mini, build, save):
    source = build(mini)
    assert same(Midas(mini, weights=save(source.state_dict())), source)


@pytest.mark.parametrize("name", ["mini-vit", "mini-beit", "mini-swin2", "tiny-conv"])
def test_init_encoder_leaves_the_decoder_random(name, build, sizes, official_file, save):
    source = build(name)
    path = save(official_file(sizes[name], source))
    torch.manual_seed(5)
    model = Midas(name, weights=path, init="encoder")
    torch.manual_seed(5)
    fresh = Midas(name)
    assert not model.head_is_trained
    for key, tensor in model.state_dict().items():
        expected = source if key.startswith("backbone.") else fresh
        assert torch.equal(tensor, expected.state_dict()[key]), key


def test_init_encoder_takes_timms_file_of_the_backbone(save):
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    path = save(whole.state_dict())
    model = Midas("tiny-conv", weights=path, init="encoder")
    assert same(model.backbone, whole)
    assert model.spec.license == "unknown"
    assert (model.spec.mean[0], Midas("tiny-conv", statistics="halves").spec.mean) == (0.485, (0.5, 0.5, 0.5))
    with pytest.raises(DadkitError, match="It holds the backbone alone: a student takes it with init: encoder"):
        Midas("tiny-conv", weights=path)


@pytest.mark.parametrize(
    ("name", "timms"),
    [
        ("dpt-large-384", "vit_large_patch16_384"),
        ("dpt-beit-base-384", "beit_base_patch16_384"),
        ("dpt-beit-large-512", "beit_large_patch16_512"),
        ("dpt-swin2-tiny-256", "swinv2_tiny_window16_256"),
        ("dpt-swin2-base-384", "swinv2_base_window12to24_192to384"),
        ("v21-small-256", "tf_efficientnet_lite3"),
        ("dpt-hybrid-384", "vit_base_r50_s16_384"),
        ("dpt-swin-large-384", "swin_large_patch4_window12_384"),
        ("v21-384", "resnext101_32x8d"),
    ],
)
def test_timms_backbones_have_our_names(name, timms):
    from dadkit_midas.keys import layout, to_model

    with torch.device("meta"):
        file = timm.create_model(timms, pretrained=False).state_dict()
        ours = Midas(name).backbone.state_dict()
    assert layout(file) == "backbone"
    mapped = to_model(file, SIZES[name])
    assert {key: t.shape for key, t in mapped.items()} == {f"backbone.{key}": t.shape for key, t in ours.items()}


def test_half_precision_files_load_into_float32(build, save):
    source = build("mini-vit")
    model = Midas("mini-vit", weights=save({k: v.half() for k, v in source.state_dict().items()}))
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_wrong_model_says_which_model_it_is(build, sizes, official_file, save):
    with pytest.raises(DadkitError) as error:
        Midas("mini-vit", weights=save(official_file(sizes["mini-beit"], build("mini-beit"))))
    message = str(error.value)
    assert "use midas/mini-beit" in message
    assert "missing: backbone.pos_embed" in message
    assert error.value.exit_code == 2


def test_a_foreign_file_is_said_to_be_one(save):
    with pytest.raises(DadkitError) as error:
        Midas("tiny", weights=save({"conv.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}))
    assert "does not look like a MiDaS model" in str(error.value)
    names = ["pretrained.blocks.0.norm1.weight", "depth_head.scratch.layer1_rn.weight"]
    path = save({name: torch.zeros(1) for name in names})
    with pytest.raises(DadkitError, match="Depth Anything"):
        Midas("tiny", weights=path)


def test_missing_and_unexpected_names_are_listed(build, sizes, official_file, save):
    state = official_file(sizes["mini-vit"], build("mini-vit"))
    del state["pretrained.act_postprocess2.3.bias"]
    state["pretrained.act_postprocess2.9.bias"] = torch.zeros(1)
    with pytest.raises(DadkitError) as error:
        Midas("mini-vit", weights=save(state))
    assert "1 missing: reassemble.1.project.bias" in str(error.value)
    assert "1 unexpected: pretrained.act_postprocess2.9.bias" in str(error.value)
    assert "It has the backbone of midas/mini-vit, but something else differs" in str(error.value)


def test_licence_is_that_of_the_weights(build, save):
    assert Midas("mini-vit", weights=save(build("mini-vit").state_dict())).spec.license == "MIT"
    assert Midas("mini-vit").spec.license == "Apache-2.0"  # random weights are nobody's
