"""What a folder of labels promises: each label once, whole, with its provenance, whatever is killed."""

from __future__ import annotations

import errno
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import tarfile
import time

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.data import Images, Labels
from dadkit.data.depth_files import read_depth
from dadkit.data.label_codec import CODECS, decode_map, encode_map
from dadkit.data.label_set import Manifest, data_name, newest_manifest, record_name
from dadkit.data.store import BucketStore, FolderStore, open_store
from dadkit.errors import DadkitError, DataError
from dadkit.labelling import (
    Claims,
    Labeller,
    Plan,
    PlanError,
    ProcessPool,
    Settings,
    compact,
    finished_units,
    label_units,
    make_plan,
    records,
    sweep,
    verify,
)
from dadkit.labelling.answers import TeacherAnswers, read_image
from dadkit.labelling.plan import common_base
from dadkit.spaces import Space
from tests.labelling.conftest import Dim, contents, planned, run, work

FORK = multiprocessing.get_context("fork")


@pytest.mark.parametrize("codec", CODECS)
def test_a_map_comes_back_to_half_a_step_and_zero_is_valid(codec, tmp_path):
    if codec == "zstd":
        pytest.importorskip("zstandard")
    values = np.random.default_rng(0).random((40, 31)).astype(np.float32) * 7
    values[0, 0], values[3, 4] = 0, np.nan
    data = encode_map(values, codec, space=Space.DISPARITY, model="m")
    back, space = decode_map(data)
    assert space is Space.DISPARITY
    assert np.array_equal(np.isnan(back), np.isnan(values))
    assert back[0, 0] == 0
    steps = 65534 if codec == "png16" else 4095
    assert np.nanmax(np.abs(back - values)) <= 0.51 * np.nanmax(values) / steps
    if codec != "zstd":  # the reader of predict's results reads these too
        (tmp_path / "a.png").write_bytes(data)
        assert np.allclose(read_depth(tmp_path / "a.png", "png16"), back, equal_nan=True, atol=1e-6)
    constant, _ = decode_map(encode_map(np.full((2, 3), 5, np.float32), codec, space=Space.METRIC, model="m"))
    assert (constant == 5).all()


def test_labels_errors_provenance_and_what_training_reads(images, tmp_path):
    store, plan = planned(tmp_path / "out", images)
    outcome = run(tmp_path / "out")
    assert (plan.images, plan.units, outcome.labels, outcome.errors) == (25, 5, 24, {"UnidentifiedImageError": 1})
    broken = [error for record in records(store) for error in record["errors"]]
    assert [error["key"] for error in broken] == ["broken"]
    record = next(records(store))
    assert record["teachers"] == [Dim.about]
    assert record["plan"] == plan.hash
    assert record["attempt"] == 1
    compact(store, plan)
    assert verify(store, plan) == []
    assert not store.names("claims")
    labels, plain = Labels(tmp_path / "out"), Images(images, min_size=1)
    assert len(labels) == 24
    assert labels.licenses == ("CC0-1.0",)
    by_key = {plain.key(index): plain[index] for index in range(25) if plain.key(index) != "broken"}
    for index in range(24):
        sample = labels[index]
        assert np.array_equal(sample.image, by_key.pop(sample.key).image)
        prepared = Dim().prepare("", sample.image)[None]
        truth = Dim().ask(prepared)
        expected = truth.depth[0].masked_fill(truth.sky[0], 0)  # sky is infinitely far
        assert sample.valid.all()
        assert (sample.depth - expected).abs().max() <= 1.001 * truth.depth.max() / 8190
        assert {"sharpness", "dhash", "digest", "range", "tv"} <= set(labels.scores(index))
    assert not by_key
    before = contents(tmp_path / "out")
    assert run(tmp_path / "out").units == 0
    assert contents(tmp_path / "out") == before


def test_a_kill_at_any_instant_loses_and_doubles_nothing(images, tmp_path):
    planned(tmp_path / "calm", images)
    run(tmp_path / "calm")
    expected = contents(tmp_path / "calm")
    chance, kills = random.Random(0), 0
    while kills < 20:
        root = tmp_path / f"out-{kills}"
        store, plan = planned(root, images)
        while len(finished_units(store)) < plan.units:
            process = FORK.Process(target=run, args=(root, Dim(pause=0.01)))
            process.start()
            process.join(chance.uniform(0.02, 0.25) if kills < 20 else None)
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
            process.join()
            for name in store.names("claims"):  # they would be void after some time
                store.remove(f"claims/{name}")
        assert contents(root) == expected
        assert verify(store, plan) == []
        sweep(store, age=-1)
        assert len(store.names("data")) == 2 * plan.units


