"""At which size a network sees an image: the official rules, and the pixels that come out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from dadkit.interfaces import SizePolicy, nearest_multiple, resize
from dadkit.testing.toy import ToyStudent


@pytest.mark.parametrize(
    ("height", "width", "wanted"),
    [
        (480, 640, (518, 686)),
        (375, 1242, (518, 1722)),
        (352, 1216, (518, 1792)),
        (4032, 6048, (518, 770)),
        (436, 1024, (518, 1218)),
        (240, 320, (518, 686)),
        (1080, 1920, (518, 924)),
    ],
)
def test_lower_bound_is_depth_anythings(height: int, width: int, wanted: tuple[int, int]) -> None:
    assert SizePolicy(518, "lower_bound", 14).target(height, width) == wanted


def test_the_other_policies() -> None:
    assert SizePolicy(384, "upper_bound", 32).target(480, 640) == (288, 384)
    assert SizePolicy(512, "exact", 32).target(480, 640) == (512, 512)
    assert SizePolicy(None, multiple=14).target(480, 641) == (476, 644)


@pytest.mark.parametrize(
    ("side", "multiple", "wanted"), [(560, 14, 560), (560, 32, 576), (1, 14, 14), (21, 14, 28), (544, 1, 544)]
)
def test_nearest_multiple(side: int, multiple: int, wanted: int) -> None:
    assert nearest_multiple(side, multiple) == wanted


def test_an_image_of_the_wanted_size_is_left_alone() -> None:
    images = torch.rand(1, 3, 8, 8)
    assert resize(images, (8, 8), SizePolicy()) is images


@pytest.mark.parametrize("size", [(16, 22), (17, 23), (8, 11)])
def test_a_bicubic_map_is_what_pytorch_interpolates(size: tuple[int, int]) -> None:
    """Twice the size is a convolution of our own."""
    model = ToyStudent()
    model.spec = replace(model.spec, upsampling="bicubic", range=(None, None))
    depth = torch.rand(2, 1, 8, 11, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(depth, size, mode="bicubic")
    torch.testing.assert_close(model.brought_to(depth, size), expected, rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model.brought_to(depth, size), expected, rtol=1e-5, atol=1e-6)
