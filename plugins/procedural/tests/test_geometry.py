"""Depth is exact: against closed forms written here, and against distances that the ray caster does not use."""

from __future__ import annotations

import math

import dadkit_procedural.cast as casting
import numpy as np
import pytest
from dadkit_procedural.cast import View, cast, clearance, glance
from dadkit_procedural.dataset import ProceduralScenes
from dadkit_procedural.geometry import interval, signed_distance, to_local
from dadkit_procedural.parts import Frame, Parts
from dadkit_procedural.scene import Camera, Kind, Material
from dadkit_procedural.styles import STYLES

GREY = Material((0.2, 0.2, 0.2), (0.4, 0.4, 0.4))


def rays(camera: Camera, height: int, width: int) -> np.ndarray:
    """(H, W, 3) world rays of planar length 1 through pixel centres, from the intrinsics alone."""
    k = camera.intrinsics(height, width)
    v, u = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1)
    return pixels @ np.linalg.inv(k).T @ camera.rotation.T


def depth_of(parts: Parts, camera: Camera, height: int = 40, width: int = 56) -> np.ndarray:
    primitives = parts.primitives()
    return cast(camera, primitives, View.of(camera, primitives, height, width)).depth[0, :-1, :-1]


@pytest.mark.parametrize(("pitch", "roll"), [(-0.9, 0.0), (-0.3, 0.2), (0.0, -0.4)])
def test_ground_depth_is_height_over_sine(pitch: float, roll: float) -> None:
    parts = Parts()
    parts.box(Frame(yaw=0.3), (0, 0, -0.5), (1e4, 1e4, 0.5), GREY)
    camera = Camera.looking((3.0, -2.0, 1.7), 0.8, pitch, roll, 0.9, (0.02, -0.01))
    down = -rays(camera, 40, 56)[..., 2]
    expected = np.where(down > 1e-3, 1.7 / np.where(down > 1e-3, down, 1), np.inf)
    depth = depth_of(parts, camera)
    near = expected < 1e3
    assert near.any()
    np.testing.assert_allclose(depth[near], expected[near], rtol=2e-5)
    assert np.isinf(depth[down < 0]).all()


def test_sphere_depth_and_its_nearest_point() -> None:
    parts = Parts()
    parts.ellipsoid(Frame(), (0.3, 4.0, 1.2), (0.8, 0.8, 0.8), GREY)
    camera = Camera.looking((0.0, 0.0, 1.0), 0.0, 0.0, 0.0, 1.0)
    ray = rays(camera, 40, 56)
    to_centre = np.array([0.3, 4.0, 0.2])
    along = ray @ to_centre
    squared = (ray**2).sum(-1)
    inside = along**2 - squared * (to_centre @ to_centre - 0.8**2)
    expected = np.where(inside > 0, (along - np.sqrt(np.maximum(inside, 0))) / squared, np.inf)
    depth = depth_of(parts, camera)
    np.testing.assert_allclose(depth, expected, rtol=1e-5)
    distance = np.where(np.isfinite(depth), depth * np.sqrt(squared), np.inf).min()
    assert distance == pytest.approx(np.linalg.norm(to_centre) - 0.8, rel=1e-3)


def test_facing_wall_has_one_depth_although_rays_differ_in_length() -> None:
    parts = Parts()
    parts.box(Frame(), (0, 3.5, 0), (50, 0.5, 50), GREY)
    np.testing.assert_allclose(depth_of(parts, Camera.looking((0, 0, 0), 0, 0, 0.3, 0.6)), 3.0, rtol=1e-6)


@pytest.mark.parametrize("kind", list(Kind))
def test_interval_agrees_with_the_signed_distance_along_the_ray(kind: Kind, rng: np.random.Generator) -> None:
    seen = 0
    t = np.linspace(-12, 12, 4801)
    for _ in range(300):
        half = tuple(rng.uniform(0.2, 2.0, 3))
        if kind is Kind.CONE and rng.random() < 0.4:
            half = (half[0], 0.0 if rng.random() < 0.5 else half[0], half[2])
        origin, direction = rng.uniform(-4, 4, 3), rng.normal(size=3)
        if rng.random() < 0.2:
            direction[rng.integers(3)] = 0.0  # parallel to faces
        direction /= np.linalg.norm(direction)
        with np.errstate(all="ignore"):
            near, far = interval(kind, tuple(origin), tuple(direction), half)
        distance = signed_distance(kind, tuple(origin[:, None] + t * direction[:, None]), half)
        inside = t[distance < 0]
        if near < far:
            seen += 1
            np.testing.assert_allclose(inside.size * 0.005, min(far, 12) - max(near, -12), atol=0.011)
            if inside.size:
                np.testing.assert_allclose([inside[0], inside[-1]], [near, far], atol=0.0051)
        else:
            assert inside.size <= 1
    assert seen > 20


