"""The dataset's promises: deterministic, disjoint splits, free cameras, scenes with something to learn."""

from __future__ import annotations

import hashlib
import inspect
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from dadkit_procedural.cast import clearance
from dadkit_procedural.styles import STYLES

from dadkit.data import ProceduralScenes
from dadkit.data.sample import Dataset, Sample
from dadkit.errors import DataError
from dadkit.spaces import Space

_DIGEST = """
import hashlib, sys
from dadkit.data import ProceduralScenes
dataset = ProceduralScenes(count=20, size=(48, 64), seed=4)
digest = hashlib.sha256()
for index in (11, 3, 7):
    sample = dataset[index]
    digest.update(sample.image.numpy().tobytes() + sample.depth.numpy().tobytes() + sample.intrinsics.numpy().tobytes())
print(digest.hexdigest())
"""


def same(a: Sample, b: Sample) -> bool:
    pairs = ((a.image, b.image), (a.depth, b.depth), (a.intrinsics, b.intrinsics))
    return a.key == b.key and all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("style", STYLES)
def test_every_style_gives_a_well_formed_sample(style: str) -> None:
    dataset = ProceduralScenes(count=3, size=(41, 67), styles=[style])
    assert isinstance(dataset, Dataset)
    for sample in (dataset[i] for i in range(3)):
        assert sample.image.shape == (3, 41, 67)
        assert sample.image.dtype == torch.uint8
        assert sample.depth is not None
        assert sample.depth.shape == (1, 41, 67)
        assert sample.depth.dtype == torch.float32
        assert not sample.depth.isnan().any()
        assert (sample.depth > 0.02).all()  # infinity is sky
        assert sample.valid is not None
        assert sample.valid.all()
        assert sample.space is Space.METRIC
        assert sample.image.float().std() > 8


def test_intrinsics_follow_the_size() -> None:
    for size in ((40, 40), (40, 60), (60, 40)):
        k = ProceduralScenes(count=2, size=size)[1].intrinsics
        assert k is not None
        assert k.dtype == torch.float32
        assert k[0, 0] == k[1, 1] > 0.4 * max(size)
        assert abs(k[0, 2] / size[1] - 0.5) < 0.05
        assert abs(k[1, 2] / size[0] - 0.5) < 0.05
        assert k[2].tolist() == [0, 0, 1]


def test_the_same_scene_at_another_resolution() -> None:
    coarse, fine = (ProceduralScenes(count=4, size=size, seed=9)[3].depth for size in ((24, 32), (72, 96)))
    assert coarse is not None
    assert fine is not None
    # A pixel's centre is that of the middle one of the nine that replace it; rays at silhouettes may differ by an ulp.
    close = torch.isclose(coarse, fine[:, 1::3, 1::3], rtol=1e-4)
    assert close.float().mean() > 0.995


def test_one_index_has_the_same_bytes_in_another_process() -> None:
    digest = hashlib.sha256()
    dataset = ProceduralScenes(count=20, size=(48, 64), seed=4)
    for index in (11, 3, 7):
        sample = dataset[index]
        for tensor in (sample.image, sample.depth, sample.intrinsics):
            digest.update(tensor.numpy().tobytes())
    run = subprocess.run([sys.executable, "-c", _DIGEST], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == digest.hexdigest()


def test_order_count_and_global_random_state_do_not_matter() -> None:
    first = ProceduralScenes(count=5, size=24)[4]
    np.random.seed(0)
    torch.manual_seed(0)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    longer = ProceduralScenes(count=50, size=24)
    assert same(longer[4], first)
    assert same(longer[4], first)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)


def test_workers_do_not_matter() -> None:
    dataset = ProceduralScenes(count=6, size=24)
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2)
    assert all(same(a, dataset[i]) for i, a in enumerate(loader))


def test_splits_and_seeds_share_no_scene() -> None:
    cameras = set()
    for seed in (0, 1):
        for split in ("train", "test"):
            dataset = ProceduralScenes(count=40, seed=seed, split=split)
            cameras |= {dataset.scene(i).camera.position.tobytes() for i in range(40)}
    assert len(cameras) == 4 * 40
    keys = {ProceduralScenes(count=2, size=16, split=split)[1].key for split in ("train", "test")}
    assert len(keys) == 2


@pytest.mark.parametrize("cache", [False, True])
def test_pickle_keeps_the_dataset_but_not_its_cache(cache: bool) -> None:
    dataset = ProceduralScenes(count=5, size=[16, 24], seed=2, split="test", styles=["room", "land"], cache=cache)
    sample = dataset[3]
    data = pickle.dumps(dataset)
    assert len(data) < 1000
    assert same(pickle.loads(data)[3], sample)


def test_cache_renders_once_and_cannot_be_written_through(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = ProceduralScenes(count=5, size=16, cache=True)
    first = dataset[2]
    before = first.image.clone()
    monkeypatch.setattr(dataset, "picture", lambda index: pytest.fail("rendered again"))
    first.image.zero_()
    assert torch.equal(dataset[2].image, before)
    assert same(dataset[-3], dataset[2])


def test_indices_outside_are_refused() -> None:
    dataset = ProceduralScenes(count=3, size=16)
    for index in (3, -4):
        with pytest.raises(IndexError):
            dataset[index]
    assert len(dataset) == 3
    assert same(dataset[-1], dataset[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count"),
        ({"size": 4}, "size"),
        ({"size": (32, 32, 3)}, "size"),
        ({"seed": -1}, "seed"),
        ({"split": "val"}, "'val'"),
        ({"styles": []}, "styles is empty"),
        ({"styles": ["rom"]}, "did you mean 'room'"),
        ({"photo_noise": -1.0}, "photo_noise"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ProceduralScenes(**options)  # type: ignore[arg-type]


def test_cameras_are_never_inside_or_against_a_solid() -> None:
    for style in STYLES:
        dataset = ProceduralScenes(count=25, styles=[style], seed=6)
        for index in range(25):
            scene = dataset.scene(index)
            assert clearance(scene.primitives, scene.camera.position) >= 0.1


def test_scenes_have_depth_to_learn_and_no_layout_to_recite() -> None:
    """No scene is one surface, and neither a vertical ramp nor the mean map says much about the disparity of most scenes."""
    dataset = ProceduralScenes(count=90, size=32)
    maps, ramp = [], np.repeat(np.linspace(0, 1, 32)[:, None], 32, axis=1)
    for index in range(90):
        picture = dataset.picture(index)
        solid = np.isfinite(picture.depth)
        assert solid.mean() > 0.3
        assert np.unique(picture.index).size >= 4
        low, high = np.quantile(picture.depth[solid], [0.05, 0.95])
        assert high > 1.4 * low
        disparity = np.where(solid, 1 / picture.depth, 0)
        maps.append((disparity - disparity.mean()) / disparity.std())
    against_ramp = [np.corrcoef(ramp.ravel(), m.ravel())[0, 1] for m in maps]
    mean = np.mean(maps[:60], axis=0)
    against_mean = [np.corrcoef(mean.ravel(), m.ravel())[0, 1] for m in maps[60:]]
    # r^2 is the share of a map's variance that scale-and-shift alignment of the trivial answer explains.
    assert np.mean(np.square(against_ramp)) < 0.6
    assert np.mean(np.square(against_mean)) < 0.6
    assert np.min(against_ramp) < -0.1


def test_the_page_lists_every_option_and_style() -> None:
    page = (Path(__file__).parents[3] / "docs" / "procedural.md").read_text()
    options = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    assert options == list(inspect.signature(ProceduralScenes).parameters)
    assert all(f"`{style}`" in page for style in STYLES)
