"""The loop: it learns, resumes bit for bit, skips what is not finite, stops when asked."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch

from dadkit.normalizers import Global, Hybrid, Identity
from dadkit.training.compose import Maps, combine
from dadkit.training.folder import RunFolder
from dadkit.training.gradients import NonFiniteError
from dadkit.training.labels import Labeller
from dadkit.training.loop import Trainer
from dadkit.training.metrics import read_metrics
from dadkit.training.scale import LABELS
from dadkit.training.signals import StoppedError
from dadkit.training.soundness import StageTerm
from dadkit.training.terms import LossTerm

TERMS = combine(shared=Maps(1.0, Hybrid()), local_global=Maps(0.5, Hybrid()), gradient=2.0, anchor=0.1)


def metrics(tmp_path, at="run"):
    return list(read_metrics(tmp_path / at / "metrics.jsonl"))


def test_overfitting_one_batch_falls(toys, run_stage, tmp_path):
    class OneBatch(toys.Data):
        def read(self, step):
            return super().read(0)

    terms = combine(shared=Maps(1.0, Hybrid()), gradient=2.0, anchor=0.1)
    run_stage(toys.stage(terms, data=OneBatch(), iterations=100, log_every=20))
    totals = [line["loss/total"] for line in metrics(tmp_path)]
    assert totals == sorted(totals, reverse=True)
    assert totals[-1] < 0.7 * totals[0]


def test_the_anchor_holds_the_students_magnitude_at_one(toys, run_stage, tmp_path):
    teachers = (Labeller("big", toys.Teacher(scale=50.0), 0.7), Labeller("small", toys.Teacher(scale=0.5), 0.3))
    run_stage(toys.stage(TERMS, teachers=teachers, iterations=80, log_every=20))
    assert metrics(tmp_path)[-1]["student/mad"] == pytest.approx(1.0, rel=0.25)


class Killed(BaseException):
    """Stands for kill -9 in one process: nothing in the loop catches it."""


def dies_at(step):
    def before(index):
        if index == step:
            raise Killed

    return before


@pytest.mark.parametrize("options", [{}, {"ema": 0.9}, {"optim": {"accumulate": 2}}, {"autocast": torch.bfloat16}])
@pytest.mark.parametrize("at", [3, 4, 9])
def test_a_killed_stage_ends_with_the_same_weights(toys, run_stage, unequal, tmp_path, options, at):
    def stage(data):
        teachers = (Labeller("a", toys.Teacher(), 0.7), Labeller("b", toys.Teacher(scale=-1.0), 0.3))
        student = toys.Student(norm=True, dropout=0.3)
        return toys.stage(TERMS, student=student, teachers=teachers, data=data, iterations=10, checkpoint_every=4, **options)

    whole = run_stage(stage(toys.Data()), "whole")
    with pytest.raises(Killed):
        run_stage(stage(toys.Data(before=dies_at(at))), "killed")
    resumed = run_stage(stage(toys.Data()), "killed")
    assert not unequal(whole.weights, resumed.weights)
    lines = [metrics(tmp_path, at) for at in ("whole", "killed")]
    assert [line["step"] for line in lines[1]] == list(range(1, 11))  # no doubles, no gaps
    for a, b in zip(*lines, strict=True):
        assert {k: v for k, v in a.items() if k.startswith(("loss", "teacher", "student", "grad"))} == {
            k: v for k, v in b.items() if k.startswith(("loss", "teacher", "student", "grad"))
        }


class LearnedWeight(torch.nn.Module):
    """A loss with a parameter and a buffer of its own."""

    def __init__(self):
        super().__init__()
        self.log = torch.nn.Parameter(torch.zeros(()))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, pred, target, mask):
        self.calls += 1
        return self.log.exp() * (pred - target).abs().mean() - self.log


def test_what_a_loss_learns_is_trained_saved_and_resumed(toys, run_stage, tmp_path):
    def stage(data=None):
        extra = (StageTerm("extra/learned", 1.0, LossTerm(LearnedWeight())),)
        return toys.stage(combine(extra=extra), data=data or toys.Data(), iterations=8, checkpoint_every=4)

    whole, killed, resumed = stage(), stage(toys.Data(before=dies_at(6))), stage()
    run_stage(whole, "whole")
    with pytest.raises(Killed):
        run_stage(killed, "killed")
    run_stage(resumed, "killed")
    learned = [one.step.terms[0].term.loss for one in (whole, resumed)]
    assert learned[0].log != 0
    assert learned[0].log.grad is None  # no gradient is left to add up
    assert learned[0].log == learned[1].log
    assert learned[0].calls == learned[1].calls == 8


def test_dropout_and_teachers_depend_on_the_seed(toys, run_stage, unequal):
    def weights(seed, at):
        return run_stage(toys.stage(TERMS, student=toys.Student(dropout=0.3), seed=seed), at).weights

    first = weights(0, "a")
    assert not unequal(first, weights(0, "b"))
    assert unequal(first, weights(1, "c"))


def test_the_scales_are_those_of_the_first_session(toys, run_stage, tmp_path):
    stage = toys.stage(TERMS, data=toys.Data(4, labelled=2, before=dies_at(20)), iterations=30, checkpoint_every=4)
    with pytest.raises(Killed):
        run_stage(stage)
    resumed = toys.stage(TERMS, data=toys.Data(4, labelled=2), iterations=30)
    run_stage(resumed)
    assert resumed.step.scales == stage.step.scales
    assert resumed.step.scales.sources.keys() == {"toy", LABELS}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_saves_and_goes_on_later(toys, run_stage, unequal, number):
    def stop(index):
        if index == 2:
            os.kill(os.getpid(), number)

    whole = run_stage(toys.stage(TERMS), "whole")
    before = signal.getsignal(number)
    data = toys.Data(before=stop)
    with pytest.raises(StoppedError, match="iteration 3") as stopped:
        run_stage(toys.stage(TERMS, data=data), "stopped")
    assert stopped.value.exit_code == 130
    assert data.closed
    assert signal.getsignal(number) is before
    assert not unequal(whole.weights, run_stage(toys.stage(TERMS), "stopped").weights)


def test_a_second_ctrl_c_leaves_at_once(toys, run_stage):
    def stop(index):
        if index == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_stage(toys.stage(TERMS, data=toys.Data(before=stop)))


def poisoned(steps):
    """An extra loss that is NaN, its gradients too, in the given iterations (counted by its own calls)."""
    calls = iter(range(1000))

    def loss(pred, target, mask):
        return (pred - target).abs().mean() * (torch.nan if next(calls) in steps else 1.0)

    return loss


def stage_with(toys, loss, **options):
    terms = combine(shared=Maps(1.0, Global()), extra=(StageTerm("extra/odd", 1.0, LossTerm(loss)),))
    return toys.stage(terms, student=toys.Student(norm=True), **options)


def test_non_finite_iterations_are_skipped_counted_and_written_down(toys, run_stage, tmp_path, console):
    outcome = run_stage(stage_with(toys, poisoned({1, 4})))
    assert outcome.nonfinite == 2
    assert all(value.isfinite().all() for value in outcome.weights.values())
    lines = [json.loads(line) for line in (tmp_path / "run/stages/main/nonfinite.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 5]
    assert lines[0]["keys"] == list(toys.Data().read(1).keys)
    assert lines[0]["teacher"] == "toy"
    assert [line["nonfinite"] for line in metrics(tmp_path)] == [0, 1, 1, 1, 2, 2]
    assert metrics(tmp_path)[1]["loss/total"] is None
    assert "1 iterations skipped" in console.file.getvalue()


def test_a_skipped_iteration_is_as_if_it_had_never_been(toys, run_stage, unequal):
    class Without(toys.Data):
        """The same iterations without the poisoned one."""

        def read(self, step):
            return super().read(step if step < 2 else step + 1)

    poisonous = run_stage(stage_with(toys, poisoned({2}), iterations=5), "a")
    clean = run_stage(stage_with(toys, poisoned(set()), data=Without(), iterations=4), "b")
    assert not unequal(poisonous.weights, clean.weights)  # running statistics and moments included


@pytest.mark.parametrize("log_every", [1, 4])
def test_too_many_non_finite_iterations_stop_the_run(toys, run_stage, log_every):
    stage = stage_with(toys, poisoned({1, 2, 3}), max_nonfinite=3, iterations=20, log_every=log_every)
    with pytest.raises(NonFiniteError, match=r"3 iterations.*nonfinite\.jsonl"):
        run_stage(stage)


def test_the_count_survives_a_resume(toys, run_stage, tmp_path):
    data = toys.Data(before=dies_at(6))
    with pytest.raises(Killed):
        run_stage(stage_with(toys, poisoned({1, 5}), data=data, iterations=8, checkpoint_every=4))
    outcome = run_stage(stage_with(toys, poisoned(set()), iterations=8))
    assert outcome.nonfinite == 1
    lines = (tmp_path / "run/stages/main/nonfinite.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2]  # iteration 6 was repeated, and went well


def test_the_averaged_weights_are_the_result(toys, tmp_path, console):
    stage = toys.stage(TERMS, ema=0.9)
    trainer = Trainer(stage, RunFolder(tmp_path / "ema"), console)
    outcome = trainer.train()
    averaged = trainer.ema.module.state_dict()
    assert all(torch.equal(outcome.weights[name], averaged[name]) for name in averaged)
    assert not torch.equal(outcome.weights["head.weight"], stage.student.head.weight)


def test_the_best_validated_weights_are_the_result(toys, run_stage, tmp_path):
    scores = iter([3.0, 1.0, 2.0])
    seen = []

    def validate(model):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return next(scores)

    stage = toys.stage(TERMS, iterations=6, validate_every=2, keep_last=1)
    outcome = run_stage(stage, validate=validate)
    assert outcome.step == 4
    assert all(torch.equal(outcome.weights[name], value) for name, value in seen[1].items())
    assert [line["validation/abs_rel"] for line in metrics(tmp_path) if "validation/abs_rel" in line] == [3.0, 1.0, 2.0]
    assert sorted(p.name for p in (tmp_path / "run/stages/main/checkpoints").glob("step-*")) == [
        "step-00000004",
        "step-00000006",
    ]


def test_a_validation_that_was_killed_is_made_up_for(toys, run_stage, tmp_path):
    def killed(model):
        raise Killed

    stage = toys.stage(TERMS, iterations=4, validate_every=2)
    with pytest.raises(Killed):
        run_stage(stage, validate=killed)
    scores = iter([1.0, 2.0])
    outcome = run_stage(toys.stage(TERMS, iterations=4, validate_every=2), validate=lambda model: next(scores))
    assert outcome.step == 2
    validated = [line["step"] for line in metrics(tmp_path) if "validation/abs_rel" in line]
    assert validated == [2, 4]


def test_what_is_logged(toys, run_stage, tmp_path, console):
    teachers = (Labeller("a", toys.Teacher(), 0.5), Labeller("b", toys.Teacher(scale=2.0), 0.5))
    run_stage(toys.stage(TERMS, teachers=teachers, iterations=20, log_every=10, sample_every=20, optim={"warmup": 4}))
    first, last = metrics(tmp_path)
    assert first["stage"] == "main"
    assert (first["step"], last["step"]) == (10, 20)
    terms = {"loss/total", "loss/shared", "loss/local_global", "loss/gradient", "loss/anchor"}
    student = {"student/median", "student/mad", "student/nonpositive", "student/constant"}
    rest = {"grad_norm", "lr/encoder", "lr/decoder", "images_per_s", "data_wait", "seconds", "nonfinite", "unreadable"}
    assert first.keys() >= terms | student | rest
    assert sum(first.get(f"teacher/{name}", 0) for name in "ab") == pytest.approx(1)
    assert 0 <= first["data_wait"] <= 1
    assert (tmp_path / "run/stages/main/samples/step-00000020.jpg").is_file()
    text = console.file.getvalue().splitlines()
    assert text[0].startswith("main: 10/20  total ")
    assert "images/s" in text[0]
    assert "left" in text[0]


def test_a_constant_student_is_warned_about(toys, run_stage, console):
    class Dead(toys.Student):
        def estimate(self, x):
            depth, features = super().estimate(x)
            return depth * 0 + 3, features

    run_stage(toys.stage(combine(shared=Maps(1.0, Global())), student=Dead(), iterations=1))
    assert "constant for 4 images" in console.file.getvalue()


def test_the_compiled_student_learns_the_same(toys, run_stage):
    plain = run_stage(toys.stage(TERMS, iterations=2), "plain")
    compiled = run_stage(toys.stage(TERMS, iterations=2, compile=True), "compiled")
    for name, value in plain.weights.items():
        torch.testing.assert_close(compiled.weights[name], value, rtol=1e-4, atol=1e-5)


def test_a_labelled_stage_needs_no_teacher(toys, run_stage, tmp_path):
    terms = combine(labelled=Maps(1.0, Identity()), gradient=1.0)
    run_stage(toys.stage(terms, teachers=(), data=toys.Data(0, labelled=4), sample_every=6))
    assert not [name for name in metrics(tmp_path)[-1] if name.startswith("teacher/")]
    assert (tmp_path / "run/stages/main/samples/step-00000006.jpg").is_file()
