"""What happens with files that do not fit, and with files that fit in part."""

from __future__ import annotations

import json

import pytest
import torch
from dadkit_dav2.keys import to_model
from dadkit_dav2.model import DepthAnything
from safetensors.torch import save_file

from dadkit.errors import DadkitError


@pytest.fixture
def save(tmp_path):
    def write(state: object, name: str = "weights.pth"):
        torch.save(state, tmp_path / name)
        return tmp_path / name

    return write


def test_init_encoder_leaves_the_head_random(build, save):
    source = build("mini")
    path = save(source.state_dict())
    torch.manual_seed(5)
    model = DepthAnything("mini", weights=path, init="encoder")
    torch.manual_seed(5)
    fresh = DepthAnything("mini")
    for name, tensor in model.state_dict().items():
        expected = source if name.startswith("pretrained.") else fresh
        assert torch.equal(tensor, expected.state_dict()[name]), name


def test_init_encoder_takes_a_file_without_a_head(build, save):
    source = build("mini")
    path = save({k: v for k, v in source.state_dict().items() if k.startswith("pretrained.")})
    model = DepthAnything("mini", weights=path, init="encoder")
    assert torch.equal(model.pretrained.pos_embed, source.pretrained.pos_embed)
    with pytest.raises(DadkitError, match="missing: depth_head"):
        DepthAnything("mini", weights=path)


def test_half_precision_files_load_into_float32(build, save):
    source = build("mini")
    model = DepthAnything("mini", weights=save({k: v.half() for k, v in source.state_dict().items()}))
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert torch.allclose(model.pretrained.pos_embed, source.pretrained.pos_embed, atol=1e-3)


@pytest.mark.parametrize("init", ["all", "encoder"])
def test_wrong_size_says_which_size_it_is(build, save, init):
    with pytest.raises(DadkitError) as error:
        DepthAnything("mini", weights=save(build("tiny").state_dict()), init=init)
    message = str(error.value)
    assert "looks like Depth Anything tiny: use dav2/tiny" in message
    assert "pretrained.cls_token (file (1, 1, 128), model (1, 1, 48))" in message
    assert "unexpected: pretrained.blocks.4." in message
    assert error.value.exit_code == 2


def test_another_head_is_said_to_be_one(build, save):
    state = build("mini").state_dict()
    state["depth_head.projects.0.weight"] = torch.zeros(7, 48, 1, 1)
    with pytest.raises(DadkitError, match=r"1 of another shape: depth_head\.projects\.0\.weight[^\0]*another head"):
        DepthAnything("mini", weights=save(state))


