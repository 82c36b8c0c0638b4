"""The geometric loss: clouds, PointNet, invariances, refusals."""

from __future__ import annotations

import math

import pytest
import torch

from dadkit.losses import GeometricLoss, PointNet, geometric_loss
from dadkit.losses.geometric import assumed_intrinsics, unproject


def rand(*shape, seed=0):
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def smooth(seed=0, size=(12, 16), count=2):
    return torch.nn.functional.interpolate(rand(count, 1, 4, 4, seed=seed), size, mode="bicubic")[:, 0]


@pytest.fixture(scope="module")
def encoder():
    return PointNet(0)


def loss(pred, target, encoder, *args, seed=0, **options):
    return geometric_loss(
        pred, target, *args, encoder=encoder, points=options.pop("points", 64), generator=torch.Generator().manual_seed(seed),
        **options,
    )  # fmt: skip


def test_unprojection_follows_the_pinhole_camera():
    depth = rand(1, 3, 4) + 1
    camera = torch.tensor([[[5.0, 0, 2.5], [0, 7.0, 1.0], [0, 0, 1]]], dtype=torch.float64)
    points = unproject(depth, camera, torch.arange(12)[None])[0]
    for index in range(12):
        row, column = divmod(index, 4)
        z = depth[0, row, column].item()
        assert points[:, index].tolist() == pytest.approx([(column + 0.5 - 2.5) * z / 5, (row + 0.5 - 1.0) * z / 7, z])


def test_the_assumed_camera_spans_the_field_of_view():
    camera = assumed_intrinsics(torch.Size((1, 30, 40)), 60.0, rand(1))[0]
    left = math.degrees(math.atan((0 - camera[0, 2].item()) / camera[0, 0].item()))
    right = math.degrees(math.atan((40 - camera[0, 2].item()) / camera[0, 0].item()))
    assert right - left == pytest.approx(60)
    assert camera[0, 0] == camera[1, 1]
    assert camera[1, 2] == 15


def test_pointnet_is_seeded_frozen_and_blind_to_order(encoder):
    points = rand(2, 3, 50)
    views, again, other = encoder(points), PointNet(0)(points), PointNet(1)(points)
    assert all(torch.equal(a, b) for a, b in zip(views, again, strict=True))
    assert not torch.equal(views.points, other.points)
    assert list(encoder.parameters()) == []
    assert encoder.state_dict() == {}
    order = torch.randperm(50)
    shuffled = encoder(points[:, :, order])
    torch.testing.assert_close(shuffled.input_matrix, views.input_matrix)
    torch.testing.assert_close(shuffled.features, views.features[:, :, order])
    assert views.features.std() > 0.05, "the signal survives the random layers"
    assert (views.input_matrix - torch.eye(3, dtype=torch.float64)).norm() < 3


