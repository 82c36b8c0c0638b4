"""Feature encoders: frozen, without a graph, at a legal size, normalised."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from dadkit.interfaces import FeatureEncoder, ModelSpec, NetworkSpec, Space


class Eyes(FeatureEncoder):
    """Mean colours of 4-pixel cells, through a layer with dropout; remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = NetworkSpec("eyes", size_multiple=4, mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.125), features={"tokens": 5})
        self.net = nn.Sequential(nn.Conv2d(3, 5, 4, stride=4), nn.Dropout(0.5))

    def encode(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        self.seen = x
        return {"tokens": self.net(x).flatten(2).transpose(1, 2)}


def test_it_never_trains_and_builds_no_graph() -> None:
    encoder = Eyes().train()
    images = torch.rand(2, 3, 8, 12, requires_grad=True)
    tokens = encoder(images)["tokens"]
    assert tokens.shape == (2, 6, 5)
    assert not tokens.requires_grad
    assert not encoder.training
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert torch.equal(tokens, encoder(images)["tokens"])  # no dropout


def test_it_is_frozen_even_if_somebody_thaws_it() -> None:
    encoder = Eyes()
    for parameter in encoder.parameters():
        parameter.requires_grad_(True)
    assert not encoder(torch.rand(1, 3, 4, 4))["tokens"].requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_it_normalises_and_takes_the_nearest_legal_size() -> None:
    encoder = Eyes()
    encoder(torch.ones(1, 3, 9, 15))
    assert encoder.seen.shape == (1, 3, 8, 16)
    torch.testing.assert_close(encoder.seen[0, :, 3, 3], torch.tensor([1.0, 2.0, 4.0]))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 8, 8), r"eyes: images must be \(B, 3, H, W\), got \(3, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "eyes: images must be floating point .* divide uint8 by 255"),
    ],
)
def test_it_refuses_what_is_no_batch_of_images(images: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Eyes()(images)


def test_it_can_be_copied_and_pickled() -> None:
    encoder = Eyes()
    images = torch.rand(1, 3, 8, 8)
    wanted = encoder(images)["tokens"]
    assert torch.equal(copy.deepcopy(encoder)(images)["tokens"], wanted)
    assert pickle.loads(pickle.dumps(encoder.spec)) == encoder.spec


def test_a_depth_models_spec_says_more() -> None:
    spec = ModelSpec("model", Space.METRIC, size_multiple=14, license="MIT")
    assert isinstance(spec, NetworkSpec)
    assert (spec.name, spec.space, spec.size_multiple, spec.license) == ("model", "metric", 14, "MIT")
    with pytest.raises(TypeError):
        NetworkSpec("encoder", Space.DEPTH)  # type: ignore[misc]
