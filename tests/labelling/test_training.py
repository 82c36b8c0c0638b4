"""A student that learns from stored labels learns what it would have learnt from the teacher beside it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.config import ConfigError, load_run
from dadkit.contexts import LocalGlobal, Shared, Whole
from dadkit.data import Images, Labels, Member, Stream
from dadkit.data.images import exif_camera
from dadkit.data.label_set import cells
from dadkit.data.sampling import Windows
from dadkit.data.store import FolderStore
from dadkit.errors import DataError, SampleError
from dadkit.interfaces import resize_camera
from dadkit.labelling import Labeller, PlanError, compact, make_plan, verify
from dadkit.labelling.answers import ImportedAnswers, TeacherAnswers
from dadkit.loading import load_teacher, read_card
from dadkit.losses import ssi_loss
from dadkit.training import train
from dadkit.training.labels import label
from tests.labelling.conftest import SETTINGS, Dim, planned, run


@pytest.mark.parametrize("size", [64, (48, 80)])
def test_training_from_labels_equals_training_with_the_teacher_up_to_the_codec(size, images, tmp_path):
    (images / "broken.jpg").unlink()
    view = (size, size) if isinstance(size, int) else size
    store = FolderStore(tmp_path / "out")
    teachers = [{"name": "starter/small", "options": {}}]
    settings = replace(
        SETTINGS, images={"root": str(images), "min_size": 1}, teachers=teachers, size=view, codec="png16", unit=12
    )
    answers = TeacherAnswers("starter/small", {}, view, "fp32", "cpu")
    plan = make_plan(store, settings, [answers.about])
    labeller = Labeller(store.root, teachers=[answers], threads=1)
    for unit in range(plan.units):
        labeller(unit)
    compact(store, plan)

    teacher = load_teacher("starter/small")
    options = {"batch_size": 4, "seed": 3, "name": "main", "flip": 0.0}
    online = Stream([Member("images", Images(images, min_size=1))], Whole(size), **options)
    stored = Stream([Member("labels", Labels(store.root))], Whole(size), labelled=True, **options)
    losses = []
    torch.manual_seed(0)
    students = [torch.nn.Conv2d(3, 1, 5, padding=2) for _ in range(2)]
    students[1].load_state_dict(students[0].state_dict())
    for _ in range(4):
        batch, kept = next(online), next(stored)
        assert batch.keys == kept.keys
        assert torch.equal(batch.images, kept.images)
        asked = label(teacher, batch.images, None, teacher.spec.space).region
        spread = asked.amax((1, 2, 3)) - asked.amin((1, 2, 3))
        assert ((asked - kept.depth).abs().amax((1, 2, 3)) <= spread / 65534 + 1e-5 * spread).all()
        step = []
        for student, target in zip(students, (asked, kept.depth), strict=True):
            loss = ssi_loss(student(batch.images.float() / 255), target)
            student.zero_grad()
            loss.backward()
            for parameter in student.parameters():
                parameter.data -= 1e-3 * parameter.grad
            step.append(loss.item())
        losses.append(step)
    assert torch.tensor(losses)[:, 0].allclose(torch.tensor(losses)[:, 1], rtol=1e-3)


def test_views_are_cut_from_maps_of_another_size_and_windows_keep_reads_together(images, tmp_path):
    store, plan = planned(tmp_path / "out", images)
    run(tmp_path / "out")
    compact(store, plan)
    labels = Labels(tmp_path / "out", window=2)
    stream = Stream([Member("labels", labels)], Shared(16, 16, 20), batch_size=6, seed=0, name="a", labelled=True)
    keys = [key for _ in range(4) for key in next(stream).keys]
    assert sorted(keys) == sorted(labels.key(index) for index in range(24))  # an epoch: each once
    resumed = Stream([Member("labels", labels)], Shared(16, 16, 20), batch_size=6, seed=0, name="a", labelled=True)
    resumed.seek(12)
    assert list(next(resumed).keys) == keys[12:18]
    units = [int(key) // 5 for key in keys]  # all but one unit have five labels
    assert len(set(units[:9])) <= 2
    drawn = Windows(torch.tensor([3, 4, 9]).numpy(), window=2)
    assert len({drawn(number, 1, skip=skip) for number in (0, 9) for skip in range(9)}) == 9


def test_patches_are_stored_and_serve_local_global(images, tmp_path, dadkit):
    store, plan = planned(
        tmp_path / "out", images, views="patches", patch_size=16, overlap=4, source_license="terms of the photographs"
    )
    run(tmp_path / "out")
    compact(store, plan)
    assert verify(store, plan) == []
    whole, labels = Labels(store.root), Labels(store.root, views="patches")
    assert (len(labels), labels[3].key) == (24, whole[3].key)
    for index in (0, 1, 2):  # pictures of three sizes
        height, width = labels[index].image.shape[-2:]
        boxes = cells(height, width, 16, 4)
        drawn = [labels[index + 24 * epoch] for epoch in range(len(boxes))]
        assert {sample.part for sample in drawn} == set(boxes)
        for sample in drawn:
            x0, y0, x1, y1 = sample.part
            expected = Dim().ask_patches(sample.image[None, :, y0:y1, x0:x1])
            assert (sample.depth - expected.depth[0].masked_fill(expected.sky[0], 0)).abs().max() < 1e-3
    contexts = LocalGlobal(24, 24, 30, patch_size=16, n=1, overlap=4)
    stream = Stream([Member("l", labels)], contexts, batch_size=24, seed=0, name="s", labelled=True, patches=False, flip=0.0)
    first, second = next(stream), next(stream)
    assert sorted(first.keys) == sorted(second.keys)
    share = first.valid.float().mean((1, 2, 3))
    assert ((share > (16 / 31) ** 2) & (share < (17 / 24) ** 2)).all()  # the whole patch is in each region

    config = tmp_path / "run.yaml"
    config.write_text(
        f"""
        name: r
        output: {tmp_path}/runs
        student: {{name: starter/tiny, options: {{weights: none}}}}
        data: {{labelled: [{{name: labels, options: {{root: {store.root}, views: patches}}}}]}}
        contexts: {{name: local-global, options: {{view_size: 32, crop_min: 24, patch_size: 16, n: 1, overlap: 4}}}}
        losses: {{labelled: {{normalizer: {{name: global}}}}}}
        perturb: {{cutmix: {{probability: 0}}}}
        iterations: 2
        batch_size: 2
        report: false
        """
    )
    assert dadkit("train", config).code == 0
    file = next((tmp_path / "runs/r").rglob("model.safetensors"))
    assert read_card(file).licenses[-2:] == ["CC0-1.0", "terms of the photographs"]
    refused = dadkit("train", config, "data.labelled.0.options.views=whole", "name=other")
    assert refused.code != 0
    assert "`dadkit label --views patches`" in refused.err
    assert "CutMix pastes between unlabelled images" in dadkit("train", config, "perturb.cutmix.probability=0.5").err
    planned(tmp_path / "plain", images)
    run(tmp_path / "plain")
    compact(*planned(tmp_path / "plain", images))
    with pytest.raises(DataError, match="whole pictures only"):
        Labels(tmp_path / "plain", views="patches")


@pytest.mark.parametrize("views", ["whole", "patches"])
def test_metres_follow_the_camera_of_each_photograph(views, tmp_path):
    """Labels of one picture taken with two lenses differ by their focal lengths; without one there are no metres."""
    photos = tmp_path / "photos"
    photos.mkdir()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))
    for name, millimetres in {"a": 26, "b": 52, "c": 0}.items():
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0xA405] = millimetres
        picture.save(photos / f"{name}.jpg", exif=exif)
    chosen = {"name": "topformer/tiny", "options": {"space": "metric", "canonical_focal": 100.0}}
    settings = replace(
        SETTINGS, images={"root": str(photos), "min_size": 1}, teachers=[chosen], codec="png16",
        views=views, patch_size=64, overlap=4, source_license="ours",
    )  # fmt: skip
    torch.manual_seed(0)
    teacher = TeacherAnswers(chosen["name"], chosen["options"], None, "fp32", "cpu")
    store = FolderStore(tmp_path / "out")
    plan = make_plan(store, settings, [teacher.about])
    record = Labeller(store.root, teachers=[teacher], threads=1)(0)
    (error,) = record["errors"]
    assert (error["key"], "its camera is unknown, and a teacher has metres only with one" in error["text"]) == ("c", True)
    compact(store, plan)
    labels = Labels(store.root, views=views)
    near, far = labels[0], labels[1]
    assert (near.space, near.key) == ("metric", "a")
    assert math.isclose(far.depth.mean(), 2 * near.depth.mean(), rel_tol=0.01)  # patches may be others of the same picture
    if views == "whole":
        assert torch.allclose(near.intrinsics, exif_camera(photos / "a.jpg", (60, 80)))
        prepared = teacher.prepare("a", near.image)[None]
        expected = teacher._model(prepared, resize_camera(near.intrinsics, (60, 80), prepared.shape[-2:])[None])
        assert torch.allclose(near.depth, expected.depth[0], rtol=1e-3)

    # A file of cameras comes first: the third picture has one now.
    cameras = tmp_path / "cameras.json"
    cameras.write_text('{"c": {"fx": 200, "fy": 200, "cx": 40, "cy": 30}}')
    settings = replace(settings, images={**settings.images, "intrinsics": str(cameras)})
    again = FolderStore(tmp_path / "again")
    plan = make_plan(again, settings, [teacher.about])
    assert Labeller(again.root, teachers=[teacher], threads=1)(0)["errors"] == []
    compact(again, plan)
    ratio = float(Labels(again.root, views=views)[2].depth.mean() / near.depth.mean())
    assert math.isclose(ratio, 200 / float(exif_camera(photos / "a.jpg", (60, 80))[0, 0]), rel_tol=0.01)
    cameras.write_text(cameras.read_text().replace("200", "300"))
    for refused in (lambda: make_plan(again, settings, [teacher.about]), lambda: Labeller(again.root, teachers=[teacher])):
        with pytest.raises(PlanError, match=r"another plan \(cameras: \w+ there, \w+ here\)"):
            refused()
    # A plan of an earlier version holds no hash, and is no other plan for that.
    old = json.loads((tmp_path / "again/plan.json").read_text())
    del old["settings"]["cameras"]
    (tmp_path / "again/plan.json").write_text(json.dumps(old))
    Labeller(again.root, teachers=[teacher])
    cameras.unlink()
    with pytest.raises(PlanError, match="cannot read the file of cameras"):
        make_plan(again, settings, [teacher.about])


def test_stored_labels_are_perturbed_as_images_that_teachers_label_are(images, tmp_path):
    store, plan = planned(tmp_path / "out", images)
    run(tmp_path / "out")
    compact(store, plan)
    labels = Labels(store.root)
    true = [replace(labels[index], scaled=False, depth=torch.ones_like(labels[index].image[:1]).float()) for index in range(24)]
    true = [replace(sample, valid=None) for sample in true]
    options = {"batch_size": 4, "seed": 0, "name": "s", "labelled": True, "perturb": lambda image, generator: 255 - image}
    stored, truth = (next(Stream([Member("x", data)], Whole(16), **options)) for data in (labels, true))
    assert torch.equal(stored.student_images, 255 - stored.images)
    assert torch.equal(truth.student_images, truth.images)
    assert torch.equal(stored.images, truth.images)


def test_stored_maps_take_the_teachers_place_where_cutmix_and_features_are_wanted(images, tmp_path, dadkit, monkeypatch):
    (images / "broken.jpg").unlink()
    labels = tmp_path / "labels"
    command = ["label", f"data.root={images}", "data.min_size=1", "-t", "starter/tiny", "-o", labels, "--workers", 0]
    assert dadkit(*command, "--size", 32, "--codec", "png16", "--source-license", "mine").code == 0
    config = tmp_path / "run.yaml"
    config.write_text(
        f"""
        output: {tmp_path}/runs
        student: {{name: starter/tiny, options: {{weights: none}}}}
        contexts: {{name: whole, options: {{view_size: 32}}}}
        losses:
          local_global: {{weight: 0}}
          feature: {{weight: 1, reference: {{name: dinov2/tiny}}}}
        perturb: {{cutmix: {{probability: 1}}}}
        data: {{workers: 0}}
        flip: 0
        iterations: 1
        log_every: 1
        batch_size: 4
        report: false
        """
    )
    stored = f"data.unlabelled=[{{name: labels, options: {{root: {labels}}}}}]"
    pictures = f"data.unlabelled=[{{name: images, options: {{root: {images}, min_size: 1}}}}]"
    told = {}
    for name, changes in {"stored": [stored], "asked": [pictures, "teachers=[{name: starter/tiny}]"]}.items():
        result = train(load_run(config, [*changes, f"name={name}"]))
        rows = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
        told[name] = next(row for row in rows if "loss/total" in row)
    for term in ("loss/shared", "loss/gradient", "loss/anchor"):
        assert told["stored"][term] == pytest.approx(told["asked"][term], rel=2e-3)
    assert min(row["loss/feature"] for row in told.values()) > 0  # of encoders with different random weights
    assert "mine" in read_card(next((tmp_path / "runs/stored").rglob("model.safetensors"))).licenses
    for change, reason in (
        ("losses.feature.reference=teacher", "the features of 'teacher' are wanted"),
        ("losses.local_global.weight=1", "the maps of this stage are stored"),
    ):
        with pytest.raises(ConfigError, match=reason):
            load_run(config, [stored, change])
    monkeypatch.setattr(Labels, "answered", False)  # it is not known by its name
    with pytest.raises(ConfigError, match="images without labels need teachers"):
        load_run(config, [stored, "losses.feature.weight=0"])


def test_two_teachers_label_in_one_pass(images, tmp_path):
    store, plan = planned(tmp_path / "out", images, teachers=[{"name": "dim", "options": {}}] * 2, scores=["agree"])
    both = Labeller(store.root, threads=1, teachers=[Dim(), Dim(bit=1.0)])
    for unit in range(plan.units):
        both(unit)
    compact(store, plan)
    assert verify(store, plan) == []
    first, second = (Labels(store.root, teacher=which) for which in (0, 1))
    for index in (0, 7, 23):
        one, other = first[index], second[index]
        assert torch.equal(one.image, other.image)
        expected = one.depth + (one.depth > 0)
        assert (other.depth - expected).abs().max() < 2e-3
        assert 0 < first.scores(index)["agree"] < 0.5  # only the smallest value tells them apart
    with pytest.raises(DataError, match="labels of 2 teachers, so there is no teacher 2"):
        Labels(store.root, teacher=2)


@pytest.mark.parametrize("kind", ["json", "arrays"])
def test_zipdepths_index_is_imported(kind, images, tmp_path):
    samples = []
    for number, file in enumerate(sorted(images.glob("*.png"))[:6]):
        values = np.full((18, 24), number + 1, np.float32)
        np.save(depth := tmp_path / f"map-{number}.npy", values)
        samples.append({"rgb": str(file), "depth": str(depth), "domain": "a"})
    if kind == "json":
        (tmp_path / "index.json").write_text(json.dumps({"samples": samples}))
    else:
        for name in ("rgb", "depth"):
            np.save(tmp_path / f"index_{name}.npy", np.array([sample[name].encode() for sample in samples]))
    answers = ImportedAnswers(str(images), index=str(tmp_path / "index.json"))
    assert [answers.prepare(f"{number:03}", torch.zeros(3, 36, 48)).max() for number in range(6)] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(SampleError, match="the index names no map of"):
        answers.prepare("023", torch.zeros(3, 36, 48))


def test_labels_are_chosen_by_scores_only_where_a_configuration_says_so(images, tmp_path):
    store, plan = planned(tmp_path / "out", images)
    run(tmp_path / "out")
    compact(store, plan)
    every = Labels(tmp_path / "out")
    values = sorted(every.scores(index)["sharpness"] for index in range(24))
    best = Labels(tmp_path / "out", min_score={"sharpness": values[12]})
    assert len(every) == 24
    assert len(best) == sum(value >= values[12] for value in values)
    assert all(best.scores(index)["sharpness"] >= values[12] for index in range(len(best)))
    from dadkit.labelling.page import write_page

    write_page(tmp_path / "out", tmp_path / "page.html")
    page = Path(tmp_path / "page.html").read_text()
    assert "sharpness, lowest" in page
    assert "near duplicates: 0" in page


def test_the_command_labels_goes_on_checks_and_refuses(images, tmp_path, dadkit):
    out = tmp_path / "out"
    command = ["label", f"data.root={images}", "data.min_size=1", "-t", "starter/small", "-o", out, "--workers", 0]
    command += ["--unit", 9, "--size", 32, "--scores", "flip"]
    dry = dadkit(*command, "--dry-run")
    assert dry.code == 0
    assert "25 images in 3 units" in dry.err
    assert "png16:" in dry.err
    assert not out.exists()
    assert "24 labels" in dadkit(*command).err
    again = dadkit(*command)
    assert "3 of them finished before" in again.err
    assert "0 labels" in again.err
    assert dadkit("label", "-o", out, "--verify").code == 0
    assert "flip" in Labels(out).scores(0)
    refused = dadkit(*command, "--codec", "png16")
    assert refused.code == 2
    assert "labels of another plan" in refused.err
    imported = tmp_path / "maps"
    assert dadkit("predict", images / "000.png", images / "001.png", "-o", imported, "-f", "npy").code == 0
    teacher = f"import:root={imported},encoding=npy,space=disparity"
    command = ["label", f"data.root={images}", "data.min_size=1", "-t", teacher, "-o", tmp_path / "in", "--workers", 0]
    assert dadkit(*command, "--max-error-rate", 1).code == 0
    assert len(Labels(tmp_path / "in")) == 2
