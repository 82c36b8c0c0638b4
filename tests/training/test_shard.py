"""Teachers whose weights are spread over the processes: what is spread, what is refused. The rest is in test_distributed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import dadkit.training.run as module
from dadkit.config import parse_run
from dadkit.loading import load_encoder, load_teacher
from dadkit.training.build import build_stage
from dadkit.training.distributed import ALONE, Ranks
from dadkit.training.shard import Rounds, ShardedTeacher, find_blocks
from dadkit.training.soundness import StageError

RUN = """
teachers: [{name: dav2/tiny, options: {weights: none}}]
student: {name: topformer/tiny, options: {native_size: 32}}
data: {unlabelled: [{name: procedural, options: {count: 4, size: [40, 48]}}]}
contexts: {name: whole, options: {view_size: 32}}
losses: {local_global: {weight: 0}}
iterations: 1
shard_teachers: true
"""


@pytest.mark.parametrize(("name", "blocks"), [("dav2/large", 24), ("dav2/small", 12)])
def test_the_blocks_of_a_transformer_are_found_and_hold_most_of_it(name, blocks):
    with torch.device("meta"):
        teacher = load_teacher(name, weights="none")
    found = find_blocks(teacher)
    kinds = [type(block).__name__ for block in found]
    (most, number) = max(((kind, kinds.count(kind)) for kind in kinds), key=lambda pair: pair[1])
    assert number == blocks, most
    inside = sum(p.numel() for block in found for p in block.parameters())
    assert inside > 0.85 * sum(p.numel() for p in teacher.parameters())
    assert len({id(p) for block in found for p in block.parameters()}) == sum(1 for b in found for _ in b.parameters())


def test_the_blocks_of_an_encoder_are_found():
    with torch.device("meta"):
        assert len(find_blocks(load_encoder("dinov2/tiny", weights="none"))) == 6


def test_innermost_blocks_are_taken_and_single_layers_are_none():
    def block():
        return nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4))

    def level(count):
        return nn.Sequential(nn.ModuleList(block() for _ in range(count)), nn.Linear(4, 4))

    assert len(find_blocks(nn.ModuleList([level(2), level(3)]))) == 5
    assert find_blocks(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))) == []
    assert find_blocks(nn.Sequential(block(), nn.ReLU())) == []


def test_one_process_is_refused_before_anything_is_built():
    with pytest.raises(StageError, match="torchrun"):
        module._check(parse_run(RUN), ALONE)
    module._check(parse_run(RUN), Ranks(0, 2))


def test_a_plan_needs_no_processes():
    stage = build_stage(run := parse_run(RUN), run.stages[0], {}, torch.device("meta"))
    assert not isinstance(stage.step.teachers[0].model, ShardedTeacher)
    assert stage.rounds is None


def test_a_cache_of_the_same_teachers_is_refused(tmp_path):
    run = parse_run(RUN, [f"teacher_cache.folder={tmp_path}"])
    with pytest.raises(StageError, match="exclude each other"):
        build_stage(run, run.stages[0], {}, torch.device("meta"))


def test_other_devices_are_refused():
    with pytest.raises(StageError, match="not on mps"):
        Rounds(Ranks(0, 2), torch.device("mps"))
