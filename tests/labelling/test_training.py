"""A student that learns from stored labels learns what it would have learnt from the teacher beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dadkit.contexts import Shared, Whole
from dadkit.data import Images, Labels, Member, Stream
from dadkit.data.sampling import nth_in_windows
from dadkit.labelling import Labeller, compact, make_plan
from dadkit.labelling.answers import TeacherAnswers
from dadkit.loading import load_teacher
from dadkit.losses import ssi_loss
from dadkit.training.labels import label
from tests.labelling.conftest import SETTINGS, planned, run


@pytest.mark.parametrize("size", [64, (48, 80)])
def test_training_from_labels_equals_training_with_the_teacher_up_to_the_codec(size, images, tmp_path):
    from dataclasses import replace

    from dadkit.data.store import FolderStore

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
                parameter.data -= 0.1 * parameter.grad
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
    ends = torch.tensor([3, 4, 9]).numpy()
    assert len({nth_in_windows(number, ends, 1, window=2, skip=skip) for number in (0, 9) for skip in range(9)}) == 9


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
