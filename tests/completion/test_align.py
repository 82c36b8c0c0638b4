"""`align` with the opinion of a second model."""

import pytest
import torch

from dadkit.completion.align import Align
from dadkit.data.patterns import generator_for, simulate
from dadkit.interfaces import DepthModel, Hints, Prediction
from dadkit.loading import load_model
from dadkit.spaces import Space

SIZE = (64, 96)
ROWS, COLUMNS = torch.meshgrid(torch.linspace(0, 1, SIZE[0]), torch.linspace(0, 1, SIZE[1]), indexing="ij")
IMAGE = torch.stack((1 - ROWS, ROWS, COLUMNS))[None]
OWN = {"native_size": 64}


@pytest.fixture(scope="module")
def disparity():
    """What the second model says of the picture."""
    return load_model("starter/tiny", **OWN).predict(list(IMAGE)).depth


def scene(disparity, count=60):
    """Points of a scene that the second model knows up to scale and shift."""
    depth = 10 / (1 + 3 * (disparity - disparity.min()) / (disparity.max() - disparity.min()))[0, 0]
    drawn = generator_for(0, count)
    return simulate(depth, depth > 0, IMAGE[0], pattern="uniform", points=count, generator=drawn, noise=0.01), depth


def test_the_opinion_that_fits_the_points_better_counts_more(disparity):
    hints, truth = scene(disparity)
    noise = Prediction(disparity + disparity.std() * torch.randn(disparity.shape, generator=generator_for(1)), Space.DISPARITY)
    alone = Align("none").complete(IMAGE, hints, noise).depth
    both = Align("none", second="starter/tiny", second_options=OWN).complete(IMAGE, hints, noise).depth
    error, wrong = ((map_ / truth).log().abs().mean() for map_ in (both, alone))
    assert error < wrong / 10
    good = Prediction(disparity, Space.DISPARITY)
    same = Align(second="starter/tiny", second_options=OWN).complete(IMAGE, hints, good)
    assert torch.allclose(same.depth, Align().complete(IMAGE, hints, good).depth, rtol=1e-3)
    assert torch.equal(same.features["used"], Align().complete(IMAGE, hints, good).features["used"])


@pytest.mark.parametrize("count", [1, 7, 60])
def test_it_follows_the_unit_keeps_points_and_works_at_another_size(disparity, count):
    hints, _ = scene(disparity, count)
    relative = Prediction(disparity + 0.1 * COLUMNS, Space.DISPARITY)
    model = Align("kriging", keep="exact", second="starter/tiny", second_options={"native_size": 32})
    depth = model.complete(IMAGE, hints, relative).depth
    more = model.complete(IMAGE, Hints(hints.depth * 10, hints.valid), relative).depth
    assert torch.allclose(more, 10 * depth, rtol=1e-3)
    assert torch.equal(depth[hints.valid], hints.depth[hints.valid])
    assert bool(depth.isfinite().all())
    assert not model.param_groups()
    assert model.spec.license == "CC-BY-NC-4.0"


def test_a_second_model_that_needs_a_camera_is_refused(monkeypatch):
    monkeypatch.setattr(DepthModel, "needs_camera", property(lambda self: True))
    with pytest.raises(ValueError, match="needs the picture's camera"):
        Align(second="starter/tiny")
