"""The table of models, and how each sees an image, against the official rule written out."""

from __future__ import annotations

import math

import pytest
from dadkit_midas.model import Midas
from dadkit_midas.sizes import SIZES

HALF, IMAGENET = (0.5, 0.5, 0.5), (0.485, 0.456, 0.406)


def official_size(height, width, side, *, keep_aspect, method):
    """The official Resize with multiples of 32."""
    down, along = side / height, side / width
    if keep_aspect and method == "minimal":
        if abs(1 - along) < abs(1 - down):
            down = along
        else:
            along = down
    if keep_aspect and method == "upper_bound":
        down = along = min(down, along)

    def constrain(value):
        rounded = round(value / 32) * 32
        return math.floor(value / 32) * 32 if method == "upper_bound" and rounded > side else rounded

    return constrain(down * height), constrain(along * width)


@pytest.mark.parametrize("name", [name for name, size in SIZES.items() if size.official])
@pytest.mark.parametrize(
    ("height", "width"),
    [(480, 640), (640, 480), (375, 1242), (352, 1216), (4032, 6048), (436, 1024), (240, 320), (1080, 1920), (384, 384)],
)
def test_native_policy_is_the_official_resizing(name, height, width):
    size = SIZES[name]
    square = any(word in name for word in ("swin", "levit"))
    method = "upper_bound" if name.startswith("v21") else "minimal"
    expected = official_size(height, width, int(name.rpartition("-")[2]), keep_aspect=not square, method=method)
    assert size.policy().target(height, width) == expected


@pytest.mark.parametrize("name", ["tiny", "tiny-conv", "v21-small-256"])
def test_statistics(name):
    spec = Midas(name).spec
    assert spec.mean == (HALF if name == "tiny" else IMAGENET)
    assert spec.std == (HALF if name == "tiny" else (0.229, 0.224, 0.225))


def test_examples_of_sizes():
    assert SIZES["dpt-large-384"].policy().target(480, 640) == (384, 512)
    assert SIZES["v21-small-256"].policy().target(480, 640) == (192, 256)
    assert SIZES["dpt-swin2-tiny-256"].policy().target(480, 640) == (256, 256)
    assert SIZES["dpt-beit-large-512"].policy(384).target(480, 640) == (384, 512)