@pytest.mark.parametrize("style", STYLES)
def test_pixels_unproject_onto_the_surface_that_they_show_and_nothing_lies_in_front(style: str) -> None:
    dataset = ProceduralScenes(count=4, size=(36, 52), styles=[style], seed=3)
    for index in range(3):
        scene, picture = dataset.scene(index), dataset.picture(index)
        primitives = scene.primitives
        k = picture.intrinsics.astype(np.float64)
        v, u = np.meshgrid(np.arange(36) + 0.5, np.arange(52) + 0.5, indexing="ij")
        solid = np.isfinite(picture.depth)
        assert (picture.index[~solid] == -1).all()
        z = picture.depth[solid].astype(np.float64)
        camera_points = np.stack([(u[solid] - k[0, 2]) / k[0, 0] * z, (v[solid] - k[1, 2]) / k[1, 1] * z, z], axis=-1)
        # On the surface at the depth, outside every solid before it.
        for share in (1.0, 0.999, 0.9, 0.5, 0.2):
            points = camera_points * share @ scene.camera.rotation.T + scene.camera.position
            local = to_local(primitives, points)
            distance = np.stack(
                [
                    signed_distance(Kind(kind), tuple(local[:, i]), tuple(primitives.half[i]))
                    for i, kind in enumerate(primitives.kind)
                ]
            )
            if share == 1.0:
                at = distance[picture.index[solid], np.arange(len(z))]
                assert (np.abs(at) < 2e-5 * z + 1e-5).all()
            assert (distance.min(axis=0) > -(2e-5 * z + 1e-5)).all()


@pytest.mark.parametrize("style", STYLES)
def test_windows_and_near_first_order_lose_no_hit(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = ProceduralScenes(count=6, size=(31, 47), styles=[style], seed=5)

    def whole(camera: Camera, primitives: object, view: View) -> tuple[np.ndarray, np.ndarray]:
        count = len(dataset_primitives)
        return np.tile([0, view.y.shape[1], 0, view.x.shape[2]], (count, 1)), np.zeros(count)

    for index in range(5):
        scene = dataset.scene(index)
        dataset_primitives = scene.primitives
        with np.errstate(all="ignore"):
            view = View.of(scene.camera, scene.primitives, 31, 47)
            fast = cast(scene.camera, scene.primitives, view)
            with monkeypatch.context() as patch:
                patch.setattr(casting, "_windows", whole)
                slow = cast(scene.camera, scene.primitives, view)
        np.testing.assert_array_equal(fast.depth, slow.depth)


def test_glance_sees_what_cast_sees() -> None:
    scene = ProceduralScenes(count=3, seed=1).scene(2)
    with np.errstate(all="ignore"):
        depth, index = glance(scene.camera, scene.primitives, 16)
        hits = cast(scene.camera, scene.primitives, View.of(scene.camera, scene.primitives, 16, 16))
    np.testing.assert_allclose(depth.reshape(16, 16), hits.depth[0, :16, :16], rtol=2e-5)
    assert (index.reshape(16, 16) == hits.index[0, :16, :16]).mean() > 0.98  # equal but where two solids touch


def test_clearance_is_negative_inside_and_the_gap_outside() -> None:
    parts = Parts()
    parts.box(Frame(), (0, 0, 0.5), (1, 1, 0.5), GREY)
    parts.cone(Frame(), (5, 0, 1), (0.5, 0.5), 1, GREY)
    primitives = parts.primitives()
    assert clearance(primitives, np.array([0, 0, 0.6])) == pytest.approx(-0.4)
    assert clearance(primitives, np.array([0, 0, 1.3])) == pytest.approx(0.3)
    assert clearance(primitives, np.array([3.9, 0, 1.0])) == pytest.approx(0.6)


def test_tilt_and_yaw_turn_as_documented() -> None:
    parts = Parts()
    # A lying cylinder along the frame's y axis, which points along -x of the world after a quarter turn.
    parts.cone(Frame(yaw=math.pi / 2), (0, 0, 1), (0.2, 0.2), 2.0, GREY, tilt=math.pi / 2)
    primitives = parts.primitives()
    assert clearance(primitives, np.array([-1.9, 0, 1.0])) < 0
    assert clearance(primitives, np.array([0, 1.0, 1.0])) == pytest.approx(0.8)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
