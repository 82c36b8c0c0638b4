"""`dadkit train --dry-run`: everything built and read, nothing trained."""

from __future__ import annotations

import math

import pytest
import torch
from typer.testing import CliRunner

from dadkit.cli import app
from dadkit.config import parse_run
from dadkit.training.build import build_student
from dadkit.training.dryrun import plan_run
from dadkit.training.soundness import StageError

RUN = """
name: plan
contexts: {name: shared, options: {view_size: 64, crop_min: 64}}
losses: {local_global: {weight: 0}}
batch_size: 4
stages:
  - name: teacher
    student: {name: topformer/small}
    data: {labelled: [{name: procedural, options: {count: 6, size: 64}}]}
    epochs: 3
  - name: student
    student: {name: topformer/tiny}
    teachers: [{stage: teacher}]
    data: {unlabelled: [{name: procedural, options: {count: 6, size: 64}}]}
    losses: {feature: {weight: 1, reference: {stage: teacher}}, extra: [{name: mse, weight: 0.5}]}
    perturb: {}
    iterations: 7
    optim: {accumulate: 2}
"""


def test_the_plan_says_what_training_would_do():
    run = parse_run(RUN)
    teacher, student = plan_run(run)
    assert (teacher.iterations, student.iterations) == (math.ceil(3 * 6 / 4), 7)
    assert (teacher.images, student.images, student.micro) == ((0, 4), (4, 0), 2)
    assert [(model.role, model.name) for model in student.models] == [
        ("student", "topformer-tiny"),
        ("teacher", "stage:teacher"),
        ("reference", "topformer-small"),
    ]
    real = sum(p.numel() for p in build_student(run.stages[1].student, {}).parameters())
    assert student.models[0].parameters == student.models[0].trained == real
    assert student.models[1].parameters == teacher.models[0].parameters
    assert set(teacher.terms) == {"labelled", "gradient", "anchor"}
    assert student.terms["extra/mse"] == 0.5
    assert student.shapes["unlabelled.pasted"] == (4, 4)
    assert len(teacher.seconds) == 2
    assert student.licenses


def test_the_memory_estimate_counts_what_a_forward_pass_keeps():
    run = parse_run(RUN)
    _, plan = plan_run(run)
    student = build_student(run.stages[1].student, {})
    own = {t.untyped_storage().data_ptr() for t in [*student.parameters(), *student.buffers()]}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        student(torch.rand(2, 3, 64, 64))
    assert plan.memory.activations == pytest.approx(sum(size for size, _ in kept.values()), rel=0.1)
    assert plan.memory.optimiser == 12 * plan.models[0].trained
    assert plan.memory.total > plan.memory.models + plan.memory.optimiser


def test_half_precision_and_averaging_change_the_estimate():
    plain = [*plan_run(parse_run(RUN))][1].memory
    other = [*plan_run(parse_run(RUN, ["precision=bf16", "ema=0.99"]))][1].memory
    assert other.activations == plain.activations // 2
    assert other.optimiser > plain.optimiser


def test_what_does_not_fit_is_found():
    with pytest.raises(StageError, match="'deep'; it offers: tokens"):
        list(plan_run(parse_run(RUN, ["stages.student.losses.feature.student_tap=deep"])))


def test_the_command_prints_it_and_trains_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.yaml").write_text(RUN)
    result = CliRunner().invoke(app, ["train", "plan.yaml", "--dry-run"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "student: 7 iterations of 4 unlabelled images, 2 at a time" in result.output
    assert "memory     about" in result.output
    assert not (tmp_path / "runs").exists()
    broken = CliRunner().invoke(app, ["train", "plan.yaml", "--dry-run", "stages.student.losses.feature.student_tap=deep"])
    assert broken.exit_code == 2
    assert "'deep'" in broken.output
