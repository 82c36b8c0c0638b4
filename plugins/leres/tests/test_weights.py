"""Names of released files onto ours, and what happens with files that do not fit."""

from __future__ import annotations

import pytest
import torch
from dadkit_leres import LICENSE
from dadkit_leres.keys import looks_like, to_model
from dadkit_leres.model import LeReS
from dadkit_leres.network import ENCODERS

from dadkit.errors import DadkitError

BLOCKS = {"resnet50": (3, 4, 6, 3), "resnext101": (3, 4, 23, 3)}
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def official_names(encoder: str) -> set[str]:
    """Names of a released state dict, read off the official code."""
    root = "depth_model.encoder_modules.encoder"
    names = {f"{root}.conv1.weight", *(f"{root}.bn1.{leaf}" for leaf in NORM)}
    for layer, count in enumerate(BLOCKS[encoder], start=1):
        for block in range(count):
            name = f"{root}.layer{layer}.{block}"
            names |= {f"{name}.conv{i}.weight" for i in (1, 2, 3)}
            names |= {f"{name}.bn{i}.{leaf}" for i in (1, 2, 3) for leaf in NORM}
            if block == 0:
                names |= {f"{name}.downsample.0.weight", *(f"{name}.downsample.1.{leaf}" for leaf in NORM)}
    root = "depth_model.decoder_modules"
    for ftb in ("conv", *(f"ffm{i}.ftb{j}" for i in (0, 1, 2) for j in (1, 2))):
        convs = ("conv1", "conv_branch.1", "conv_branch.4")
        names |= {f"{root}.{ftb}.{conv}.{leaf}" for conv in convs for leaf in ("weight", "bias")}
        names |= {f"{root}.{ftb}.conv_branch.2.{leaf}" for leaf in NORM}
    convs = ("conv1", "outconv.adapt_conv.0", "outconv.adapt_conv.3")
    names |= {f"{root}.{conv}.{leaf}" for conv in convs for leaf in ("weight", "bias")}
    return names | {f"{root}.outconv.adapt_conv.1.{leaf}" for leaf in NORM}


@pytest.fixture
def save(tmp_path):
    def write(state: object, name: str = "weights.pth"):
        torch.save(state, tmp_path / name)
        return tmp_path / name

    return write


@pytest.mark.parametrize("encoder", ENCODERS)
def test_official_names_are_a_bijection(encoder):
    with torch.device("meta"):
        own = LeReS(encoder).state_dict()
    names = official_names(encoder)
    state = to_model({name: torch.empty(1, device="meta") for name in names})
    assert len(state) == len(names)
    assert state.keys() == own.keys()
    assert looks_like(own) == encoder


def test_every_layout_gives_the_same_model(build, official, save):
    model = build("mini")
    state = official(model)
    bare = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    training = {**state, "module.depth_model.auxi_modules.conv.weight": torch.zeros(1), "module.losses.x": torch.zeros(1)}
    files = {
        "released.pth": {"depth_model": state, "shift_model": {"module.a": torch.zeros(1)}, "focal_model": {}},
        "bare.pth": bare,
        "short.pth": {name.removeprefix("depth_model."): tensor for name, tensor in bare.items()},
        "training.pth": {"step": 3, "model_state_dict": training, "optimizer": {}},
        "student.pth": model.state_dict(),
    }
    for name, content in files.items():
        loaded = LeReS("mini", weights=save(content, name))
        assert loaded.head_is_trained
        assert all(torch.equal(loaded.state_dict()[key], tensor) for key, tensor in model.state_dict().items()), name
        assert loaded.spec.license == (LICENSE if name != "student.pth" else "unknown (not an official LeReS file)")


def test_batch_counters_may_be_missing(build, official, save):
    state = {name: tensor for name, tensor in official(build("mini")).items() if "num_batches" not in name}
    assert LeReS("mini", weights=save({"depth_model": state})).head_is_trained


def test_an_imagenet_file_fills_the_encoder(build, save):
    source = build("mini")
    state = {**source.encoder.state_dict(), "fc.weight": torch.zeros(10, 2048), "fc.bias": torch.zeros(10)}
    path = save(state)
    torch.manual_seed(5)
    model = LeReS("mini", weights=path, init="encoder")
    torch.manual_seed(5)
    fresh = LeReS("mini")
    assert all(torch.equal(model.encoder.state_dict()[k], v) for k, v in source.encoder.state_dict().items())
    assert all(torch.equal(model.decoder.state_dict()[k], v) for k, v in fresh.decoder.state_dict().items())
    assert not model.head_is_trained
    assert model.spec.license != LICENSE
    with pytest.raises(DadkitError, match="no depth decoder: take it with init: encoder"):
        LeReS("mini", weights=path)


def test_another_encoder_is_said_to_be_one(build, official, save):
    path = save({"depth_model": official(build("mini-next"))})
    with pytest.raises(DadkitError, match=r"It has the encoder of leres/mini-next: use that") as error:
        LeReS("mini", weights=path)
    assert error.value.exit_code == 2


def test_missing_and_foreign_names_are_errors(build, official, save):
    state = official(build("mini"))
    del state["module.depth_model.decoder_modules.ffm1.ftb2.conv_branch.4.bias"]
    with pytest.raises(DadkitError, match=r"1 missing: decoder\.ffm1\.ftb2\.conv_branch\.4\.bias"):
        LeReS("mini", weights=save({"depth_model": state}))
    with pytest.raises(DadkitError, match=r"1 unexpected: head\.weight[^\0]*does not look like LeReS"):
        LeReS("mini", weights=save({"head.weight": torch.zeros(1)}))
    with pytest.raises(DadkitError, match=r"leres/mini: .*no weight file at"):
        LeReS("mini", weights="nowhere.pth")