def test_of_two_workers_whose_answers_differ_in_a_bit_the_first_counts(images, tmp_path):
    store, plan = planned(tmp_path / "out", images)
    for unit in range(plan.units):
        both = [FORK.Process(target=work(tmp_path / "out", Dim(bit)), args=(unit,)) for bit in (0.0, 0.125)]
        for process in both:
            process.start()
        for process in both:
            process.join()
    contents(tmp_path / "out")
    assert verify(store, plan) == []
    assert len(finished_units(store)) == plan.units
    assert len(store.names("data")) == 2 * plan.units  # the loser took its own away


def test_a_stopped_worker_that_goes_on_harms_nothing(images, tmp_path):
    store, plan = planned(tmp_path / "out", images)
    process = FORK.Process(target=work(tmp_path / "out", Dim(bit=0.125, pause=0.1)), args=(0,))
    process.start()
    time.sleep(0.15)
    os.kill(process.pid, signal.SIGSTOP)
    winner = work(tmp_path / "out")(0)
    os.kill(process.pid, signal.SIGCONT)
    process.join()
    assert [record["hash"] for record in records(store)] == [winner["hash"]]
    assert verify(store, plan) == []
    assert len(store.names("data")) == 2


def test_claims_are_respected_and_void_after_a_time(tmp_path):
    store = FolderStore(tmp_path)
    with Claims(store, ttl=60) as mine, Claims(store, ttl=60) as other:
        assert mine.take(3)
        assert not other.take(3)
        assert other.take(4)
        mine.release(3)
        assert other.take(3)
        os.utime(tmp_path / "claims" / "000003", (0, 0))
        assert mine.take(3)
    assert store.names("claims") == []


def test_several_loops_on_one_folder_share_the_work(images, tmp_path):
    store, plan = planned(tmp_path / "out", images)
    loops = [FORK.Process(target=run, args=(tmp_path / "out", Dim(pause=0.02))) for _ in range(3)]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()
        assert loop.exitcode == 0
    assert len({record["pid"] for record in records(store)}) > 1
    assert len(contents(tmp_path / "out")) == 48
    assert verify(store, plan) == []
    assert not store.names("claims")


def _deadly(root, deadly):
    return work(root, Dim(deadly=deadly))


def test_a_unit_that_kills_its_workers_is_given_up_and_the_others_finish(images, tmp_path):
    from functools import partial

    store, plan = planned(tmp_path / "out", images)
    last = float(Images(images, min_size=1)[22].image[0, 0, 0]) / 255
    pool = ProcessPool(partial(_deadly, tmp_path / "out", last), 1)
    pool._context = FORK
    with Claims(store) as claims:
        outcome = label_units(store, range(plan.units), pool, claims, max_tries=2)
    assert list(outcome.failed) == [4]
    assert "exit code 9" in outcome.failed[4]
    assert finished_units(store) == {0, 1, 2, 3}
    assert json.loads(store.read("failed/000004.json"))["tries"] == 2


def test_too_many_broken_images_stop_the_job(images, tmp_path):
    for number in range(20):
        (images / f"{number:03}.png").write_bytes(b"")
    planned(tmp_path / "out", images)
    with pytest.raises(DataError, match="more than the error rate"):
        run(tmp_path / "out", max_error_rate=0.5, min_tried=10)
    assert run(tmp_path / "out", max_error_rate=1.0).labels == 4  # what was done is kept


def test_another_plan_is_refused(images, tmp_path):
    planned(tmp_path / "out", images)
    with pytest.raises(PlanError, match="codec: png12 there, png16 here"):
        planned(tmp_path / "out", images, codec="png16")
    teacher = Dim()
    teacher.about = Dim.about | {"sha256": "1" * 64}
    with pytest.raises(PlanError, match="sha256 of dim"):
        work(tmp_path / "out", teacher)


