"""Every source of randomness at once: what is drawn depends on seed and step, not on workers or on where a run was killed."""

from __future__ import annotations

import json

import pytest

from dadkit.config import parse_run
from dadkit.training.checkpoint import file_sha256
from dadkit.training.loop import Trainer
from dadkit.training.metrics import read_metrics
from dadkit.training.run import train

EVERYTHING = """
name: everything
batch_size: 6
log_every: 1
sample_every: 4
checkpoint_every: 2
channels_last: false
data:
  workers: 2
  labelled:
    - {name: procedural, options: {count: 10, size: [40, 48]}, weight: 2}
    - {name: procedural, options: {count: 6, size: 44}}
  unlabelled: [{name: procedural, options: {count: 12, size: [48, 40]}}]
  labelled_fraction: 0.33333
contexts: {name: local-global, options: {view_size: 32, crop_min: 36, patch_size: 28, overlap: 4, n: 2}}
teachers:                        # of two spaces and ranges, the second without the tokens that the first has
  - {name: dav2/tiny-metric, options: {weights: none, max_depth: 20}, probability: 7}
  - {name: genpercept/tiny, options: {space: depth, variant: dpt}, probability: 3}
selection: sample
student: {name: topformer/tiny, options: {space: depth, drop_path: 0.3, native_size: 32}}
perturb: {cutmix: {probability: 0.7}}
losses:
  anchor: {warmup_maps: 6}
  shared: {trim: 0.1}
  feature: {weight: 0.5, reference: teacher}
  extra: [{name: geometric, options: {points: 32}}, {name: channel-kl, on: teachers}]
optim: {lr: 1.0e-3, warmup: 2, accumulate: 2}
ema: 0.9
iterations: 6
report: false
"""


class Killed(BaseException):
    """Stands for kill -9: nothing in the loop catches it."""


def test_a_run_with_everything_on_ends_the_same_whatever_happens_to_it(tmp_path, console, monkeypatch):
    def go(at, *overrides):
        return train(parse_run(EVERYTHING, [f"output={tmp_path / at}", *overrides]), console=console)

    whole = go("whole", "data.workers=0")
    iterate = Trainer.iterate

    def dies(self, index, data):
        if index == 3:
            raise Killed
        iterate(self, index, data)

    monkeypatch.setattr(Trainer, "iterate", dies)
    with pytest.raises(Killed):
        go("killed")
    monkeypatch.undo()
    resumed = go("killed")
    files = [result.folder / "stages" / "main" / "model.safetensors" for result in (whole, resumed)]
    assert file_sha256(files[0]) == file_sha256(files[1])
    logs = [list(read_metrics(result.folder / "metrics.jsonl")) for result in (whole, resumed)]
    assert [line["step"] for line in logs[1]] == list(range(1, 7))
    measured = ("loss/", "teacher", "student/", "grad")
    for one, other in zip(*logs, strict=True):
        first, second = ({k: v for k, v in line.items() if k.startswith(measured)} for line in (one, other))
        assert first == second
    terms = {name for line in logs[0] for name in line if name.startswith("loss/")}
    wanted = ("shared", "local_global", "labelled", "gradient", "anchor", "feature", "extra/geometric", "extra/channel-kl")
    assert terms >= {f"loss/{name}" for name in wanted}
    # What became of the metric teacher's numbers is said at the start and kept in run.json; affine depth is what is wanted.
    said = "teacher dav2/tiny-metric, metric as depth: the same numbers"
    assert f"main: {said}" in console.file.getvalue()
    assert json.loads((whole.folder / "run.json").read_text())["stages"][0]["conversions"] == [said]
