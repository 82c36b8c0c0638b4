"""Textures are filtered, shadows fall where they must, and the shortcuts of the renderer change no picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dadkit_procedural.dataset import ProceduralScenes
from dadkit_procedural.geometry import interval, to_local
from dadkit_procedural.lighting import BLOCK, Blocks
from dadkit_procedural.parts import Frame, Parts
from dadkit_procedural.render import develop, render
from dadkit_procedural.scene import Kind, Light, Material, Photo, Primitives
from dadkit_procedural.styles import STYLES
from dadkit_procedural.tiles import SIDE, TILES, lookup, tile_index

GREY = Material((0.2, 0.2, 0.2), (0.4, 0.4, 0.4))


def read(name: str, u: np.ndarray, v: np.ndarray, fu: float, fv: float) -> np.ndarray:
    n = u.size
    tile = np.full(n, tile_index(name), dtype=np.int32)
    u, v = u.astype(np.float32), v.astype(np.float32)
    return lookup(tile, u, v, np.full(n, fu, np.float32), np.full(n, fv, np.float32))


@pytest.mark.parametrize("name", TILES)
def test_tiles_are_read_exactly_at_texels_repeat_and_average(name: str) -> None:
    painted = np.asarray(TILES[name](np.random.default_rng([20, tile_index(name)])), dtype=np.float64)
    assert painted.shape == (SIDE, SIDE)
    assert painted.min() >= 0
    assert painted.max() <= 1 + 1e-6
    assert painted.std() > 0.03
    rng = np.random.default_rng(0)
    row, column = rng.integers(0, SIDE, (2, 200))
    u, v = (column + 0.5) / SIDE, (row + 0.5) / SIDE
    np.testing.assert_allclose(read(name, u, v, 0, 0), painted[row, column], atol=0.003)
    np.testing.assert_allclose(read(name, u - 3, v + 5, 0, 0), painted[row, column], atol=0.01)
    np.testing.assert_allclose(read(name, u, v, 1, 1), painted.mean(), atol=0.01)
    np.testing.assert_allclose(read(name, u, v, 9, 0), painted.mean(axis=1)[row], atol=0.02)  # averaged along u alone


def test_a_receding_checker_fades_to_grey_instead_of_aliasing() -> None:
    scene = ProceduralScenes(count=1, styles=["land"]).scene(0)
    parts = Parts()
    parts.box(Frame(), (0, 0, -0.5), (3000, 3000, 0.5), Material((0, 0, 0), (1, 1, 1), "checker", grunge=0.0))
    camera = type(scene.camera).looking((0.0, 0.0, 1.5), 0.3, 0.0, 0.0, 1.0)
    photo = Photo(1.0, (1.0, 1.0, 1.0), 0.0, 0.0, 1.0)
    sky = replace(scene.sky, above=(1, 1, 1), below=(1, 1, 1), haze=np.inf)
    flat = replace(
        scene, camera=camera, primitives=parts.primitives(), materials=tuple(parts.materials), lights=(), sky=sky, photo=photo
    )
    image = render(flat, 160, 160, np.random.default_rng(0)).image[0].astype(float)
    assert image[140:].std() > 60  # squares at the camera's feet
    assert image[83:88].std() < 5  # tens of squares in every pixel below the horizon


def _points(position: list[tuple[float, float, float]], normal: tuple[float, float, float]) -> tuple[np.ndarray, ...]:
    p = np.repeat(np.array(position, dtype=np.float32), BLOCK, axis=0).T.copy()
    n = np.repeat(np.array(normal, dtype=np.float32)[:, None], p.shape[1], axis=1)
    return p, n, np.full(p.shape[1], 1e-3, dtype=np.float32)


def _ball_over_ground() -> Primitives:
    parts = Parts()
    parts.box(Frame(), (0, 0, -0.5), (50, 50, 0.5), GREY)
    parts.ellipsoid(Frame(), (0, 0, 2), (0.5, 0.5, 0.5), GREY)
    return parts.primitives()


def test_a_ball_throws_its_shadow_away_from_sun_and_lamp() -> None:
    blocks = Blocks(_ball_over_ground(), *_points([(0, 0, 0), (2, 0, 0), (4, 0, 0)], (0, 0, 1)))
    facing = np.ones(3 * BLOCK, dtype=np.float32)
    slanted = Light((-np.sqrt(0.5), 0, np.sqrt(0.5)), True, (1, 1, 1), 0.01)
    np.testing.assert_allclose(blocks.shadow(slanted, facing)[::BLOCK], [1, 0, 1])
    lamp = Light((0, 0, 4), False, (1, 1, 1), 0.01)
    np.testing.assert_allclose(blocks.shadow(lamp, facing)[::BLOCK], [0, 1, 1])
    below = Light((0, 0, 1), False, (1, 1, 1), 0.01)  # a lamp under the ball: nothing lies between
    np.testing.assert_allclose(blocks.shadow(below, facing)[::BLOCK], [1, 1, 1])


def test_corners_and_contacts_are_darker_than_open_ground() -> None:
    parts = Parts()
    parts.box(Frame(), (0, 0, -0.5), (50, 50, 0.5), GREY)
    parts.box(Frame(), (0, 2, 1), (5, 0.5, 1), GREY)
    blocks = Blocks(parts.primitives(), *_points([(0, 1.49, 0), (0, 1.2, 0), (0, -3, 0)], (0, 0, 1)))
    corner, near, open_ground = blocks.openness(0.5)[::BLOCK]
    assert corner < near < open_ground == 1.0


@pytest.mark.parametrize("is_sun", [False, True])
def test_coarse_shadow_test_misses_no_occluder(is_sun: bool) -> None:
    """Every segment from a block's point to the light that crosses a bounding box is among the possible pairs."""
    rng = np.random.default_rng(1)
    parts = Parts()
    for _ in range(40):
        centre, half = tuple(rng.uniform(-2, 2, 3)), tuple(rng.uniform(0.1, 1.5, 3))
        parts.box(Frame(), centre, half, GREY, yaw=rng.uniform(0, 6), tilt=rng.uniform(0, 6))
    primitives = parts.primitives()
    points = (np.repeat(rng.uniform(-3, 3, (3, 60)), BLOCK, axis=1) + rng.uniform(-0.3, 0.3, (3, 60 * BLOCK))).astype(
        np.float32
    )
    blocks = Blocks(primitives, points, np.zeros_like(points), np.zeros(60 * BLOCK, dtype=np.float32))
    hits = 0
    for vector in rng.uniform(-2, 2, (12, 3)).astype(np.float32):
        possible = blocks._between(vector, is_sun)
        towards = np.broadcast_to(vector[:, None], points.shape) if is_sun else vector[:, None] - points
        local = to_local(primitives, points.T)
        direction = np.einsum("kji,jn->ikn", primitives.rotation, towards)
        near, far = interval(Kind.BOX, local, direction, primitives.half.T[..., None])
        crossed = (np.maximum(near, 0) < np.minimum(far, np.inf if is_sun else 1.0) - 1e-5).reshape(40, 60, BLOCK).any(axis=2)
        assert not (crossed & ~possible).any()
        hits += crossed.sum()
    assert 0 < hits < 12 * 40 * 60


