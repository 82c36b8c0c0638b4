"""`dadkit sweep`: variants, seeds, mean and spread."""

from __future__ import annotations

import json
import statistics
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from dadkit.cli import app
from dadkit.config import ConfigError
from dadkit.errors import DadkitError
from dadkit.training.run import RunResult
from dadkit.training.sweep import SweepError, plan, rows

RUN = """
student: {name: topformer/tiny}
teachers: [{name: dav2/tiny, options: {weights: none}}]
data: {unlabelled: [{name: procedural}]}
losses: {shared: {normalizer: {name: global}}}
iterations: 2
seed: 4
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text(RUN)
    return "toy.yaml"


def test_every_combination_with_every_seed(file):
    axes = ["losses.shared.normalizer.name=[hybrid, global]", "optim.lr=[1e-3, 0.5]"]
    variants = plan([file], ["iterations=5"], axes, 2)
    assert [variant.name for variant in variants] == [
        "toy-normalizer-hybrid-lr-0.001",
        "toy-normalizer-hybrid-lr-0.5",
        "toy-normalizer-global-lr-0.001",
        "toy-normalizer-global-lr-0.5",
    ]
    run = variants[1].runs[5]
    assert [*variants[1].runs] == [4, 5]
    assert (run.seed, run.name) == (5, "toy-normalizer-hybrid-lr-0.5-s5")
    stage = run.stages[0]
    assert (stage.optim.lr, stage.iterations, stage.losses.shared.normalizer.name) == (0.5, 5, "hybrid")


def test_whole_mappings_may_be_values(file):
    (one, other) = plan([file], [], ["perturb=[null, {}]"], [7])
    assert one.runs[7].stages[0].perturb is None
    assert other.runs[7].stages[0].perturb is not None


@pytest.mark.parametrize("axis", ["optim.lr", "optim.lr=3", "optim.lr=[]", "=[1]"])
def test_an_axis_is_a_key_and_a_list(file, axis):
    with pytest.raises(ConfigError, match=r"not key=\[value"):
        plan([file], [], [axis], 1)


def test_a_wrong_value_is_found_before_anything_is_trained(file):
    with pytest.raises(ConfigError, match=r"optim\.lr"):
        plan([file], [], ["optim.lr=[1e-3, fast]"], 1)


def test_variants_of_one_name_are_refused(file, tmp_path):
    (tmp_path / "other.yaml").write_text(RUN + "name: toy\n")
    with pytest.raises(SweepError, match="two variants would be trained into"):
        plan([file, "other.yaml"], [], [], 1)


def evaluation(model, value):
    return SimpleNamespace(
        model=model, protocol="affine-disparity", mean={"abs_rel": value, "delta1": 1 - value, "rmse": 2 * value}
    )


@pytest.fixture
def trained(monkeypatch):
    """Training that answers with the seed as its error; seeds in ``fails`` raise."""
    seen, fails = [], set()

    def train(run, *, fresh, console):
        seen.append((run.name, fresh))
        if run.seed in fails:
            raise DadkitError("no luck")
        rows = [evaluation("teacher", 0.1), evaluation("student", 0.1 * (1 + run.seed))]
        return RunResult(run.name, None, [], rows, 1.0)

    monkeypatch.setattr("dadkit.training.run.train", train)
    train.seen, train.fails = seen, fails
    return train


def call(*arguments):
    return CliRunner().invoke(app, ["sweep", *arguments], env={"COLUMNS": "200"})


def test_the_table_has_mean_and_spread(file, trained, tmp_path):
    result = call(file, "output=out", "--axis", "optim.lr=[1, 2]", "--seeds", "0,1,5")
    assert result.exit_code == 0, result.output
    values = [0.1, 0.2, 0.6]
    assert f"{statistics.fmean(values):.4f} ± {statistics.stdev(values):.4f}" in result.output
    assert "0.1000 ± 0.0000" in result.output  # the teacher
    assert [name for name, _ in trained.seen] == [f"toy-lr-{lr}-s{seed}" for lr in (1, 2) for seed in (0, 1, 5)]
    found = json.loads((tmp_path / "out" / "toy-sweep.json").read_text())
    assert [(row["variant"], row["model"]) for row in found] == [
        (f"toy-lr-{lr}", model) for lr in (1, 2) for model in ("teacher", "student")
    ]
    assert found[1]["seeds"]["5"]["abs_rel"] == pytest.approx(0.6)


def test_one_seed_has_no_spread(file, trained):
    result = call(file, "--seeds", "1", "output=out")
    assert result.exit_code == 0
    assert "±" not in result.output.split("over seeds")[1]
    assert "0.5000" in result.output  # seed 4, the file's own


def test_a_failure_costs_no_other_run(file, trained):
    trained.fails.add(5)
    result = call(file, "--seeds", "3", "output=out")
    assert result.exit_code == 1
    assert "no luck" in result.output
    assert len(trained.seen) == 3
    assert "0.6000 ± 0.1414" in result.output  # seeds 4 and 6
    assert "without a result: toy-s5\n" in result.output


def test_wrong_commands(file):
    assert call("optim.lr=1").exit_code == 2
    assert "number of seeds" in call(file, "--seeds", "none").output


@pytest.mark.parametrize("mine", [True, False])
def test_of_several_processes_one_reports_a_mistake(file, monkeypatch, mine):
    @contextmanager
    def join():
        yield SimpleNamespace(main=mine, several=True, reports=lambda error: mine)

    monkeypatch.setattr("dadkit.training.distributed.join", join)
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = call(file, "--seeds", "none")
    assert result.exit_code == 2
    assert result.output.count("number of seeds") == mine


def test_several_processes_stop_at_the_first_failure(file, trained, monkeypatch):
    @contextmanager
    def join():
        yield SimpleNamespace(main=True, several=True, reports=lambda error: True)

    monkeypatch.setattr("dadkit.training.distributed.join", join)
    monkeypatch.setenv("WORLD_SIZE", "2")
    trained.fails.add(5)
    result = call(file, "--seeds", "3", "output=out")
    assert result.exit_code == 1
    assert len(trained.seen) == 2  # seeds 4 and 5, not 6
    assert "0.5000" in result.output


def test_rows_without_results_are_left_out(file):
    assert rows(plan([file], [], [], 1)) == []
