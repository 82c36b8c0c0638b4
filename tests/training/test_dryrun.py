"""`dadkit train --dry-run`: everything built and read, nothing trained."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from dadkit_topformer.model import TopFormerDepth as TopFormer
from torch.profiler import ProfilerActivity, profile
from typer.testing import CliRunner

import dadkit.interfaces
from dadkit.cli import app
from dadkit.config import parse_run
from dadkit.interfaces import FrozenTeacher
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
        ("student", "topformer/tiny"),
        ("teacher", "stage:teacher"),
        ("reference", "stage:teacher"),
    ]
    real = sum(p.numel() for p in build_student(run.stages[1].student, {}).parameters())
    assert student.models[0].parameters == student.models[0].trained == real
    assert student.models[1].parameters == teacher.models[0].parameters
    assert set(teacher.terms) == {"labelled", "gradient", "anchor"}
    assert student.terms["extra/mse"] == 0.5
    assert student.shapes["unlabelled.pasted"] == (4, 4)
    assert "unlabelled.patches" not in student.shapes  # context 'shared' has none
    assert len(teacher.seconds) == 2
    assert student.licenses


def allocated(model, images, autocast):
    """The peak of what torch's own profiler saw allocated in a real forward pass, and a student's backward pass."""
    trains = isinstance(model, dadkit.interfaces.Student)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if trains and parameter.requires_grad else None
    half = torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler, torch.set_grad_enabled(trains):
        with half:
            depth = model.train(trains)(images).depth
        if trains:
            depth.sum().backward()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_memory_estimate_is_what_a_real_step_allocates(precision):
    run = parse_run(RUN.replace("topformer/small", "midas/tiny"), [f"precision={precision}"])
    teacher, plan = plan_run(run)
    student, labels = (build_student(stage.student, {}) for stage in reversed(run.stages))
    student.channels_last = False  # other kernels, whose scratch space is much of such small pictures, and little of real ones
    images = torch.rand(2, 3, 64, 64)
    assert plan.memory.student == pytest.approx(allocated(student, images, precision == "bf16"), rel=0.1)
    seen = allocated(FrozenTeacher(labels), images, precision == "bf16")  # with kernels' scratch space
    assert 0.7 * seen < plan.memory.teachers < 1.05 * seen
    assert teacher.memory.teachers == 0
    assert plan.memory.optimiser == 12 * plan.models[0].trained
    largest = max(plan.memory.student, plan.memory.teachers)
    assert plan.memory.total == plan.memory.models + plan.memory.optimiser + largest


def test_teachers_that_are_spread_take_their_part(monkeypatch):
    run = parse_run(RUN.replace("topformer/small", "dav2/tiny"), ["shard_teachers=true"])
    alone = [*plan_run(run)][1].memory
    monkeypatch.setenv("WORLD_SIZE", "4")
    shared = [*plan_run(run)][1].memory
    assert (alone.processes, shared.processes) == (1, 4)
    assert alone.spread == shared.spread > 0
    assert shared.models < alone.models
    assert shared.models > alone.models - alone.spread * 3 / 4  # blocks are gathered to run


def test_averaging_takes_memory_too():
    plain = [*plan_run(parse_run(RUN))][1].memory
    assert [*plan_run(parse_run(RUN, ["ema=0.99"]))][1].memory.optimiser > plain.optimiser


def test_a_model_that_looks_at_values_has_an_unknown_need(monkeypatch):
    forward = TopFormer.estimate

    def curious(self, x):
        return forward(self, x if x.sum() > 0 else -x)

    monkeypatch.setattr(TopFormer, "estimate", curious)
    memory = next(iter(plan_run(parse_run(RUN)))).memory
    assert memory.student is None
    assert "DataDependent" in memory.reason
    assert memory.total == memory.models + memory.optimiser


def test_what_does_not_fit_is_found():
    with pytest.raises(StageError, match=r"'deep'; it offers: stride16, .*tokens"):
        list(plan_run(parse_run(RUN, ["stages.student.losses.feature.student_tap=deep"])))
    metres = "stages.student.student={name: topformer/tiny, options: {space: metric, canonical_focal: 300}}"
    teacher = "stages.student.teachers=[{name: dav2/tiny-metric, options: {weights: none, max_depth: 20}}]"
    with pytest.raises(StageError, match="pastes pixels of one camera into a picture of another"):
        list(plan_run(parse_run(RUN, [metres, teacher, "stages.student.losses={shared: {weight: 0}, extra: [{name: silog}]}"])))


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