@pytest.mark.parametrize("style", STYLES)
def test_skipping_solids_that_cannot_matter_changes_no_picture(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = ProceduralScenes(count=3, size=(40, 48), styles=[style], seed=2, photo_noise=0)
    fast = [dataset.picture(i).image for i in range(2)]
    everything = lambda self, *args: np.ones(self.local.shape[1:], dtype=bool)  # noqa: E731
    monkeypatch.setattr(Blocks, "_between", everything)
    monkeypatch.setattr(Blocks, "_ahead", everything)
    for index in range(2):
        difference = np.abs(dataset.picture(index).image.astype(int) - fast[index])
        assert difference.max() <= 3
        assert difference.mean() < 0.02


def test_development_balances_exposure_and_obeys_its_settings() -> None:
    rng = np.random.default_rng(0)
    light = rng.uniform(0.1, 1.0, (3, 32, 32)).astype(np.float32)
    plain = Photo(1.0, (1.0, 1.0, 1.0), 0.0, 0.0, 1.0)
    image = develop(light, plain, rng)
    assert np.abs(develop(light * 37, plain, rng).astype(int) - image).max() <= 1  # automatic exposure
    assert develop(light, replace(plain, exposure=2.0), rng).mean() > image.mean() + 10
    warm = develop(light, replace(plain, balance=(1.3, 1.0, 0.7)), rng)
    assert warm[0].mean() > image[0].mean() > image[2].mean() - 1 > warm[2].mean()
    noisy = develop(light, replace(plain, noise=4.0), rng).astype(float) - image
    assert noisy.std() == pytest.approx(4.0, rel=0.15)
