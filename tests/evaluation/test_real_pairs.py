"""Real pictures with measured depth, where they are at hand: they are no part of dadkit."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import dadkit
from dadkit.evaluation import evaluate, load_protocol
from dadkit.evaluation.run import VerticalRamp

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "real"
FOLDER = os.environ.get("DADKIT_REAL_PAIRS")


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER, reason="DADKIT_REAL_PAIRS names no folder with the sets of benchmarks/real/sets.yaml")
def test_the_starter_model_beats_a_ramp_on_every_real_set(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARK))
    from measure import find_sets

    sets = find_sets(Path(FOLDER))
    assert sets, f"{FOLDER} holds none of the sets that benchmarks/real/sets.yaml names"
    protocol, model = load_protocol("affine-disparity"), dadkit.load_teacher("starter/small")
    for name, data in sets.items():
        own, ramp = (evaluate(one, data, protocol, name=name, batch_size=1) for one in (model, VerticalRamp()))
        assert own.mean["abs_rel"] < ramp.mean["abs_rel"], name
    sys.modules.pop("measure", None)