def test_shards_are_read_in_place_and_a_changed_one_stops_the_job(images, tmp_path):
    shards = tmp_path / "shards"
    shards.mkdir()
    files = sorted(images.glob("*.png"))
    for number in range(2):
        with tarfile.open(shards / f"{number}.tar", "w") as tar:
            for file in files[12 * number : 12 * number + 12]:
                tar.add(file, file.name)
    store, plan = planned(tmp_path / "out", shards)
    assert plan.units == 6
    assert plan.open_units(store)[5].shard == "1.tar"
    work(tmp_path / "out")(0)
    os.utime(shards / "1.tar", (1, 1))
    with pytest.raises(DataError, match=r"1\.tar changed since the plan was made"):
        run(tmp_path / "out")
    compact(store, plan)
    moved = shutil.move(shards, tmp_path / "moved")
    labels = Labels(tmp_path / "out", images=moved)
    assert len(labels) == 12
    assert labels[0].key.startswith("0/")


def test_damage_is_found(images, tmp_path):
    store, plan = planned(tmp_path / "out", images)
    run(tmp_path / "out")
    by_unit = {record["unit"]: record["hash"] for record in records(store)}
    path = tmp_path / "out" / data_name(1, by_unit[1])
    path.write_bytes(path.read_bytes()[:-1000])
    (tmp_path / "out" / data_name(2, by_unit[2], ".idx")).unlink()
    assert [line.partition(": ")[0] for line in verify(store, plan)] == ["unit 1", "unit 2"]


def test_a_full_disk_stops_the_job_with_one_message(images, tmp_path, monkeypatch):
    store, _ = planned(tmp_path / "out", images)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(DadkitError, match="No space left on device; free some space"):
        run(tmp_path / "out")
    assert not finished_units(store)
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_a_start_lists_only_what_the_newest_manifest_of_a_bucket_does_not_hold(monkeypatch):
    pytest.importorskip("fsspec")
    store = open_store(f"memory://labels-{time.time_ns()}")
    held = Manifest(1, np.arange(2000, dtype=np.int32), np.ones(2000, np.int32), np.full(2000, b"0" * 12))
    store.create("manifests/000001.npz", held.to_bytes())
    for unit in (2000, 2500):
        told = {"unit": unit, "plan": "p", "labels": 3, "hash": "1" * 12}
        store.create(record_name(unit), json.dumps(told).encode())
    asked = []
    names = BucketStore.names
    monkeypatch.setattr(BucketStore, "names", lambda *given: [asked.append(given[1:]), names(*given)][1])
    assert finished_units(store, 3000) == {*range(2000), 2000, 2500}
    assert asked == [("manifests",), ("units", ["002"])]
    plan = Plan(Settings({}, []), [], "", "", 3000, 9000, "p")
    manifest = compact(store, plan)  # reads two records, not 2,002
    assert (manifest.number, len(manifest.units), int(manifest.labels.sum())) == (2, 2002, 2006)
    assert newest_manifest(store).hashes[-1] == b"1" * 12


def test_a_bucket_by_fsspec_is_written_once_and_read_back(images):
    pytest.importorskip("fsspec")
    root = f"memory://labels-{time.time_ns()}"
    bucket = open_store(root, probe=True)
    for file in images.iterdir():
        bucket.write(f"photos/a/{file.name}", file.read_bytes())
    store, plan = planned(f"{root}/out", f"{root}/photos")  # the pictures are in the bucket too
    run(f"{root}/out")
    compact(store, plan)
    assert not store.create(record_name(0), b"")
    assert verify(store, plan) == []
    assert len(contents(f"{root}/out")) == 48
    labels, plain = Labels(f"{root}/out"), Images(f"{root}/photos", min_size=1)
    assert labels[3].key == plain.key(3) == "a/003"
    assert torch.equal(labels[3].image, plain[3].image)
    with pytest.raises(DataError, match=r"no images in .*/out/units: looked for .* found"):
        Images(f"{root}/out/units")
    with pytest.raises(PlanError, match="all in folders, or all in one bucket"):
        common_base([images, f"{root}/photos"])


