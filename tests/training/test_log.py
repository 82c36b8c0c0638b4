"""What a run writes down while it trains."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from dadkit.pictures import INVALID
from dadkit.spaces import Space
from dadkit.training.metrics import MetricsFile, Window, read_metrics
from dadkit.training.progress import StageProgress, duration
from dadkit.training.samples import difference, match_scale, sample_grid, write_picture


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = MetricsFile(path, "one", start=0)
    for step in (1, 2, 3):
        first.write(step, {"loss/total": 1.0})
    second = MetricsFile(path, "two", start=0)
    for step in (1, 2, 3):
        second.write(step, {"loss/total": float("nan")})
    with path.open("a") as handle:
        handle.write('{"stage": "two", "st')  # torn by a crash
    MetricsFile(path, "two", start=2).write(3, {"loss/total": 2.0})
    lines = list(read_metrics(path))
    assert [(line["stage"], line["step"]) for line in lines] == [
        ("one", 1),
        ("one", 2),
        ("one", 3),
        ("two", 1),
        ("two", 2),
        ("two", 3),
    ]
    assert [line["loss/total"] for line in lines] == [1, 1, 1, None, None, 2]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_fresh_stage_forgets_what_an_earlier_attempt_logged(tmp_path):
    path = tmp_path / "metrics.jsonl"
    MetricsFile(path, "one", start=0).write(1, {})
    MetricsFile(path, "one", start=0)
    assert list(read_metrics(path)) == []


def test_the_window_averages_what_was_finite():
    window = Window()
    for value, finite in ((1.0, True), (float("nan"), False), (3.0, True)):
        window.add({"loss/total": torch.tensor(value)}, torch.tensor(finite), images=4, teachers=["a" if finite else "b"])
    window.add({"student/mad": torch.tensor(5.0)}, torch.tensor(True), images=4, teachers=["a"])
    values = window.close()
    assert values["loss/total"] == 2.0
    assert values["student/mad"] == 5.0
    assert (values["teacher/a"], values["teacher/b"]) == (0.75, 0.25)
    assert values["images_per_s"] > 0
    window.add({"loss/total": torch.tensor(7.0)}, torch.tensor(True), images=4, teachers=[])
    values = window.close()
    assert values["loss/total"] == 7.0
    assert "teacher/a" not in values


def test_waiting_is_a_share_of_the_time(monkeypatch):
    clock = iter([0.0, 0.0, 1.0, 4.0, 10.0, 10.0, 10.0])
    monkeypatch.setattr("dadkit.training.metrics.time.monotonic", lambda: next(clock))
    window = Window()
    with window.waiting():
        pass
    assert window.close()["data_wait"] == pytest.approx(0.3)


def test_a_bar_on_a_terminal_and_lines_elsewhere():
    for terminal in (True, False):
        console = Console(file=io.StringIO(), force_terminal=terminal, width=160)
        with StageProgress(console, "main", iterations=10, start=0) as progress:
            progress.log(5, {"total": 1.25, "shared": 0.5}, rate=12.34, wait=0.07)
            progress.warn("look [here]")
        text = console.file.getvalue()
        assert "total 1.25  shared 0.5" in text
        assert "12.3 images/s  data wait 7%" in text
        assert "warning: look [here]" in text
        assert ("━" in text) is terminal
        assert ("main: 5/10" in text) is not terminal


@pytest.mark.parametrize(("seconds", "text"), [(7, "0:07"), (754.4, "12:34"), (3723, "1:02:03")])
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("space", list(Space))
def test_the_sample_grid_has_a_row_per_image(space, tmp_path):
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    target = torch.rand(2, 1, 32, 32) + 0.5
    mask = torch.ones_like(target, dtype=torch.bool)
    mask[0, :, :5] = False
    target[0, :, :5] = torch.nan
    picture = sample_grid(
        images, torch.rand(2, 3, 4).sort(-1).values * 32, target, mask, target * 3 + 1, space=space, source="teacher"
    )
    assert picture.shape[0] > 2 * 160  # small views are enlarged
    assert picture.shape[1] > 4 * 160
    write_picture(tmp_path / "deep" / "step-1.jpg", picture)
    assert Image.open(tmp_path / "deep" / "step-1.jpg").size == picture.shape[1::-1]


def test_a_perturbed_view_has_the_clean_one_beside_it():
    clean = torch.full((1, 3, 160, 160), 200, dtype=torch.uint8)
    maps = torch.rand(1, 1, 160, 160)
    given = (torch.zeros(1, 0, 4), maps, maps > -1, maps)
    picture = sample_grid(clean // 4, *given, space=Space.DISPARITY, source="teacher", clean=clean)
    plain = sample_grid(clean // 4, *given, space=Space.DISPARITY, source="teacher")
    assert picture.shape[1] == plain.shape[1] + 164
    row = picture.shape[0] - 80
    assert [int(picture[row, 4 + 80, 0]), int(picture[row, 4 + 164 + 80, 0])] == [50, 200]


def test_the_student_is_shown_at_the_targets_scale():
    target = torch.rand(2, 1, 8, 8) * 7
    mask = torch.ones_like(target, dtype=torch.bool)
    torch.testing.assert_close(match_scale(0.1 * target + 5, target, mask), target, atol=1e-4, rtol=1e-4)
    flat = match_scale(torch.full_like(target, 2.0), target, mask)
    assert flat.isfinite().all()


def test_the_difference_is_black_where_there_is_none():
    target = torch.linspace(0, 1, 64).view(1, 8, 8)
    mask = torch.ones_like(target, dtype=torch.bool)
    mask[0, 0, 0] = False
    assert difference(target, target, mask)[1:].max() == 0
    assert (difference(target + 1, target, mask)[1:] == 255).all()
    assert (difference(target, target, mask)[0, 0] == INVALID).all()
    assert difference(target, target, ~mask & mask).dtype == np.uint8
