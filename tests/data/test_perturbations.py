"""Strong perturbations against outside witnesses: colorsys for hue, SciPy for blur, and the published strengths."""

from __future__ import annotations

import colorsys
import pickle

import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from dadkit.data.perturbations import ColorJitter, GaussianBlur, Strong, blurred, turn_hue


def picture(height=12, width=17, seed=0):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("turns", [-0.25, 0.1, 0.5])
def test_hue_is_turned_as_colorsys_does(turns):
    image = picture()
    image[:, 0, 0] = 0.4  # gray: no hue
    image[:, 0, 1] = torch.tensor([0.7, 0.7, 0.2])  # two largest channels
    turned = turn_hue(image, turns)
    for pixel, got in zip(image.flatten(1).T.tolist(), turned.flatten(1).T.tolist(), strict=True):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        assert got == pytest.approx(colorsys.hsv_to_rgb((h + turns) % 1, s, v), abs=1e-9)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_blur_is_a_gaussian_with_mirrored_borders(sigma):
    image = picture()
    want = image.numpy()
    for axis in (1, 2):
        radius = min(-(-3 * sigma // 1), image.shape[axis] - 1)
        want = gaussian_filter1d(want, sigma, axis=axis, mode="mirror", radius=int(radius))
    torch.testing.assert_close(blurred(image, sigma), torch.from_numpy(want), rtol=0, atol=1e-9)


def test_blur_reaches_no_further_than_the_image():
    assert blurred(picture(1, 2), 2.0).shape == (3, 1, 2)


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("brightness", lambda image, f: image * f),
        ("contrast", lambda image, f: gray(image).mean() * (1 - f) + image * f),
        ("saturation", lambda image, f: gray(image) * (1 - f) + image * f),
    ],
)
def test_each_colour_change_follows_its_formula(which, expected):
    strengths = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, which: 0.5}
    jitter, image = ColorJitter(probability=1.0, **strengths), 0.2 + 0.6 * picture()
    factors = []
    for seed in range(20):
        changed = jitter(image, generator(seed))
        uniform = torch.rand(5, generator=generator(seed))[1 + list(strengths).index(which)].item()
        factors.append(0.5 + uniform)
        torch.testing.assert_close(changed, expected(image, factors[-1]).clamp(0, 1), rtol=0, atol=1e-6)
    assert min(factors) < 0.7 < 1.3 < max(factors)


def gray(image):
    return (0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2])[None]


def test_probabilities_and_repeatability():
    image = (picture() * 255).to(torch.uint8)
    assert torch.equal(Strong(None, None)(image, generator()), image)
    assert torch.equal(Strong(ColorJitter(0.0), GaussianBlur(0.0))(image, generator()), image)
    strong = pickle.loads(pickle.dumps(Strong()))
    views = [strong(image, generator(seed)) for seed in range(60)]
    assert all(torch.equal(view, strong(image, generator(seed))) for seed, view in enumerate(views))
    changed = sum(not torch.equal(view, image) for view in views)
    assert 45 <= changed < 60  # 1 - 0.2 * 0.5 = 0.9 of them
    assert {view.dtype for view in views} == {torch.uint8}


def test_the_published_strengths_are_the_defaults():
    from dadkit.config.schema import PerturbConfig
    from dadkit.data.perturbations import CutMix

    config = PerturbConfig()
    assert ColorJitter(**config.color.model_dump()) == ColorJitter() == ColorJitter(0.8, 0.5, 0.5, 0.5, 0.25)
    assert GaussianBlur(**config.blur.model_dump()) == GaussianBlur() == GaussianBlur(0.5, (0.1, 2.0))
    assert config.cutmix.probability == CutMix().probability == 0.5
    assert config.cutmix.area == CutMix().area == (0.02, 0.4)
    assert config.cutmix.ratio == pytest.approx(CutMix().ratio, abs=1e-4)
