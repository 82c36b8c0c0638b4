"""Hooks see what the loop does, may add to the loss, and survive a resumption; trackers get every logged line."""

from __future__ import annotations

import sys
from importlib.metadata import distributions
from types import SimpleNamespace

import pytest
import torch

from dadkit.config import dump, parse_run
from dadkit.errors import DadkitError
from dadkit.normalizers import Hybrid
from dadkit.plugin import Registry, use_registry
from dadkit.testing import check_hook
from dadkit.training import Hook, Tracker, train
from dadkit.training.compose import Maps, combine
from dadkit.training.folder import RunFolder
from dadkit.training.loop import Trainer
from dadkit.training.metrics import read_metrics


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


RUN = """
name: hooked
student: {name: topformer/tiny, options: {native_size: 32}}
data: {labelled: [{name: procedural, options: {count: 8, size: 40}}]}
contexts: {name: whole, options: {view_size: 32}}
iterations: 2
batch_size: 2
log_every: 1
sample_every: 2
report: false
"""


NAMED = """
from dadkit import hookimpl
from dadkit.training import Hook

class Decay(Hook):
    def __init__(self, factor: float = 0.5):
        self.factor = factor

    def on_step(self, trainer, index):
        import torch

        trainer.record({"decay": torch.tensor(self.factor ** (index + 1))})

@hookimpl
def register_hooks(register):
    register("decay", f"{__name__}:Decay", api=1)
"""


@pytest.mark.parametrize(
    ("name", "opens", "sends", "closes"),
    [
        ("wandb", "init", "log", "finish"),
        ("trackio", "init", "log", "finish"),
        ("mlflow", "start_run", "log_metrics", "end_run"),
    ],
)
def test_trackers_are_named_in_the_file_and_get_every_line_and_picture(
    tmp_path, console, monkeypatch, name, opens, sends, closes
):
    said = []
    calls = {opens, sends, closes, "log_image"}
    fake = {call: (lambda *given, _call=call, **options: said.append((_call, given, options)) or torch) for call in calls}
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(Image=lambda picture: picture, **fake))
    run = parse_run(RUN, [f"output={tmp_path}", f"log=[{{name: {name}, options: {{mode: offline}}}}]"])
    assert parse_run(dump(run)) == run
    folder = train(run, console=console).folder
    assert [said[0][0], said[-1][0]] == [opens, closes]
    assert said[0][2]["mode"] == "offline"
    pictures = [entry for entry in said[1:-1] if entry[0] == "log_image" or "samples" in entry[1][0]]
    assert [(call, options["step"]) for call, _, options in pictures] == [("log_image" if name == "mlflow" else sends, 2)]
    lines = [(options["step"], given[0]["loss/total"]) for _, given, options in said[1:-1] if "loss/total" in given[0]]
    assert lines == [(line["step"], line["loss/total"]) for line in read_metrics(folder / "metrics.jsonl")]
    assert not (folder / "tensorboard").exists()


def test_a_file_names_loggers_and_hooks(tmp_path, console, plugin_farm):
    plugin_farm.add("acme", NAMED)
    with use_registry(Registry([*distributions(), *distributions(path=[str(plugin_farm.folder / "site")])])):
        _names_them(tmp_path, console)


def _names_them(tmp_path, console):
    run = parse_run(RUN, [f"output={tmp_path}", "hooks=[acme/decay]"])
    assert [logger.name for logger in run.log] == ["tensorboard"]
    assert run.hooks[0].options == {"factor": 0.5}
    folder = train(run, console=console).folder
    assert list((folder / "tensorboard" / "main").iterdir())
    assert [line["decay"] for line in read_metrics(folder / "metrics.jsonl")] == [0.5, 0.25]
    train(parse_run(RUN, [f"output={tmp_path}", "hooks=[acme/decay]", "log=[]"]), console=console)  # it is finished
    with pytest.raises(DadkitError, match="hooks"):
        train(parse_run(RUN, [f"output={tmp_path}"]), console=console)
    assert {one.outcome for one in check_hook("acme/decay")} <= {"passed", "skipped"}
    with pytest.raises(DadkitError, match="unknown hook 'tensorbord'; did you mean 'tensorboard'"):
        parse_run(RUN, ["log=[tensorbord]"])


def test_a_tracker_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(DadkitError, match="pip install wandb"):
        Tracker("wandb")


@pytest.mark.parametrize(
    ("check", "hook"),
    [
        ("builds", torch.nn.Identity),
        ("calls_exist", type("Misspelt", (Hook,), {"on_steps": lambda self: None})),
        ("state", type("Unreadable", (Hook,), {"state_dict": lambda self: {"trainer": SimpleNamespace()}})),
        ("state", type("Forgets", (Everything,), {"state_dict": lambda self: {"id": id(self)}, "load_state_dict": print})),
    ],
)
def test_a_broken_hook_is_found(check, hook):
    assert check in {result.check for result in check_hook(hook) if result.outcome == "failed"}
