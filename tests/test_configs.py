"""Every shipped configuration is validated and run for a few steps; recipes say what they miss."""

from pathlib import Path

import pytest

from dadkit.config import ConfigError, load_run
from dadkit.training.run import train

ROOT = Path(__file__).parents[1]
SELF_CONTAINED = sorted((ROOT / "configs").glob("*.yaml"))
RECIPES = sorted((ROOT / "configs" / "papers").glob("*.yaml"))

SMALL_CONTEXTS = "{name: local-global, options: {view_size: 56, crop_min: 80, patch_size: 56, n: 2, overlap: 8}}"
SMALL_RUN = ("iterations=2", "batch_size=2", "data.workers=0", "precision=fp32")
GIVEN = {
    # A recipe with models that a test can afford; its losses, optimiser and everything else stay as they are shipped.
    "distill_any_depth": [
        "student={name: dav2/tiny}",
        "teachers=[{name: dav2/tiny, options: {weights: none}}]",
        f"data.root={ROOT / 'configs' / 'images'}",
        f"contexts={SMALL_CONTEXTS}",
        *SMALL_RUN,
    ],
}


@pytest.fixture(autouse=True)
def _from_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)  # configs/photos.yaml names its pictures from there, as its user does


@pytest.mark.parametrize("file", SELF_CONTAINED, ids=lambda file: file.stem)
def test_a_self_contained_config_runs(file, tmp_path):
    run = load_run(file, [f"output={tmp_path}"])
    short = [f"stages.{stage.name}.iterations=2" for stage in run.stages]
    small = [f"stages.{stage.name}.batch_size=2" for stage in run.stages]
    overrides = [f"output={tmp_path}", "data.workers=0", "evaluation.limit=2", *short, *small]
    result = train(load_run(file, overrides))
    assert [record.step for record in result.stages] == [2] * len(run.stages)
    assert [row.model for row in result.evaluations][:2] == ["teacher", "student"]
    assert (result.folder / "report.html").is_file()


def test_every_recipe_is_tested():
    assert [file.stem for file in RECIPES] == sorted(GIVEN)


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_recipe_says_in_one_message_what_is_missing(file):
    with pytest.raises(ConfigError, match="must be given") as caught:
        load_run(file)
    assert "data.root" in {problem.path for problem in caught.value.problems}
    assert all("write " in problem.message for problem in caught.value.problems)


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_recipe_runs_with_small_models(file, tmp_path):
    result = train(load_run(file, [f"output={tmp_path}", *GIVEN[file.stem]]))
    assert [record.step for record in result.stages] == [2]
    assert (result.folder / "stages" / "main" / "model.safetensors").is_file()
