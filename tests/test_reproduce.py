"""The miniature reproduction: its tables are valid, its verdicts right, and a row runs from scenes to page."""

import importlib
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[1] / "benchmarks" / "reproduce"
NAMES = ("1", "2", "4", "depth_anything", "lightweight")


@pytest.fixture
def modules(monkeypatch):
    """Import modules of the benchmark, which lie in no package."""
    monkeypatch.syspath_prepend(FOLDER)

    def load(name):
        return importlib.import_module(name)

    yield load
    for path in FOLDER.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A reproduction of tiny rows with two seeds: the program's answer and its files."""
    folder = tmp_path_factory.mktemp("reproduce")
    tiny = folder / "program"
    tiny.mkdir()
    for path in FOLDER.glob("*.py"):
        (tiny / path.name).write_text(path.read_text())
    shutil.copytree(FOLDER / "rendered", tiny / "rendered")
    setting = yaml.safe_load((FOLDER / "rendered" / "setting.yaml").read_text())
    setting["sets"] = {name: {**s, "count": 4} for name, s in setting["sets"].items()}
    (tiny / "rendered" / "setting.yaml").write_text(yaml.safe_dump(setting))
    (tiny / "tables").mkdir()
    for name in NAMES:
        table = yaml.safe_load((FOLDER / "tables" / f"{name}.yaml").read_text())
        if name == "4":  # the one that needs both teachers: keep what needs no other table
            del table["rows"]["student-of-primary"], table["rows"]["average"]
            table["orderings"] = [["select", "primary"], ["assistant", "primary"]]
        (tiny / "tables" / f"{name}.yaml").write_text(yaml.safe_dump(table))

    def run(*arguments):
        files = {"--work": folder / "work", "--output": folder / "out.json", "--page": folder / "page.md"}
        return subprocess.run(
            [sys.executable, tiny / "reproduce.py", *(part for option in files.items() for part in option), *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    small = ["--set", "iterations=2", "batch_size=2", "optim.warmup=0", "device=cpu"]
    first = run("--tables", "4", "--seeds", "2", *small)
    assert first.returncode == 0, first.stdout + first.stderr
    return folder, run, first.stdout, small


@pytest.mark.parametrize("setting", ["rendered", "real"])
@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_a_valid_run(name, setting, modules):
    from dadkit.plugin import Registry

    registry = Registry()
    registry.use_file(FOLDER / "local_models.py")
    table = modules("table")
    setting = table.load_setting(setting)
    loaded = table.load_table(name, setting)
    for row in loaded.rows.values():
        if row.trains:
            run = table.resolve(row, 7, registry=registry)
            assert run.seed == 7
            assert run.stages[-1].iterations
            assert not any(one in setting.lines or one in setting.changes for one in (row.model, *row.changes))
        else:
            assert row.source.trains


def test_an_ordering_that_the_paper_does_not_print_is_refused(modules):
    table = modules("table")
    loaded = table.load_table("1", table.load_setting("rendered"))
    with pytest.raises(table.TableError, match="do not say"):
        table._check_ordering(loaded, "shared-local", "shared-global")  # better on DIODE, worse on ETH3D
    with pytest.raises(table.TableError, match="no row"):
        table._check_ordering(loaded, "shared-hybrid", "shared-hybird")


def test_a_rows_runs_are_told_from_those_of_a_row_with_a_longer_name(modules, monkeypatch, tmp_path):
    rows, table = modules("rows"), modules("table")
    for name in ("lightweight-mse-s3", "lightweight-mse-sn-kl-s0", "lightweight-mse-s-1", "lightweight-cn-kl-pwd-s2"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / rows.NOTE).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rows, "read", lambda folder: folder.name)
    loaded = table.load_table("lightweight", table.load_setting("rendered"))
    assert rows.finished(loaded.rows["mse"]) == {3: "lightweight-mse-s3"}
    assert rows.finished(loaded.rows["mse+sn-kl"]) == {0: "lightweight-mse-sn-kl-s0"}
    assert rows.finished(loaded.rows["teacher"]) == {2: "lightweight-cn-kl-pwd-s2"}  # whose runs it takes


def test_more_seeds_are_for_rows_of_undecided_orderings(modules, monkeypatch):
    rows, table = modules("rows"), modules("table")
    loaded = table.load_table("depth_anything", table.load_setting("rendered"))
    errors = {"labelled-only": [0.3, 0.31, 0.32], "pseudo-labels": [0.2, 0.22, 0.24], "perturbations": [0.21, 0.21, 0.25]}
    runs = {
        name: {seed: rows.Finished({"scenes": {"student": {"abs_rel": x}}}, {}, "", "", {}, 0) for seed, x in enumerate(found)}
        for name, found in errors.items()
    }
    monkeypatch.setattr(rows, "finished", lambda row: runs.get(row.name, {}))
    # better than labelled-only by .09, .10, .07; than pseudo-labels by -.01, .01, -.01; feature-alignment was not run
    assert rows.undecided([loaded]) == {("depth_anything", "perturbations"), ("depth_anything", "pseudo-labels")}
    begun = []
    monkeypatch.setattr(rows, "prepare", lambda *args: {})
    monkeypatch.setattr(rows, "resolve", lambda row, seed, overrides: (row.name, seed))
    monkeypatch.setattr(rows, "_train", lambda run, built_on, say: begun.append(run))
    asked = [row for row in rows.sources([loaded]) if row.name in errors]
    assert rows.train_rows(asked, range(2, 4), [], print, needed=lambda row: row.same_as in rows.undecided([loaded]))
    assert begun == [*((name, 2) for name in errors), ("pseudo-labels", 3), ("perturbations", 3)]


def test_sets_are_made_of_what_was_given(modules, monkeypatch, tmp_path):
    import numpy as np
    from PIL import Image

    from dadkit.errors import DadkitError

    monkeypatch.chdir(tmp_path)
    sets = modules("sets")
    with pytest.raises(DadkitError, match="--given streets=PATH"):
        sets.write_set(Path("photographs/streets"), {"photographs": "streets", "shorter": 64}, say=print)
    (tmp_path / "given" / "streets").mkdir(parents=True)
    Image.new("RGB", (200, 100), "red").save("given/streets/wide.png")
    sets.write_set(Path("photographs/streets"), {"photographs": "streets", "shorter": 64}, say=print)
    with Image.open("photographs/streets/images/000000.jpg") as image:
        assert image.size == (128, 64)
    (tmp_path / "given" / "rgbd" / "middlebury").mkdir(parents=True)
    Image.new("RGB", (8, 6)).save("given/rgbd/middlebury/a.png")
    Image.fromarray(np.tile(np.uint8([0, 50] * 4), (6, 1))).save("given/rgbd/middlebury/a_disp.png")
    sets.write_set(Path("pairs/middlebury"), {"pairs": "rgbd", "set": "middlebury"}, say=print)
    assert np.load("pairs/middlebury/depth/000000.npy")[0].tolist() == [0, 2] * 4  # 0 is unknown; 100 / 50
    with pytest.raises(DadkitError, match="other options"):
        sets.write_set(Path("pairs/middlebury"), {"pairs": "rgbd", "set": "kitti"}, say=print)


def test_an_estimate_is_students_interval(modules):
    found = modules("verdict").estimate([1.0, 2.0, 3.0])
    half = 4.302653 / math.sqrt(3)  # t(0.975, 2) · 1 / √3
    assert (found.seeds, found.mean) == (3, 2.0)
    assert found.high - found.mean == pytest.approx(half, rel=1e-6)
    assert found.mean - found.low == pytest.approx(half, rel=1e-6)
    assert modules("verdict").estimate([1.0]).high == math.inf


@pytest.mark.parametrize(
    ("better", "worse", "answer"),
    [
        ([0.10, 0.11, 0.12], [0.20, 0.22, 0.21], "holds"),
        ([0.20, 0.22, 0.21], [0.10, 0.11, 0.12], "does not hold"),
        ([0.10, 0.11, 0.12], [0.09, 0.12, 0.13], "undecided"),
        ([0.10, 0.50, 0.90], [0.11, 0.51, 0.91], "holds"),  # paired: the spread between seeds does not matter
        ([0.10], [0.90], "undecided"),  # one seed says nothing
    ],
)
def test_verdicts(better, worse, answer, modules):
    values = {"a": dict(enumerate(better)), "b": dict(enumerate(worse))}
    assert modules("verdict").judge("a", "b", values).answer == answer


def test_only_common_seeds_are_compared(modules):
    judge = modules("verdict").judge
    found = judge("a", "b", {"a": {0: 1.0, 1: 1.0, 2: 9.0}, "b": {0: 2.0, 1: 2.5}})
    assert found.difference.seeds == 2
    assert found.difference.mean == pytest.approx(1.25)
    assert judge("a", "b", {"a": {0: 1.0}, "b": {1: 2.0}}) is None


def test_the_assistant_answers_in_a_clipped_unit_range(modules, monkeypatch):
    import torch

    from dadkit.testing.toy import ToyStudent

    bounded = modules("local_models")
    monkeypatch.setattr(bounded, "load_result", lambda path: ToyStudent())
    monkeypatch.setattr(bounded, "result_path", lambda path: path)
    teacher = bounded.Bounded("anywhere")
    depth, _ = teacher.estimate(torch.rand(2, 3, 160, 160))  # before it is brought to the image's size
    assert teacher.spec.range == (0.0, 1.0)
    for image in depth:
        assert (image.amin().item(), image.amax().item()) == (0, 1)
        assert (image == 0).float().mean().item() == pytest.approx(0.02, abs=0.002)
        assert (image == 1).float().mean().item() == pytest.approx(0.02, abs=0.002)


def test_a_row_runs_from_scenes_to_page(work):
    folder, _, _, _ = work
    found = json.loads((folder / "out.json").read_text())
    table = found["tables"]["4"]
    assert set(table["rows"]) == {"primary", "assistant", "select"}
    select = table["rows"]["select"]
    assert set(select["runs"]) == {"0", "1"}
    runs = [select["runs"][seed]["abs_rel"] for seed in ("0", "1")]
    assert select["abs_rel"]["mean"] == pytest.approx(sum(runs) / 2)
    assert runs[0] != runs[1]
    assert set(select["runs"]["0"]["built_on"]) == {"scenes/test", "scenes/unlabelled", "runs/primary", "runs/assistant"}
    assert (
        table["rows"]["primary"]["abs_rel"]["low"] == table["rows"]["primary"]["abs_rel"]["high"]
    )  # one teacher for both seeds
    assert found["not_run"] == ["1", "2", "depth_anything", "lightweight"]
    page = (folder / "page.md").read_text()
    assert "| select better than primary | 0.054 < 0.131, 0.258 < 0.262 |" in page
    assert "--tables 1 2 depth_anything lightweight" in page


def test_what_is_finished_is_not_done_again_unless_it_was_built_on_something_else(work):
    folder, run, first, small = work
    runs = folder / "work" / "runs"
    weights = {
        name: runs / name / "stages" / "main" / "model.safetensors" for name in ("4-select-s0", "4-select-s1", "primary")
    }
    before = {name: path.stat().st_mtime_ns for name, path in weights.items()}
    assert all(name in first for name in weights)
    note = runs / "4-select-s0" / "reproduce.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "built_on": {"runs/primary": "another one"}}))
    again = run("--tables", "4", "--seeds", "2", *small)
    assert again.returncode == 0, again.stdout + again.stderr
    trained = {name for name, path in weights.items() if path.stat().st_mtime_ns > before[name]}
    assert trained == {"4-select-s0"} == {name for name in weights if name + ":" in again.stdout}


@pytest.mark.parametrize(("name", "end"), [("rendered", ""), ("real", "_real")])
def test_the_published_page_says_what_the_results_say(name, end, modules):
    results = FOLDER.parent / "results" / f"reproduce{end}.json"
    page = FOLDER.parents[1] / "docs" / f"reproduction{end}.md"
    setting = modules("table").load_setting(name)
    assert page.read_text() == modules("page").page(json.loads(results.read_text()), setting)