def test_shards_in_a_bucket_are_read_in_place(images, tmp_path, monkeypatch):
    pytest.importorskip("fsspec")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    root = f"memory://labels-{time.time_ns()}"
    bucket, files = open_store(root), sorted(images.glob("*.png"))
    for number in range(2):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as tar:
            for file in files[number::2]:
                tar.add(file, file.name)
        bucket.write(f"shards/{number}.tar", data.getvalue())
    bucket.write("shards/loose.png", files[0].read_bytes())
    whole, pattern = Images(f"{root}/shards", min_size=1), Images(f"{root}/shards/{{0..1}}.tar", min_size=1)
    assert [whole.key(index) for index in (0, 1, 24)] == ["loose", "0/000", "1/023"]
    assert pattern.key(0) == Images(f"{root}/shards/0.tar", min_size=1).key(0) == "0/000"
    assert torch.equal(pattern[13].image, Images(images, min_size=1)[3].image)
    assert bucket.names("shards") == ["0.tar", "0.tar.index", "1.tar", "1.tar.index", "loose.png"]
    with monkeypatch.context() as patch:  # the kept index spares the headers
        patch.setattr(BucketStore, "open", None)
        assert len(Images(f"{root}/shards", min_size=1)) == 25

    store, plan = planned(tmp_path / "out", f"{root}/shards/{{0..1}}.tar")
    assert plan.base == f"{root}/shards"
    run(tmp_path / "out")
    compact(store, plan)
    assert torch.equal(Labels(tmp_path / "out")[13].image, pattern[13].image)
    bucket.write("shards/1.tar", bucket.read("shards/1.tar") + b"\0" * 512)
    with pytest.raises(DataError, match=r"shards/1.tar changed since the plan was made"):
        work(tmp_path / "out")(plan.units - 1)
    with pytest.raises(DataError, match=r"2.tar does not exist"):
        Images(f"{root}/shards/{{0..2}}.tar")


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    coarse = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # a turned camera
    Image.fromarray(coarse).resize((1600, 1200), Image.Resampling.BICUBIC).save(photos / "a.jpg", exif=exif)
    teacher = TeacherAnswers("starter/tiny", {}, None, "fp32", "cpu")
    data = (photos / "a.jpg").read_bytes()
    small, whole = read_image(data, {}, [teacher])
    large, _ = read_image(data, {"min_side": 10_000}, [teacher])
    assert tuple(small.shape) == (3, 800, 600)  # twice 352 x 256, or more
    assert whole == tuple(large.shape[-2:]) == (1600, 1200)
    near, exact = (teacher.ask(teacher.prepare("a", image)[None]).depth for image in (small, large))
    assert (near - exact).abs().max() < 0.05 * (exact.amax() - exact.amin())
    settings = Settings({"root": str(photos)}, [{"name": "starter/tiny", "options": {}}])
    store = FolderStore(tmp_path / "out")
    plan = make_plan(store, settings, [teacher.about])
    Labeller(store.root, teachers=[teacher])(0)
    compact(store, plan)
    labels = Labels(store.root)
    assert labels[0].image.shape == (3, 1600, 1200)
    assert (labels.scores(0)["height"], labels.scores(0)["width"]) == (1600, 1200)


def test_pointwise_convolutions_of_one_thread_are_computed_by_onednn():
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        usual = TeacherAnswers("starter/tiny", {}, None, "fp32", "cpu")
        torch.set_num_threads(1)
        teacher = TeacherAnswers("starter/tiny", {}, None, "fp32", "cpu")
        told = []
        for one in (usual, teacher):
            with torch.profiler.profile() as profile:
                depth = one.ask(pictures).depth
            told.append((depth, {event.key for event in profile.key_averages()}))
    finally:
        torch.set_num_threads(before)
    (expected, plain), (depth, sent) = told
    assert torch.allclose(depth, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    if torch.backends.mkldnn.is_available():
        assert "aten::_slow_conv2d_forward" in plain - sent


def test_a_network_that_cannot_take_pixels_with_their_channels_together_is_asked_as_it_is():
    answers = TeacherAnswers("starter/tiny", {}, None, "fp32", "cpu")
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = answers.ask(pictures).depth
    convolution = next(module for module in answers._model.modules() if isinstance(module, torch.nn.Conv2d))
    convolution.register_forward_hook(lambda module, inputs, output: output.view(len(output), -1).view_as(output))
    assert torch.allclose(answers.ask(pictures).depth, expected, rtol=1e-4, atol=1e-5)
    assert not answers._last
