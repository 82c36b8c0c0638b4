"""The models that come with their weights."""

from __future__ import annotations

from pathlib import Path

import dadkit_starter.model
import pytest
import torch
from dadkit_starter.options import StudentOptions, TeacherOptions

import dadkit
from dadkit.data import ProceduralScenes

torch.set_num_threads(1)

NAMES = ["small", "tiny"]
FILES = Path(dadkit_starter.model.__file__).parent


@pytest.mark.parametrize("name", NAMES)
def test_it_knows_depth(name):
    """Order of depths on rendered scenes of another split than it was trained on: far from what random weights answer."""
    model = dadkit.load_teacher(f"starter/{name}")
    agreement = []
    for sample in (ProceduralScenes(count=6, size=(192, 256), split="test", styles=["room", "street"])[i] for i in range(6)):
        disparity = (1 / sample.depth).flatten()
        answer = model.predict(sample.image.float() / 255).depth.flatten()
        ranks = torch.stack([disparity.argsort().argsort(), answer.argsort().argsort()]).double()
        agreement.append(torch.corrcoef(ranks)[0, 1].item())
    assert min(agreement) > 0.5
    assert sum(agreement) / len(agreement) > 0.8


@pytest.mark.parametrize("name", NAMES)
def test_sizes(name):
    file = FILES / f"{name}.safetensors"
    assert file.stat().st_size < 12e6
    model = dadkit.load_teacher(f"starter/{name}")
    count = sum(p.numel() for p in model.parameters())
    assert count < {"small": 5e6, "tiny": 1e6}[name]
    assert f"{count / 1e6:.1f} M parameters" in dadkit_starter._SUMMARIES[name]


def test_weights_are_included_or_not():
    included = dadkit.load_student("starter/tiny")
    assert included.head_is_trained
    assert included.spec.license == "CC-BY-NC-4.0"
    random = dadkit.load_student("starter/tiny", weights="none")
    assert not random.head_is_trained
    assert random.spec.license == "Apache-2.0"
    part = dadkit.load_student("starter/tiny", init="encoder")
    assert not part.head_is_trained
    assert torch.equal(part.encoder.conv_stem.weight, included.encoder.conv_stem.weight)
    assert StudentOptions(weights="none").weights is None
    assert TeacherOptions().weights == "included"
