"""Students with timm's encoders: shapes, statistics, weights."""

from __future__ import annotations

import sys

import dadkit_timm
import pytest
import timm
import torch
from dadkit_timm import pretrained
from dadkit_timm.model import EncoderError, TimmStudent
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from dadkit.spaces import Space
from dadkit.weights import WeightsError

torch.set_num_threads(1)

SMALL = "mobilenetv4_conv_small_050"
LITE = "tf_efficientnet_lite0"


def images(count=2, height=64, width=96):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def build(encoder=SMALL, **options):
    torch.manual_seed(0)
    return TimmStudent(encoder, **{"channels": 8, "decoder": "light", **options})


@pytest.mark.parametrize("encoder", [SMALL, "efficientvit_b0", "edgenext_xx_small"])
def test_maps_are_timms_own(encoder):
    """The encoder, cut and in eval mode, gives what timm's own feature extraction gives from the same weights."""
    torch.manual_seed(0)
    reference = timm.create_model(encoder, features_only=True).eval()
    model = build(encoder).eval()
    whole = timm.create_model(encoder)
    torch.manual_seed(1)
    for tensor in whole.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.01, 0.05)
    own = model.encoder.state_dict()
    model.encoder.load_state_dict({name: tensor for name, tensor in whole.state_dict().items() if name in own})
    renamed = {name.replace("stages.", "stages_").replace("stem.", "stem_"): t for name, t in whole.state_dict().items()}
    target = reference.state_dict()
    found = {name: t for names in (whole.state_dict(), renamed) for name, t in names.items() if name in target}
    assert found.keys() == target.keys()
    reference.load_state_dict(found)
    with torch.no_grad():
        expected = reference(model.normalized(images()))
        maps = model.encoder.forward_intermediates(model.normalized(images()), indices=model._taps, intermediates_only=True)
    for one, other in zip(maps, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("encoder", [SMALL, "repvit_m0_9"])
def test_answers(encoder):
    model = build(encoder)
    assert model(images(1, 70, 100)).depth.shape == (1, 1, 70, 100)
    raw, taps = model.estimate(model.normalized(images()))
    assert raw.shape == (2, 1, 32, 48)
    assert taps["tokens"].shape[1] == model.spec.features["tokens"]
    assert raw.min() > 0.5


def test_fused_is_the_same_function():
    model = build("repvit_m0_9").train()
    model(images(2, 96, 96))  # statistics of the batch norms
    fused = model.fuse()
    assert sum(1 for _ in fused.parameters()) < 0.7 * sum(1 for _ in model.parameters())
    assert torch.allclose(fused(images()).depth, model.eval()(images()).depth, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(dadkit_timm._PRESETS))
def test_presets_say_what_they_cost(name):
    encoder, summary, licence = dadkit_timm._PRESETS[name]
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        model = TimmStudent(encoder).eval()
        model.estimate(torch.zeros(1, 3, 256, 256))
    count = sum(p.numel() for p in model.parameters())
    assert summary == f"{count / 1e6:.1f} M parameters, {counter.get_total_flops() / 2e9:.1f} G"
    assert licence.lower() == timm.models.get_pretrained_cfg(encoder).license
    assert model.spec.mean == timm.models.get_pretrained_cfg(encoder).mean


@pytest.mark.parametrize("space", list(Space))
def test_gradients_reach_every_parameter(space):
    model = build(space=str(space)).train()
    # The context block starts as the identity: its last convolution is zero and hides what is before it.
    torch.nn.init.normal_(model.decoder.context.out.weight, std=0.1)
    model(images(2, 96, 128)).depth.square().mean().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    encoder, decoder = model.param_groups()
    assert {id(p) for p in encoder["params"]} == {id(p) for p in model.encoder.parameters()}
    assert len(encoder["params"]) + len(decoder["params"]) == len(list(model.parameters()))


def test_statistics_and_licence_are_the_tags(tmp_path):
    save_file(timm.create_model(LITE).state_dict(), tmp_path / "lite.safetensors")
    assert build(LITE).spec.mean == (0.5, 0.5, 0.5)
    assert build("efficientnet_lite0").spec.mean == (0.485, 0.456, 0.406)
    assert build(LITE).spec.license == "Apache-2.0"
    assert build(LITE, pretrained=tmp_path / "lite.safetensors").spec.license == "apache-2.0"


def test_fewer_levels_cut_the_encoder():
    whole, cut = build(LITE), build(LITE, levels=4)
    assert sum(p.numel() for p in cut.encoder.parameters()) < 0.3 * sum(p.numel() for p in whole.encoder.parameters())
    assert cut.spec.features == {"tokens": 112}
    assert cut(images()).depth.shape == (2, 1, 64, 96)


def test_pretrained_from_a_package(tmp_path, monkeypatch):
    """The packages hold timm's tensors in timm's order under other names."""
    state = timm.create_model(LITE).state_dict()
    others = {("_conv_stem.weight" if i == 0 else f"_{i}"): t for i, t in enumerate(state.values())}
    package = tmp_path / "some_model"
    package.mkdir()
    (package / "__init__.py").touch()
    torch.save(others, package / "lite.pth")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(pretrained._PACKAGES, f"{LITE}.in1k", ("some_model", "lite.pth"))
    assert "some_model" not in sys.modules
    model = build(LITE, pretrained=True, levels=4)
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(tensor, state[name])


def test_pretrained_is_nowhere(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"no weights of mobilenetv4_conv_small_050.*hf download timm/.*pretrained: PATH"):
        build(pretrained=True)


def test_pretrained_of_another_model(tmp_path):
    save_file(timm.create_model(LITE).state_dict(), tmp_path / "lite.safetensors")
    with pytest.raises(WeightsError, match="should hold mobilenetv4_conv_small_050"):
        build(pretrained=tmp_path / "lite.safetensors")


def test_a_trained_student_is_loaded_whole_or_in_part(tmp_path):
    model = build(channels=16)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    same = build(channels=16, weights=tmp_path / "model.safetensors")
    assert same.head_is_trained
    assert torch.equal(same.eval()(images()).depth, model.eval()(images()).depth)
    part = build(channels=8, weights=tmp_path / "model.safetensors", init="encoder")
    assert not part.head_is_trained
    with pytest.raises(WeightsError, match="same encoder, decoder, channels and levels"):
        build(channels=8, weights=tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("mobilenetv4_conv_smal", "no model 'mobilenetv4_conv_smal'; near it are"),
        ("vit_tiny_patch16_224", "no maps of several sizes"),
    ],
)
def test_encoders_that_do_not_do(encoder, message):
    with pytest.raises(EncoderError, match=message):
        build(encoder)


def test_too_many_levels():
    with pytest.raises(EncoderError, match=r"has 4 maps, at strides \[4, 8, 16, 32\]; levels: 5 is more"):
        build("repvit_m0_9", levels=5)
