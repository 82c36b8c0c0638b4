"""Hooks see what the loop does, may add to the loss, and survive a resumption; trackers get every logged line."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from dadkit.errors import DadkitError
from dadkit.normalizers import Hybrid
from dadkit.training import Hook, Tracker
from dadkit.training.compose import Maps, combine
from dadkit.training.folder import RunFolder
from dadkit.training.log.metrics import read_metrics
from dadkit.training.loop import Trainer


class Everything(Hook):
    def __init__(self):
        self.calls = []
        self.steps = 0

    def on_stage_start(self, trainer):
        self.calls.append(("start", self.steps))

    def on_loss(self, trainer, part, result):
        weight = trainer.student.head.bias
        return 0.1 * (weight**2).sum()

    def on_step(self, trainer, index):
        self.steps += 1
        trainer.record({"gradient/head": trainer.student.head.weight.grad.norm()})

    def on_stage_end(self, trainer, outcome):
        self.calls.append(("end", outcome is not None))

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


def stage(toys, data=None, **options):
    return toys.stage(
        combine(shared=Maps(1.0, Hybrid())), data=data or toys.Data(), iterations=4, checkpoint_every=2, **options
    )


def run(stage, folder, console, *hooks):
    return Trainer(stage, RunFolder(folder), console, hooks=hooks).train()


def test_a_hook_sees_gradients_adds_a_loss_and_is_resumed(toys, tmp_path, console, unequal):
    whole, plain, hook = stage(toys), stage(toys), Everything()
    with_hook = run(whole, tmp_path / "whole", console, hook).weights
    assert hook.calls == [("start", 0), ("end", True)]
    assert unequal(with_hook, run(plain, tmp_path / "plain", console).weights)
    norms = [line["gradient/head"] for line in read_metrics(tmp_path / "whole" / "metrics.jsonl")]
    assert len(norms) == 4
    assert all(norm > 0 for norm in norms)

    def dies(index):
        if index == 3:
            raise KeyboardInterrupt

    stopped, resumed = Everything(), Everything()
    with pytest.raises(KeyboardInterrupt):
        run(stage(toys, toys.Data(before=dies)), tmp_path / "again", console, stopped)
    assert stopped.calls[-1] == ("end", False)
    assert not unequal(run(stage(toys), tmp_path / "again", console, resumed).weights, with_hook)
    assert resumed.calls[0] == ("start", 2)
    assert resumed.steps == 4


@pytest.mark.parametrize(
    ("name", "opens", "sends", "closes"),
    [
        ("wandb", "init", "log", "finish"),
        ("trackio", "init", "log", "finish"),
        ("mlflow", "start_run", "log_metrics", "end_run"),
    ],
)
def test_trackers_get_every_logged_line(toys, tmp_path, console, monkeypatch, name, opens, sends, closes):
    said = []
    fake = {
        call: (lambda *given, _call=call, **options: said.append((_call, given, options)) or torch)
        for call in (opens, sends, closes)
    }
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(**fake))
    run(stage(toys), tmp_path, console, Tracker(name, mode="offline"))
    assert [call for call, *_ in said] == [opens, *[sends] * 4, closes]
    assert said[0][2]["mode"] == "offline"
    assert [options["step"] for call, _, options in said if call == sends] == [1, 2, 3, 4]
    assert all("loss/total" in given[0] for call, given, _ in said if call == sends)


def test_a_tracker_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(DadkitError, match="pip install wandb"):
        Tracker("wandb")
