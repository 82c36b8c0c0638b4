"""A stage that trains a completer: what it refuses, what it learns from, what comes out."""

import pytest
import torch

from dadkit.completion.refine import Refine
from dadkit.config import ConfigError, load_run
from dadkit.interfaces import FrozenTeacher, Hints, Prediction
from dadkit.loading import load_completer
from dadkit.spaces import Space
from dadkit.training import train
from dadkit.training.completion import mixed_depth

CONFIG = """
name: refiner
student: {name: refine, options: {width: 8, grid: 32}}
completion:
  inputs: [{name: starter/tiny}]
  points: [20, 200]
data:
  workers: 0
  labelled: [{name: procedural, options: {count: 4, size: [64, 80], styles: [room]}}]
contexts: {name: whole, options: {view_size: [64, 96]}}
losses:
  shared: {weight: 0}
  local_global: {weight: 0}
  labelled: {weight: 0}
  gradient: {weight: 0}
  extra: [{name: log-l1}]
batch_size: 2
iterations: 2
optim: {lr: 1e-2}
"""
PHOTOGRAPHS = (
    "data.unlabelled=[{name: procedural, options: {count: 4, size: [64, 80], seed: 1}}]",
    "teachers=[{name: tcmono/small, options: {weights: none}}, {name: starter/small}]",
)


@pytest.fixture
def run(tmp_path):
    file = tmp_path / "refiner.yaml"
    file.write_text(CONFIG)
    return lambda *changes: load_run(file, [f"output={tmp_path}", *changes])


@pytest.mark.parametrize("changes", [(), PHOTOGRAPHS], ids=["truth", "truth and photographs"])
def test_a_completer_is_trained_and_read_from_its_run(run, changes, tmp_path):
    record = train(run(*changes))
    assert (record.folder / "report.html").is_file()
    model = load_completer(record.folder)
    assert model.spec.name == "refine"
    changed = [float(parameter.detach().abs().sum()) for parameter in model.network.last.parameters()]
    assert min(changed) > 0
    again = load_completer(train(run(*changes, "name=again")).folder)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    depth = torch.linspace(1, 4, 48).expand(1, 1, 40, 48).clone()
    hints = Hints(depth, torch.rand(depth.shape) < 0.05)
    answer = model.complete(torch.rand(1, 3, 40, 48), hints, Prediction(1 / depth, Space.DISPARITY))
    assert float((answer.depth / depth).log().abs().mean().detach()) < 0.2


def test_perturb_changes_what_the_completer_sees_and_not_what_its_input_model_does(run, monkeypatch):
    seen = {"model": [], "completer": []}

    def spy(owner, name, key):
        plain = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda self, images, *rest: [seen[key].append(images), plain(self, images, *rest)][1])

    spy(FrozenTeacher, "forward", "model")
    spy(Refine, "complete", "completer")
    colours = "perturb={color: {probability: 1}, blur: {probability: 0}, cutmix: {probability: 0}}"
    for change, changed in ((colours, True), ("perturb=null", False)):
        seen["model"].clear(), seen["completer"].clear()
        train(run(change, f"name=run{changed}", "report=false", "iterations=1"))
        assert torch.equal(seen["model"][0], seen["completer"][0]) is not changed
        assert seen["model"][0].shape == seen["completer"][0].shape
    with pytest.raises(ConfigError, match="whose points would not fit"):
        run("perturb={}")


def test_the_trap_and_stages_that_make_no_sense_are_refused(run):
    with pytest.raises(ConfigError, match="ignore the points"):
        run("data.unlabelled=[{name: procedural}]", "teachers=[{name: starter/tiny}]")
    with pytest.raises(ConfigError, match="need teachers"):  # stored maps are no points' truth
        run("data.unlabelled=[{name: labels, options: {root: labels}}]")
    with pytest.raises(Exception, match="section completion"):
        train(run("completion=null"))
    with pytest.raises(Exception, match="nothing to learn"):
        train(run("student={name: align}"))


def test_a_mix_of_teachers_has_their_order_and_a_random_size():
    ramp = torch.linspace(0.1, 2, 30).expand(3, 1, 20, 30)
    torch.manual_seed(0)
    mixed = mixed_depth(
        [Prediction(ramp, Space.DISPARITY), Prediction(3 - ramp, Space.DEPTH), Prediction(9 / ramp, Space.METRIC)]
    )
    assert bool((mixed[..., 1:] < mixed[..., :-1]).all())
    sizes = mixed.flatten(1).median(1).values
    assert bool((sizes >= 0.9).all() & (sizes <= 21).all())
    assert len(sizes.unique()) == 3