def test_a_foreign_file_is_said_to_be_one(save):
    with pytest.raises(DadkitError) as error:
        DepthAnything("mini", weights=save({"conv.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}))
    message = str(error.value)
    assert "2 unexpected: conv.weight, fc.bias" in message
    assert "does not look like Depth Anything" in message


def test_missing_and_unexpected_names_are_listed_and_nothing_is_loaded(build, save):
    source = build("mini")
    state = source.state_dict()
    del state["pretrained.norm.bias"]
    state["depth_head.readout_projects.0.0.weight"] = torch.zeros(1)
    with pytest.raises(DadkitError) as error:
        DepthAnything("mini", weights=save(state))
    assert "1 missing: pretrained.norm.bias" in str(error.value)
    assert "1 unexpected: depth_head.readout_projects.0.0.weight" in str(error.value)


def test_a_missing_part_of_a_joined_parameter_is_reported_by_its_own_name(transformers_model, build, save):
    state = transformers_model("mini", build("mini")).state_dict()
    gone = next(name for name in state if "layer.2" in name and ("key.bias" in name or "k_proj.bias" in name))
    del state[gone]
    with pytest.raises(DadkitError) as error:
        DepthAnything("mini", weights=save(state))
    assert "missing: pretrained.blocks.2.attn.qkv.bias" in str(error.value)
    assert "unexpected: backbone.encoder.layer.2.attention" in str(error.value)


def test_two_tensors_for_one_place(build):
    state = build("mini").state_dict()
    with pytest.raises(DadkitError, match=r"twice, as 'pretrained.norm.bias' and as 'backbone.layernorm.bias'"):
        to_model({**state, "backbone.layernorm.bias": state["pretrained.norm.bias"]})


def test_no_such_file(tmp_path):
    with pytest.raises(DadkitError, match=r"no weight file at .*nowhere\.pth; give the path"):
        DepthAnything("mini", weights=tmp_path / "nowhere.pth")


def test_init_dinov2_takes_the_encoder_alone(build, tmp_path):
    source = build("mini")
    encoder = source.pretrained.state_dict()
    torch.save({**encoder, "mask_token": torch.zeros(1, 48)}, tmp_path / "dinov2.pth")
    torch.manual_seed(5)
    model = DepthAnything("mini", weights=tmp_path / "dinov2.pth", init="dinov2")
    torch.manual_seed(5)
    fresh = DepthAnything("mini")
    assert all(torch.equal(tensor, encoder[name]) for name, tensor in model.pretrained.state_dict().items())
    assert all(
        torch.equal(tensor, fresh.depth_head.state_dict()[name]) for name, tensor in model.depth_head.state_dict().items()
    )
    assert not model.head_is_trained
    assert model.spec.license == "Apache-2.0"


def test_init_dinov2_in_hugging_faces_layout(build, transformers_model, tmp_path):
    source = build("mini")
    theirs = transformers_model("mini", source)
    torch.save(
        {name.removeprefix("backbone."): t for name, t in theirs.state_dict().items() if name.startswith("backbone.")},
        tmp_path / "dinov2.pth",
    )
    model = DepthAnything("mini", weights=tmp_path / "dinov2.pth", init="dinov2")
    assert torch.equal(model.pretrained.blocks[2].attn.qkv.weight, source.pretrained.blocks[2].attn.qkv.weight)


def test_init_says_what_the_file_is(build, save):
    whole = save(build("mini").state_dict())
    with pytest.raises(DadkitError, match="looks like Depth Anything, not DINOv2: say init: encoder"):
        DepthAnything("mini", weights=whole, init="dinov2")
    alone = save(build("tiny").pretrained.state_dict(), "dinov2.pth")
    with pytest.raises(DadkitError, match="It looks like DINOv2 tiny"):
        DepthAnything("mini", weights=alone, init="dinov2")
    with pytest.raises(DadkitError, match=r"Its names are those of DINOv2: .* or init: dinov2 with dav2"):
        DepthAnything("tiny", weights=alone, init="encoder")
    registers = save({**build("mini").pretrained.state_dict(), "register_tokens": torch.zeros(1, 4, 48)}, "reg.pth")
    with pytest.raises(DadkitError, match="DINOv2 with registers"):
        DepthAnything("mini", weights=registers, init="dinov2")


def test_a_student_of_our_own_is_a_file_like_any_other(build, save):
    source = build("tiny", max_depth=20.0)
    model = DepthAnything("tiny", weights=save(source.state_dict()), max_depth=20.0)
    assert model.head_is_trained
    assert torch.equal(model.depth_head.projects[0].weight, source.depth_head.projects[0].weight)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("depth_anything_vits14.pth", {}, "by the name depth_anything_vits14.pth, it is V1: write version: v1"),
        ("depth_anything_v2_vits.pth", {"version": "v1"}, "it is V2: write version: v2"),
        (
            "depth_anything_v2_metric_hypersim_vits.pth",
            {},
            "it answers in metres: use dav2/mini-metric with max_depth: 20",
        ),
        ("depth_anything_v2_metric_vkitti_vits.pth", {"max_depth": 20.0}, "made with max_depth: 80, not 20"),
        ("depth_anything_v2_vits.pth", {"max_depth": 20.0}, "its answers are relative, not metres: use dav2/mini, or"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*the released file of that name")
def test_what_the_authors_names_say_is_heeded(build, save, name, options, message):
    path = save(build("mini").state_dict(), name)
    with pytest.raises(DadkitError, match=message):
        DepthAnything("mini", weights=path, **options)
    DepthAnything("mini", weights=path, init="encoder", **options)  # of the encoder alone all are alike


@pytest.mark.parametrize(
    ("made", "asked", "message"),
    [
        ({"version": "v1"}, {}, "by its config.json, it is V1: write version: v1"),
        ({}, {"version": "v1"}, "it is V2"),
        ({"max_depth": 80}, {}, "it answers in metres: use dav2/tiny-metric with max_depth: 80"),
        ({"max_depth": 80}, {"max_depth": 20.0}, "made with max_depth: 80, not 20"),
        ({}, {"max_depth": 20.0}, "its answers are relative"),
    ],
)
def test_what_a_folders_config_says_is_heeded(build, transformers_model, tmp_path, made, asked, message):
    source = build("tiny")
    transformers_model("tiny", source, **made).save_pretrained(tmp_path)
    with pytest.raises(DadkitError, match=message):
        DepthAnything("tiny", weights=tmp_path, **asked)
    right = {key: float(value) if key == "max_depth" else value for key, value in made.items()}
    assert DepthAnything("tiny", weights=tmp_path, **right).head_is_trained


def test_a_frozen_teacher_saved_by_hand_loads_again(build, save):
    from dadkit.interfaces import FrozenTeacher

    teacher = FrozenTeacher(build("mini"))
    loaded = DepthAnything("mini", weights=save(teacher.state_dict()))
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in teacher.model.state_dict().items())


def test_what_training_saved_beside_the_tensors_says_relative_or_metric(build, save, tmp_path):
    trained = {"model": build("mini", max_depth=10.0).state_dict(), "epoch": 3, "previous_best": {"d1": 0.5}}
    with pytest.raises(DadkitError, match=r"metrics in metres .* use dav2/mini-metric with max_depth: that of its training"):
        DepthAnything("mini", weights=save(trained))
    DepthAnything("mini", weights=save(trained), max_depth=10.0)

    card = {"component": "dav2/mini", "options": {}, "space": "disparity"}
    save_file(build("mini").state_dict(), tmp_path / "model.safetensors", metadata={"dadkit": json.dumps(card)})
    with pytest.raises(DadkitError, match=r"by its own metadata, its answers are relative, not metres"):
        DepthAnything("mini", weights=tmp_path / "model.safetensors", max_depth=10.0)
    DepthAnything("mini", weights=tmp_path / "model.safetensors", max_depth=10.0, init="encoder")
