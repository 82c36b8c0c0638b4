"""`dadkit train`: several files, one table, no lost results."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from dadkit.cli import app
from dadkit.training.record import StageRecord
from dadkit.training.run import RunResult
from dadkit.training.signals import StoppedError

RUN = """
student: {name: topformer/tiny}
teachers: [{name: dav2/tiny, options: {weights: none}}]
data: {unlabelled: [{name: procedural}]}
iterations: 2
"""


@pytest.fixture
def trained(monkeypatch):
    """Runs by name, without training them; what is in ``fails`` raises."""
    seen, fails = [], {}

    def train(run, *, fresh, console):
        seen.append((run, fresh))
        if run.name in fails:
            raise fails[run.name]
        record = StageRecord("main", 0, "", "", 2, 2, 65.0, 10, 0, 0)
        return RunResult(run.name, None, [record], [], 65.0)

    monkeypatch.setattr("dadkit.training.run.train", train)
    train.seen, train.fails = seen, fails
    return train


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        (tmp_path / f"{name}.yaml").write_text(RUN)
    return ["a.yaml", "b.yaml", "c.yaml"]


def invoke(*arguments):
    return CliRunner().invoke(app, ["train", *arguments])


def test_each_file_is_trained_and_one_table_ends_it(files, trained):
    result = invoke(*files, "optim.lr=3e-4", "seed=7")
    assert result.exit_code == 0, result.output
    assert [(run.name, run.seed, run.stages[0].optim.lr, fresh) for run, fresh in trained.seen] == [
        ("a", 7, 3e-4, False),
        ("b", 7, 3e-4, False),
        ("c", 7, 3e-4, False),
    ]
    table = result.output[result.output.index("Results") :]
    assert [line.split()[1] for line in table.splitlines() if "1:05" in line] == ["a", "b", "c"]


def test_a_failure_does_not_lose_the_others_results(files, trained):
    trained.fails["b"] = StoppedError("x")
    trained.fails["b"].exit_code = 3
    result = invoke(*files)
    assert result.exit_code == 3
    assert [run.name for run, _ in trained.seen] == ["a", "b", "c"]
    assert "error: x" in result.output
    assert result.output.count("1:05") == 2


def test_ctrl_c_stops_all_and_still_shows_what_is_finished(files, trained):
    trained.fails["b"] = StoppedError("saved")
    result = invoke(*files)
    assert result.exit_code == 130
    assert [run.name for run, _ in trained.seen] == ["a", "b"]
    assert result.output.count("1:05") == 1


def test_mistakes_are_told_before_anything_is_trained(files, trained, tmp_path):
    (tmp_path / "b.yaml").write_text(RUN + "iteratoins: 3\n")
    result = invoke(*files, "--fresh")
    assert result.exit_code == 2
    assert "b.yaml:6:1" in result.output
    assert result.output.index("iteratoins") < result.output.index("a.yaml")
    assert [(run.name, fresh) for run, fresh in trained.seen] == [("a", True), ("c", True)]


def test_two_files_for_one_folder_are_refused(files, trained):
    result = invoke("a.yaml", "b.yaml", "name=same")
    assert result.exit_code != 0
    assert "a.yaml and b.yaml would both be trained into runs/same" in result.output
    assert len(trained.seen) == 1


def test_no_file_is_a_clear_error(trained):
    result = invoke("seed=3")
    assert result.exit_code != 0
    assert "give a YAML file" in result.output
    for missing in ("missing.yaml", "runs/lr=1/missing.yaml"):  # a path with "=" in it is no override
        result = invoke(missing)
        assert result.exit_code == 2
        assert f"{missing}: no such file" in result.output
        assert "Traceback" not in result.output
