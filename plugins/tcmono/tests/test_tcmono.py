"""The official file's layout, and what the network answers."""

from __future__ import annotations

import pytest
import torch
from dadkit_tcmono.model import TCSmallNet

from dadkit.weights import WeightsError

torch.set_num_threads(1)


def images(height=64, width=96):
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def official(model):
    """A state dict as the official file has it: each block under two names, and two more heads."""
    state = dict(model.state_dict())
    for name in list(state):
        if name.startswith("encoder.features."):
            index, rest = name.removeprefix("encoder.features.").split(".", 1)
            stage = 1 + (int(index) >= 4) + (int(index) >= 12)
            state[f"encoder.stage{stage}.{int(index) - (0, 4, 12)[stage - 1]}.{rest}"] = state[name]
    for head, channels in (("final2", 48), ("final3", 96)):
        state |= {f"decoder.{head}.0.weight": torch.zeros(1, channels, 3, 3), f"decoder.{head}.0.bias": torch.zeros(1)}
    return state


def test_the_official_layout(tmp_path):
    torch.manual_seed(0)
    model = TCSmallNet()
    state = official(model)
    assert len(state) == 714  # what the released file holds
    torch.save(state, tmp_path / "_ckpt_small.pt.tar")
    same = TCSmallNet(weights=tmp_path / "_ckpt_small.pt.tar")
    assert same.head_is_trained
    assert same.spec.license == "MIT"
    assert torch.equal(same.eval()(images()).depth, model.eval()(images()).depth)
    encoder = TCSmallNet(weights=tmp_path / "_ckpt_small.pt.tar", init="encoder")
    assert torch.equal(encoder.encoder.first_conv[0].weight, model.encoder.first_conv[0].weight)
    assert not encoder.head_is_trained


def test_another_file_is_refused(tmp_path):
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="do not fit TCSmallNet"):
        TCSmallNet(weights=tmp_path / "other.pth")


def test_size_and_shapes():
    torch.manual_seed(0)
    model = TCSmallNet()
    assert sum(p.numel() for p in model.parameters()) == 184_765
    assert [tuple(x.shape[1:]) for x in model.encoder(images())] == [(24, 32, 48), (48, 16, 24), (96, 8, 12), (192, 4, 6)]
    assert model(images(50, 70)).depth.shape == (2, 1, 50, 70)
    assert model(images()).depth.min() > 0


def test_blocks_keep_the_even_channels_as_they_are():
    """ShuffleNetV2's shuffle: half of the channels, every second one, pass untouched and come first."""
    torch.manual_seed(0)
    block = TCSmallNet().encoder.features[1].eval()
    x = torch.rand(1, 48, 4, 4)
    assert torch.equal(block(x)[:, :24], x[:, ::2])
