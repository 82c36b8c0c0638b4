"""The page on fine-tuning: its two configurations train on pairs, from a checkpoint and from a run's result."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dadkit.config import load_run
from dadkit.training.run import train

PAGE = Path(__file__).parents[2] / "docs" / "finetune.md"
YAML = dict(re.findall(r"```yaml\n(name: finetune-(?:relative|metric)\n.*?)```()", PAGE.read_text(encoding="utf-8"), re.DOTALL))
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


@pytest.mark.slow  # two trainings each
@pytest.mark.parametrize("text", YAML, ids=lambda text: text.split()[1])
def test_the_configurations_of_the_page_train(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for part in ("images", "depth"):
        (tmp_path / "mine" / part).mkdir(parents=True)
    for index in range(4):
        Image.fromarray(rng.integers(0, 255, (64, 80, 3), dtype=np.uint8)).save(tmp_path / "mine" / "images" / f"{index}.png")
        ramp = np.linspace(1000, 5000, 64)[:, None] + rng.integers(0, 500, (64, 80))
        Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "mine" / "depth" / f"{index}.png")
    tiny = "dav2/tiny-metric" if "metric" in text.split()[1] else "dav2/tiny"
    (tmp_path / "run.yaml").write_text(text)
    common = [*SMALL, f"student.name={tiny}"]
    first = train(load_run(tmp_path / "run.yaml", [*common, "student.options.weights=null", "student.options.init=none"]))
    weights = first.folder / "stages" / "main" / "model.safetensors"
    again = [f"student.options.weights={weights}", "student.options.init=all", "name=again"]
    second = train(load_run(tmp_path / "run.yaml", [*common, *again]))
    before, after = (load_file(run.folder / "stages" / "main" / "model.safetensors") for run in (first, second))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(bool(value.isfinite().all()) for value in after.values())
