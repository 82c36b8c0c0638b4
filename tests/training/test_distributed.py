"""Several processes train one model: real processes, gloo on the CPU, tiny models."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import dadkit.training.run as module
from dadkit.config import parse_run
from dadkit.training.checkpoint import file_sha256
from dadkit.training.distributed import ALONE, PeerLostError, Ranks, restart_hint
from dadkit.training.metrics import read_metrics
from dadkit.training.soundness import StageError

SCRIPT = Path(__file__).with_name("ranks.py")


@pytest.fixture(scope="module")
def scenarios():
    """The module that the processes run."""
    spec = importlib.util.spec_from_file_location("ranks_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two processes made of all scenarios: (folder, results of rank 0, results of rank 1)."""
    folder = tmp_path_factory.mktemp("pair")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = []
    for rank in range(2):
        own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **{name: str(value) for name, value in own.items()}}
        command = [sys.executable, str(SCRIPT), str(folder)]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for process in processes:
        _, text = process.communicate(timeout=600)
        assert process.returncode == 0, text
    return folder, *(torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(2))


@pytest.fixture(scope="module")
def alone(scenarios, tmp_path_factory):
    """The same training in one process that accumulates over the same parts."""
    return scenarios.train(scenarios.make_stage(accumulate=4), tmp_path_factory.mktemp("alone"))


def parameters(scenarios, state):
    names = dict(scenarios.Student64().named_parameters())
    return {name: tensor for name, tensor in state.items() if name in names}


def distance(a, b):
    return max((a[name] - b[name]).abs().max().item() for name in a)


def test_two_processes_end_with_the_weights_of_one_that_accumulates(pair, alone, scenarios):
    _, first, _ = pair
    one = parameters(scenarios, scenarios.state(alone))
    two = parameters(scenarios, first["same_weights"]["state"])
    begun = parameters(scenarios, scenarios.Student64().state_dict())
    assert distance(one, begun) > 1e-2
    assert distance(one, two) < 1e-5
    assert first["same_weights"]["scales"] == alone.step.scales.state_dict()
    averaged = parameters(scenarios, first["same_weights"]["ema"])
    assert distance(parameters(scenarios, dict(alone._model.state_dict())), averaged) < 1e-5


def test_ranks_end_alike_running_statistics_included(pair, unequal):
    _, first, second = pair
    for scenario in ("same_weights", "stopped", "poisoned", "few_images"):
        assert not unequal(first[scenario]["state"], second[scenario]["state"]), scenario
        assert all(tensor.isfinite().all() for tensor in first[scenario]["state"].values())
    # What a rank saw alone would be other statistics than the mean of both.
    state = first["same_weights"]["state"]
    assert (state["encoder.1.running_mean"] != 0).all()


def test_rank_0_writes_and_its_numbers_are_those_of_all(pair, alone):
    folder, *_ = pair
    logged = list(read_metrics(folder / "same_weights/metrics.jsonl"))
    wanted = list(read_metrics(alone.folder.metrics))
    assert [line["step"] for line in logged] == [line["step"] for line in wanted]
    names = [name for name in wanted[0] if name.partition("/")[0] in ("loss", "student", "teacher") or name == "grad_norm"]
    assert {"loss/shared", "loss/labelled", "loss/feature", "student/mad", "teacher/a"} <= set(names)
    for line, other in zip(logged, wanted, strict=True):
        assert {name: line[name] for name in names} == pytest.approx({name: other[name] for name in names}, rel=1e-4, abs=1e-6)
    assert len(list((folder / "same_weights/stages/main/samples").glob("*.jpg"))) == 1


def test_a_signal_to_one_rank_stops_all_at_one_iteration_and_the_rest_changes_nothing(pair, unequal):
    _, first, second = pair
    assert first["stopped"]["message"] == second["stopped"]["message"]
    assert "SIGTERM in iteration" in first["stopped"]["message"]
    assert len(first["stopped"]["saved"]) == 1
    assert not unequal(first["stopped"]["state"], first["same_weights"]["state"])


def test_what_is_not_finite_on_one_rank_is_skipped_by_all(pair):
    folder, first, second = pair
    assert first["poisoned"]["count"] == second["poisoned"]["count"] > 0
    lines = list(read_metrics(folder / "poisoned/stages/main/nonfinite.jsonl"))
    assert len(lines) == first["poisoned"]["count"]
    assert all(len(line["keys"]) == 12 for line in lines)


def test_a_rank_may_have_no_image_of_a_kind(pair, scenarios, tmp_path):
    _, first, _ = pair
    one = scenarios.train(scenarios.make_stage(unlabelled=1, accumulate=2), tmp_path)
    two = parameters(scenarios, first["few_images"]["state"])
    assert distance(parameters(scenarios, scenarios.state(one)), two) < 1e-5


