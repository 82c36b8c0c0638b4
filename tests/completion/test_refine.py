"""`refine`: what an untrained network answers, and what its weights can change."""

import pytest
import torch

from dadkit.completion.align import Align
from dadkit.completion.refine import Refine
from dadkit.data.patterns import generator_for, simulate
from dadkit.interfaces import Hints, Prediction
from dadkit.loading import rebuild_options
from dadkit.spaces import Space

SIZE = (96, 128)
ROWS, COLUMNS = torch.meshgrid(torch.linspace(0, 1, SIZE[0]), torch.linspace(0, 1, SIZE[1]), indexing="ij")
DEPTH = 6 - 4 * ROWS + torch.where((COLUMNS > 0.3) & (ROWS < 0.5), -1.5, 0.0)
RELATIVE = Prediction((3 * (1 + 0.3 * torch.sin(3 * COLUMNS + 2 * ROWS)) / DEPTH + 0.8)[None, None], Space.DISPARITY)
IMAGE = torch.stack((1 / DEPTH, ROWS, COLUMNS))[None].clamp(0, 1)


def scene(count=100, pattern="uniform"):
    return simulate(DEPTH, DEPTH > 0, IMAGE[0], pattern=pattern, points=count, generator=generator_for(0, count))


@pytest.mark.parametrize("count", [1, 7, 100])
@pytest.mark.parametrize("keep", ["soft", "exact"])
def test_an_untrained_network_answers_with_the_closed_form(count, keep):
    hints = scene(count)
    assert torch.equal(
        Refine(keep=keep).complete(IMAGE, hints, RELATIVE).depth, Align(keep=keep).complete(IMAGE, hints, RELATIVE).depth
    )


@pytest.mark.parametrize(
    ("encoder", "own"),
    [
        ("topformer/tiny", {}),
        ("timm/mobilenetv4-conv-small-050", {}),
        ("timm/auto", {"encoder": "test_efficientnet", "channels": 8}),  # 0.4 M parameters
    ],
)
def test_an_encoder_looks_at_the_picture_and_learns(encoder, own):
    if encoder.startswith("timm"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    hints = scene()
    model = Refine(width=8, grid=64, encoder=encoder, encoder_options=own).train()
    picture = IMAGE.clone().requires_grad_()
    assert torch.equal(model.complete(IMAGE, hints, RELATIVE).depth, Align().complete(IMAGE, hints, RELATIVE).depth)
    torch.nn.init.normal_(model.network.last[-1].weight)
    model.complete(picture, hints, RELATIVE).depth.log().mean().backward()
    assert float(picture.grad.abs().max()) > 0
    weights = [p for name, p in model.encoder.model.named_parameters() if "decoder" not in name and p.grad is not None]
    assert sum(float(p.grad.abs().sum()) for p in weights) > 0
    options = {"encoder": encoder, "encoder_options": {**own, "weights": "file", "native_size": 64}}
    assert rebuild_options(options) == {"encoder": encoder, "encoder_options": {**own, "native_size": 64}}
    with pytest.raises(ValueError, match="no feature maps"):
        Refine(encoder="dav2/tiny", encoder_options={"weights": None})


def test_a_few_steps_make_it_better_than_the_closed_form_and_it_keeps_the_unit():
    torch.manual_seed(0)
    model, hints = Refine(width=8, grid=64), scene(60, "half")
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    def error():
        return (model.complete(IMAGE, hints, RELATIVE).depth.log() - DEPTH.log()).abs().mean()

    before = error().item()
    for _ in range(15):
        optimizer.zero_grad()
        error().backward()
        optimizer.step()
    assert error() < 0.9 * before
    one = model.complete(IMAGE, hints, RELATIVE).depth
    ten = model.complete(IMAGE, Hints(10 * hints.depth, hints.valid), RELATIVE).depth
    torch.testing.assert_close(ten, 10 * one, rtol=1e-3, atol=0)
    assert bool((one > 0).all() & one.isfinite().all())
