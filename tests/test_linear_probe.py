"""The linear probe on generated label maps."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

import dadkit

PROBE = Path(__file__).parents[1] / "benchmarks" / "linear_probe.py"


@pytest.fixture(scope="module")
def probe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("linear_probe", PROBE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_label_maps_depend_on_the_seed(probe):
    images, labels = probe.label_maps("train", 3, 64)
    assert images.shape == (3, 3, 64, 64)
    assert set(labels.unique().tolist()) <= {0, 1, 2, 3}
    assert len(labels.unique()) > 1
    assert not torch.equal(labels, probe.label_maps("train", 3, 64, seed=1)[1])


def test_features_that_hold_the_labels_are_found_out(probe):
    """One-hot labels as features give the upper bound, noise hardly more than the commonest class."""
    labels = torch.randint(0, 4, (8, 8, 8), generator=torch.Generator().manual_seed(0))
    told = torch.nn.functional.one_hot(labels, 4).permute(0, 3, 1, 2).float()
    assert probe.probe((told, labels), (told, labels), steps=200) > 0.99
    noise = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    assert probe.probe((noise, labels), (noise, labels), steps=200) < 0.4


def test_shuffling_keeps_the_values_and_leaves_the_model_alone(probe):
    model = dadkit.load_model("midas/tiny")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = probe.shuffled(model, 0)
    for name, parameter in other.named_parameters():
        assert torch.equal(parameter.flatten().sort().values, before[name].flatten().sort().values)
    assert any(not torch.equal(parameter, before[name]) for name, parameter in other.named_parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_it_prints_every_row_with_its_interval(probe, capsys):
    found = probe.main(["midas/tiny", "--scenes", "6", "--size", "64", "--steps", "10", "--seeds", "2"])
    assert set(found) == {"model", "untrained", "shuffled", "pixels"}
    assert all(0 < value < 1 for values in found.values() for value in values)
    assert all(len(values) == 2 for values in found.values())
    shown = capsys.readouterr().out
    assert shown.count("mIoU") == 4
    assert shown.count("model is better by") == 3