def test_a_teacher_that_is_spread_answers_as_if_it_were_whole(pair):
    _, first, second = pair
    assert first["spread"]["equal"] == [True, True]
    assert second["spread"]["equal"] == [True, True, True]
    for rank in (first, second):
        assert rank["spread"]["own"] == pytest.approx(rank["spread"]["all"] / 2, rel=0.02)


def test_a_run_with_spread_teachers_ends_with_the_same_file(pair):
    _, first, second = pair
    spread, whole = first["spread_run"]["hashes"]
    assert spread == whole
    assert first["spread_run"] == second["spread_run"]


def test_an_error_on_one_rank_ends_all_with_one_message(pair):
    _, first, second = pair
    assert second["failed"] == {"error": "rank 1 finds no data", "kind": "DataError", "reports": True}
    assert first["failed"]["kind"] == PeerLostError.__name__
    assert not first["failed"]["reports"]


def test_alone_everything_is_trivial():
    assert ALONE.main
    assert not ALONE.several
    assert ALONE.gather("x") == ["x"]
    assert ALONE.from_main(lambda: 3) == 3
    assert ALONE.union([True, False]) == [True, False]
    assert ALONE.reports(ValueError())


def test_one_device_for_several_processes_is_refused():
    ranks = Ranks(1, 2, 1)
    assert ranks.device("cpu").type == "cpu"
    with pytest.raises(Exception, match="cuda"):
        ranks.device("cuda:1")


def torchrun(config: Path, output: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=2"]
    command = [*launch, "-m", "dadkit", "train", str(config), f"output={output}"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def children(process: subprocess.Popen) -> list[int]:
    """The ranks' processes, in their order."""
    return [int(text) for text in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds child processes through /proc")
def test_killed_with_minus_nine_torchrun_starts_again_and_ends_with_the_same_file(pair, scenarios, tmp_path):
    config = tmp_path / "small.yaml"
    config.write_text(scenarios.RUN)
    killed = torchrun(config, tmp_path)
    folder = tmp_path / "small"
    deadline = time.monotonic() + 600
    while not (folder / "stages/main/checkpoints/step-00000003").exists():
        assert killed.poll() is None, killed.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(children(killed)[1], signal.SIGKILL)
    text, _ = killed.communicate(timeout=600)
    assert killed.returncode == 0, text
    whole = pair[0] / "whole_run" / "small"
    assert file_sha256(folder / "stages/main/model.safetensors") == file_sha256(whole / "stages/main/model.safetensors")
    assert "goes on from the checkpoint of iteration" in text
    assert text.count("error: ") <= 1
    assert text.count("10/10") == 1  # one process writes
    assert [line["step"] for line in read_metrics(folder / "metrics.jsonl")] == [2, 4, 6, 8, 10]
    assert json.loads((folder / "run.json").read_text())["environment"]["processes"] == 2
    assert (folder / "evaluation.json").is_file()


def test_more_processes_than_images_are_refused(scenarios):
    with pytest.raises(StageError, match="batch_size 8 leaves some of the 9 processes without"):
        module._check(parse_run(scenarios.RUN), Ranks(0, 9))


def test_rank_0_evaluates_while_the_others_wait(pair):
    folder, first, second = pair
    assert first["whole_run"]["stages"] == second["whole_run"]["stages"]
    assert first["whole_run"]["evaluated"] == 2
    assert second["whole_run"]["evaluated"] == 0
    assert len(json.loads((folder / "whole_run/small/run.json").read_text())["stages"]) == 1


def test_a_sweep_is_trained_by_all_and_told_by_one(pair):
    folder, first, second = pair
    assert (first["swept"]["code"], second["swept"]["code"]) == (0, 0), first["swept"]["output"]
    assert "1 variant, 2 runs" in first["swept"]["output"]
    assert second["swept"]["output"] == ""
    for name in ("small-s0", "small-s1"):
        assert json.loads((folder / "swept" / name / "run.json").read_text())["environment"]["processes"] == 2
    rows = json.loads((folder / "swept/small-sweep.json").read_text())
    assert [(row["model"], len(row["seeds"])) for row in rows] == [("teacher", 2), ("student", 2)]
    assert rows[1]["spread"]["abs_rel"] > 0


@pytest.mark.parametrize(("shared", "restarts", "told"), [("True", "3", True), ("False", "3", False), ("True", "0", False)])
def test_restarts_that_may_hang_are_told_of(monkeypatch, shared, restarts, told):
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", shared)
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", restarts)
    assert (restart_hint() is not None) == told
