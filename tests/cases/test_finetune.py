"""Fine-tuning: the two configurations train on pairs, from a checkpoint and from a run's result."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dadkit.config import load_run
from dadkit.training.run import train

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs" / "finetune").glob("*.yaml"))
SMALL = [
    "contexts.options.view_size=56",
    "batch_size=2",
    "epochs=1",
    "optim.warmup=0",
    "data.workers=0",
    "report=false",
    "sample_every=100",
    "losses.anchor.warmup_maps=1",
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_59_the_page_shows_the_configuration_and_its_commands_are_valid(file):
    text = file.read_text(encoding="utf-8")
    comments, _, body = text.partition("\n\n")
    assert f"```yaml\n{body}```" in (ROOT / "docs" / "finetune.md").read_text(encoding="utf-8")
    _, _, name, *given = shlex.split(re.search(r"#     (dadkit train .*)\n", text).group(1))
    again = shlex.split(comments.splitlines()[-1].removeprefix("# "))
    assert load_run(ROOT / name, given).name == f"finetune-{file.stem}"
    assert load_run(ROOT / name, [*given, *again]).name == "finetune-again"


@pytest.mark.slow  # two trainings each
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_59_a_checkpoint_and_a_runs_result_are_fine_tuned_on_pairs(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for part in ("images", "depth"):
        (tmp_path / "mine" / part).mkdir(parents=True)
    for index in range(4):
        Image.fromarray(rng.integers(0, 255, (64, 80, 3), dtype=np.uint8)).save(tmp_path / "mine" / "images" / f"{index}.png")
        ramp = np.linspace(1000, 5000, 64)[:, None] + rng.integers(0, 500, (64, 80))
        Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "mine" / "depth" / f"{index}.png")
    tiny = "dav2/tiny-metric" if file.stem == "metric" else "dav2/tiny"
    common = [*SMALL, f"student.name={tiny}"]
    first = train(load_run(file, [*common, "student.options.weights=null", "student.options.init=none"]))
    weights = first.folder / "stages" / "main" / "model.safetensors"
    again = [f"student.options.weights={weights}", "student.options.init=all", "name=again"]
    second = train(load_run(file, [*common, *again]))
    before, after = (load_file(run.folder / "stages" / "main" / "model.safetensors") for run in (first, second))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(bool(value.isfinite().all()) for value in after.values())
