"""Every shipped configuration is validated and run for a few steps; recipes say what they miss."""

import re
import shlex
from pathlib import Path

import pytest

from dadkit.config import ConfigError, load_run
from dadkit.training.run import train

ROOT = Path(__file__).parents[1]
SELF_CONTAINED = sorted((ROOT / "configs").glob("*.yaml"))
PAPERS = ROOT / "configs" / "papers"
RECIPES = sorted(PAPERS.rglob("*.yaml"))
PICTURES = ROOT / "configs" / "images"

# Recipes with models and data that a test can afford; losses, optimiser and everything else stay as they are shipped.
SMALL_RUN = ("data.workers=0", "precision=fp32", "report=false", "losses.anchor.warmup_maps=2")
SCENES = "[{name: procedural, options: {count: 4, size: 64}}]"
TINY = "{name: dav2/tiny, options: {weights: none}}"
_SHORT = ("iterations=2", "batch_size=2")
VIEWS = {
    "whole": "{view_size: 56}",
    "shared": "{view_size: 56, crop_min: 56}",
    "local-global": "{view_size: 56, crop_min: 80, patch_size: 56, n: 2, overlap: 8}",
}


def small(file):
    """Overrides that make a recipe small."""
    name = file.relative_to(PAPERS).with_suffix("").as_posix()
    family, _, row = name.partition("/")
    return [*SMALL_RUN, *{
        "distill_any_depth": _distill_any_depth,
        "depth_anything_v1": _depth_anything_v1,
        "lightweight": _lightweight if row in ("", "ours") else _lightweight_ablation,
        "adapt": _adapt,
        "metric": _metric,
        "zipdepth": _zipdepth,
        "metric_student": _metric_student,
        "completion": _completion,
    }[family](row)]  # fmt: skip


def _distill_any_depth(row):
    context = "whole" if row == "table2-neither" else "shared" if "shared" in row else "local-global"
    student = {"table3-dal-midasl": "midas/tiny", "table3-midasl-midass": "midas/tiny-conv"}.get(row, "dav2/tiny")
    two = row in ("table4-average", "table4-select")
    return [
        f"student={{name: {student}}}",
        f"teachers=[{TINY}{f', {TINY}' if two else ''}]",
        "losses.feature.reference={name: dinov2/tiny}",
        f"contexts.options={VIEWS[context]}",
        f"data.root={PICTURES}",
        "iterations=2",
        "batch_size=2",
    ]


def _depth_anything_v1(row):
    student = "{name: dav2/tiny, options: {version: v1}}"
    given = [f"student={student}", f"data.root={PICTURES}", f"data.labelled={SCENES}", f"contexts.options={VIEWS['shared']}"]
    given += ["batch_size=4", "stages.student.iterations=2"]
    if row == "labelled-only":
        return [*given[:1], *given[2:]]
    if row == "labels":  # the stored maps are asked for here
        given[1:2] = [f"data.unlabelled={SCENES}", f"teachers=[{TINY}]", "losses.feature.reference={name: dinov2/tiny}"]
        return given
    return [*given, "stages.teacher.iterations=2", "stages.student.losses.feature.reference={name: dinov2/tiny}"]


DEPTH_TEACHER = "teachers=[{name: genpercept/tiny, options: {space: depth, variant: dpt}}]"
DEPTH_STUDENT = "student={name: topformer/tiny, options: {space: depth}}"
DEPTH_RUN = [DEPTH_STUDENT, "contexts.options={view_size: 64}", "batch_size=2"]


def _lightweight(row):
    return [
        *DEPTH_RUN,
        f"stages.labelled.data.labelled={SCENES}",
        "stages.labelled.iterations=2",
        f"stages.distil.{DEPTH_TEACHER}",
        f"stages.distil.data.root={PICTURES}",
        "stages.distil.iterations=2",
    ]


def _lightweight_ablation(row):
    taught = [] if row == "student" else [DEPTH_TEACHER, f"data.unlabelled={SCENES}", "losses.feature.reference_tap=up0"]
    return [*DEPTH_RUN, *taught, f"data.labelled={SCENES}", "iterations=2"]


def _adapt(row):
    return [*DEPTH_RUN, DEPTH_TEACHER, f"data.root={PICTURES}", "iterations=2"]


def _metric(row):
    return [
        "student={name: dav2/tiny-metric, options: {max_depth: 20}}",
        f"data.labelled={SCENES}",
        f"contexts.options={VIEWS['shared']}",
        "iterations=2",
        "batch_size=2",
    ]


