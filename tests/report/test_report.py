"""The report of a run folder: self-contained, honest about what is missing."""

import json
import re

import pytest
import torch
from PIL import Image

from dadkit.evaluation import METRICS
from dadkit.report import write_report


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / "demo"
    (folder / "stages" / "student" / "samples").mkdir(parents=True)
    for step in (10, 20, 30):
        picture = torch.randint(0, 255, (20, 60, 3), dtype=torch.uint8).numpy()
        Image.fromarray(picture).save(folder / "stages" / "student" / "samples" / f"step-{step:08d}.jpg")
    Image.new("RGB", (30, 20)).save(folder / "evaluation.jpg")
    (folder / "config.yaml").write_text("name: demo  # <b>not bold</b>\n")
    metadata = {"versions": {"dadkit": "0.1.0"}, "stages": [{"name": "student", "unsound": ["local_global: none"]}]}
    (folder / "run.json").write_text(json.dumps(metadata))
    lines = [
        {"stage": "student", "step": step, "loss/total": 1 / step, "loss/shared": None, "grad_norm": 2.0, "lr/decoder": 1e-3}
        for step in (10, 20, 30)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"stage": "stu')
    return folder


def _evaluation(folder):
    good, bad = dict.fromkeys(METRICS, 0.25), dict.fromkeys(METRICS, 0.5)
    results = {
        "protocol": {"name": "affine-disparity", "summary": "words", "min_depth": 0.001, "max_depth": 100.0},
        "models": [
            {"model": "teacher <x>", "images": 4, "skipped": [], "mean": good},
            {"model": "student", "images": 4, "skipped": ["a"], "mean": bad},
        ],
    }
    (folder / "evaluation.json").write_text(json.dumps(results))


def test_the_page_is_self_contained_and_complete(run_folder):
    _evaluation(run_folder)
    page = write_report(run_folder).read_text()
    assert "teacher &lt;x&gt;" in page
    assert "0.2500" in page
    assert "affine-disparity" in page
    assert "Stage student" in page
    assert page.count("data:image/jpeg;base64,") == 3  # strips, first and last sample grid
    assert "<svg" in page
    assert "allow_unsound: local_global: none" in page
    assert "&lt;b&gt;not bold&lt;/b&gt;" in page
    assert not re.findall(r'(?:src|href)="(?!data:)(?!#)[^"]*"', page)


def test_an_unfinished_run_has_a_report_too(tmp_path):
    folder = tmp_path / "young"
    folder.mkdir()
    (folder / "config.yaml").write_text("name: young\n")
    page = write_report(folder).read_text()
    assert "Evaluation" not in page
    assert "young" in page
    assert "$" not in page


def test_best_values_are_bold(run_folder):
    _evaluation(run_folder)
    page = write_report(run_folder).read_text()
    teacher, student = re.findall(r"<tr><td>(?:teacher|student).*?</tr>", page)
    assert teacher.count("class=best") == 2  # AbsRel and RMSE: lower is better
    assert student.count("class=best") == 3  # the deltas: higher is better
