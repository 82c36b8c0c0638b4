"""The example package with a term of its own: it keeps the contract, and its weight is trained."""

from __future__ import annotations

import sys
from importlib.metadata import distributions
from pathlib import Path

import torch

from dadkit.config import load_run
from dadkit.plugin.registry import Registry, use_registry
from dadkit.testing import check_term
from dadkit.training import Hook, train

EXAMPLE = Path(__file__).parents[2] / "examples" / "edges"


class Weights(Hook):
    def __init__(self):
        self.seen = []

    def on_step(self, trainer, index):
        self.seen.append(next(term for name, _, term, _ in trainer.step.terms if name.startswith("extra/")).s.item())

    def on_stage_end(self, trainer, outcome):
        self.on_step(trainer, -1)


def test_the_example_trains_its_own_weight(tmp_path, monkeypatch, console):
    info = tmp_path / "dadkit_edges-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dadkit-edges\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[dadkit]\nedges = dadkit_edges\n")
    monkeypatch.syspath_prepend(str(EXAMPLE / "src"))
    before = set(sys.modules)
    weights = Weights()
    try:
        with use_registry(Registry([*distributions(), *distributions(path=[str(tmp_path)])])):
            assert not [result for result in check_term("edges/gradient") if result.outcome == "failed"]
            run = load_run(EXAMPLE / "edges.yaml", [f"output={tmp_path}"])
            result = train(run, console=console, hooks=[weights])
    finally:
        for name in set(sys.modules) - before:
            if name.startswith("dadkit_edges"):
                del sys.modules[name]
    assert "loss/extra/edges/gradient" in (result.folder / "metrics.jsonl").read_text()
    assert weights.seen[0] == 0
    assert weights.seen[-1] != 0
    (checkpoint,) = (result.folder / "stages" / "main" / "checkpoints").glob("step-*")
    state = torch.load(checkpoint / "state.pt", weights_only=True)["step"]
    assert weights.seen[-1] in [value.item() for value in state.values() if value.ndim == 0]