def _zipdepth(row):
    if row == "labels":
        return ["student={name: zipdepth/small}", f"data.labelled={SCENES}", f"contexts.options={VIEWS['shared']}", *_SHORT]
    context = "local-global" if row == "ours" else "shared"
    return [
        "student={name: zipdepth/small}",
        f"teachers=[{TINY}]",
        f"data.root={PICTURES}",
        f"contexts.options={VIEWS[context]}",
        *_SHORT,
    ]


def _metric_student(row):
    return [
        "student={name: zipdepth/small, options: {space: metric}}",
        "teachers=[{name: moge/tiny}]",
        f"data.root={PICTURES}",
        f"contexts.options={VIEWS['whole']}",
        "iterations=2",
        "batch_size=2",
    ]


def _completion(row):
    return [
        "student={name: refine, options: {width: 8, grid: 32}}",
        "completion.inputs=[{name: topformer/tiny, options: {space: depth}}]",
        f"data.labelled={SCENES}",
        "contexts.options={view_size: 64, crop_min: 64}",
        "iterations=2",
        "batch_size=2",
    ]


def named(file):
    return file.relative_to(PAPERS).with_suffix("").as_posix()


@pytest.fixture(autouse=True)
def _from_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)  # configs/photos.yaml names its pictures from there, as its user does


@pytest.mark.parametrize("file", SELF_CONTAINED, ids=lambda file: file.stem)
def test_a_self_contained_config_runs(file, tmp_path):
    run = load_run(file, [f"output={tmp_path}"])
    short = [f"stages.{stage.name}.iterations=2" for stage in run.stages]
    fewer = [f"stages.{stage.name}.batch_size=4" for stage in run.stages]
    overrides = [f"output={tmp_path}", "data.workers=0", "losses.anchor.warmup_maps=4", *short, *fewer]
    overrides += ["evaluation.limit=2"] if run.evaluation else []
    result = train(load_run(file, overrides))
    assert [record.step for record in result.stages] == [2] * len(run.stages)
    assert not run.evaluation or {"teacher", "student"} <= {row.model for row in result.evaluations}
    assert (result.folder / "report.html").is_file()


ROWS = {
    "distill_any_depth": 8 + 4 + 3 + 4,
    "depth_anything_v1": 4 + 3 + 1,
    "lightweight": 1 + 8 + 1 + 1,
    "metric": 3,
    "zipdepth": 2,
}
"""Files below each recipe: Tables 1 to 4; terms, margin and labels; student, KD rows, ours and what these share; data sets."""


def test_every_row_of_the_papers_tables_is_there_and_short():
    for family, count in ROWS.items():
        rows = sorted((PAPERS / family).glob("*.yaml"))
        assert len(rows) == count, family
        for file in rows:
            lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
            assert file.stem == "ablation" or (lines[0].startswith("extends: ") and len(lines) <= 8), file


@pytest.mark.parametrize("file", sorted(PAPERS.rglob("table3-*.yaml")), ids=named)
def test_the_baselines_of_table_3_are_what_their_files_say_to_write(file):
    said = re.search(r"behind the file, (.*?)\n# (.*?)\.\n", file.read_text())
    run = load_run(file, [*small(file), *shlex.split(" ".join(said.groups()))])
    losses = run.stages[0].losses
    assert losses.shared.normalizer.name == "global"
    assert losses.local_global.weight == 0


@pytest.mark.parametrize("file", sorted(PAPERS.glob("*.yaml")), ids=named)
def test_the_command_in_a_recipes_header_gives_all_that_is_missing(file):
    said = re.search(r"#     (dadkit train (?:.*\\\n)*.*)\n#\n", file.read_text()).group(1).replace("\\\n#", " ")
    _, _, name, *given = shlex.split(said.partition(" …")[0])
    if " …" in said:  # a folder for each of the labelled sets
        given += [f"data.labelled.{index}.options.root=/data/{index}" for index in range(1, 6)]
    run = load_run(name, given)
    assert run.name == file.stem


@pytest.mark.parametrize("file", RECIPES, ids=named)
def test_a_recipe_says_in_one_message_what_is_missing(file):
    with pytest.raises(ConfigError, match="must be given") as caught:
        load_run(file)
    assert any(problem.path.startswith(("data.", "stages.")) for problem in caught.value.problems)
    assert all("must be given" in problem.message and "write " in problem.message for problem in caught.value.problems)


@pytest.mark.parametrize("file", RECIPES, ids=named)
def test_a_recipe_runs_with_small_models(file, tmp_path):
    run = load_run(file, [f"output={tmp_path}", *small(file)])
    result = train(run)
    assert [record.step for record in result.stages] == [2] * len(run.stages)
    assert (result.folder / "stages" / run.stages[-1].name / "model.safetensors").is_file()
    assert run.name == file.stem
    assert bool(result.stages[-1].unsound) == run.stages[-1].allow_unsound