@pytest.mark.parametrize(("compare", "views"), [("clouds", (0, 1)), ("matrices", (2, 3))])
def test_equals_its_definition(encoder, compare, views):
    """Both maps in deviations from their medians, both shifted by what brings the *teacher's* nearest pixel to ``near``."""
    p, d = smooth(count=1)[0] * 3 + 1, smooth(1, count=1)[0]

    def normal(x):
        values = x.flatten().sort().values
        return (x - values[(len(values) - 1) // 2]) / (x - values[(len(values) - 1) // 2]).abs().mean()

    shift = 0.7 - normal(d).min()
    pixels = torch.multinomial(torch.ones(1, 192), 64, replacement=True, generator=torch.Generator().manual_seed(0))
    camera = assumed_intrinsics(torch.Size((1, 12, 16)), 60.0, p)
    clouds = [encoder(unproject((normal(x) + shift)[None], camera, pixels)) for x in (p, d)]
    expected = sum((clouds[0][view] - clouds[1][view]).square().mean() for view in views)
    torch.testing.assert_close(loss(p[None], d[None], encoder, compare=compare, near=0.7), expected)


@pytest.mark.parametrize("compare", ["clouds", "matrices"])
def test_scale_and_shift_of_either_map_do_not_matter(encoder, compare):
    p, d = smooth(), smooth(1)
    plain = loss(p, d, encoder, compare=compare)
    assert plain > 0
    torch.testing.assert_close(loss(3 * p + 5, d, encoder, compare=compare), plain, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(loss(p, 0.2 * d - 7, encoder, compare=compare), plain, rtol=1e-6, atol=1e-9)
    assert loss(4 * d - 1, d, encoder, compare=compare).item() == pytest.approx(0, abs=1e-12)


def test_metric_maps_are_taken_in_metres(encoder):
    d = smooth(1) + 2
    assert loss(d, d, encoder, space="metric").item() == 0
    assert loss(1.1 * d, d, encoder, space="metric") > 1e-4


def test_the_camera_matters(encoder):
    p, d = smooth(), smooth(1)
    wide = assumed_intrinsics(p.shape, 100.0, p)
    torch.testing.assert_close(loss(p, d, encoder, wide), loss(p, d, encoder, fov=100.0))
    assert not torch.isclose(loss(p, d, encoder, wide), loss(p, d, encoder))


def test_the_field_of_view_is_assumed_of_the_whole_image_not_of_its_crop(encoder):
    """Columns 4 to 12 and rows 2 to 10 of a 16 x 12 image, seen at 16 x 16: the points are those of the whole image."""
    whole = assumed_intrinsics(torch.Size((1, 12, 16)), 70.0, rand(1))
    to_view = torch.tensor([[2.0, 0, -8], [0, 2, -4], [0, 0, 1]], dtype=torch.float64)
    frames = to_view @ torch.tensor([[[8.0, 0, 8], [0, 8, 6], [0, 0, 1]]], dtype=torch.float64)
    p, d = (smooth(seed, (16, 16), 1) for seed in (0, 1))
    known = loss(p, d, encoder, to_view @ whole, None)
    torch.testing.assert_close(loss(p, d, encoder, None, None, frames=frames, fov=70.0), known)
    assert not torch.isclose(loss(p, d, encoder, fov=70.0), known)
    with pytest.raises(ValueError, match=r"frames must be \(B, 3, 3\)"):
        loss(p, d, encoder, frames=frames[0])


def test_an_unknown_camera_among_known_ones_is_assumed(encoder):
    p, d = smooth(), smooth(1)
    cameras = assumed_intrinsics(p.shape, 100.0, p).clone()
    cameras[1] = torch.nan
    found, known, assumed = (
        loss(p, d, encoder, *given, reduction="image") for given in ([cameras], [cameras[:1].expand(2, 3, 3)], [])
    )
    assert found.tolist() == [known[0].item(), assumed[1].item()]


def test_only_valid_pixels_are_looked_at(encoder):
    p, d = smooth(), smooth(1)
    mask = torch.zeros_like(p, dtype=torch.bool)
    mask[:, 2:9, 3:11] = True
    spoiled = d.masked_fill(~mask, torch.nan)
    p.requires_grad_()
    value = loss(p, spoiled, encoder, None, mask)
    value.backward()
    assert value.isfinite()
    assert p.grad.isfinite().all()
    assert torch.count_nonzero(p.grad[~mask]) == 0
    assert torch.count_nonzero(p.grad[mask]) > 0


def test_degenerate_images(encoder):
    p, d = smooth(count=4), smooth(1, count=4)
    mask = torch.ones_like(p, dtype=torch.bool)
    mask[1] = False
    d[2] = 3.0
    p[3] = 3.0
    p.requires_grad_()
    images = loss(p, d, encoder, None, mask, reduction="image")
    assert images[0] > 0
    assert images[1:3].tolist() == [0, 0]
    assert images[3] > 0
    images.sum().backward()
    assert torch.count_nonzero(p.grad[1:]) == 0
    assert p.grad.isfinite().all()
    d[0, 0, 0] = torch.nan
    assert loss(p, d, encoder, None, mask, reduction="image").isnan().tolist() == [True, False, False, False]


def test_gradients_are_right(encoder):
    p, d = smooth(size=(4, 5), count=1).requires_grad_(), smooth(1, size=(4, 5), count=1)
    assert torch.autograd.gradcheck(lambda x: loss(x, d, encoder, points=6), p, eps=1e-8, atol=1e-4, rtol=1e-3)


def test_disparity_needs_an_assumption(encoder):
    p, d = smooth(), smooth(1)
    with pytest.raises(ValueError, match=r"unknown shift.*assume_inverse"):
        loss(p, d, encoder, space="disparity")
    assumed = {"scale": 1.0, "shift": 0.1}
    with_assumption = loss(p, d, encoder, space="disparity", assume_inverse=assumed)
    assert with_assumption > 0
    assert loss(2 * d + 1, d, encoder, space="disparity", assume_inverse=assumed).item() == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="leave it out"):
        loss(p, d, encoder, assume_inverse=assumed)
    with pytest.raises(ValueError, match="scale: a, shift: b"):
        GeometricLoss(assume_inverse={"scale": 1.0})


def test_the_module_draws_new_pixels_each_time_and_moves_as_a_whole():
    module, p, d = GeometricLoss(points=16, seed=3), smooth(), smooth(1)
    torch.manual_seed(0)
    first, second = module(p, d), module(p, d)
    assert first != second
    torch.manual_seed(0)
    assert module(p, d) == first
    assert list(module.parameters()) == []
    module.check_space("depth")
    with pytest.raises(ValueError, match="affine disparity"):
        module.check_space("disparity")
    meta = GeometricLoss().to("meta")
    assert all(buffer.is_meta for buffer in meta.buffers())


@pytest.mark.parametrize(
    ("option", "message"),
    [({"points": 0}, "points"), ({"fov": 180.0}, "fov"), ({"near": 0.0}, "near"), ({"compare": "points"}, "compare")],
)
def test_wrong_options(option, message):
    with pytest.raises(ValueError, match=f"{message} must"):
        GeometricLoss(**option)
