"""Evaluation from within a run: the number that picks the best checkpoint, and the table at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from rich.console import Console

from dadkit.config.components import build
from dadkit.config.schema import RunConfig, StageConfig
from dadkit.errors import DadkitError
from dadkit.evaluation import Evaluation, EvaluationPlan, Protocol, evaluate, evaluate_run
from dadkit.interfaces import DepthModel
from dadkit.loading import load_result
from dadkit.spaces import Space, SpaceError, check_conversion
from dadkit.training.build import build_student, build_teacher, teacher_names
from dadkit.training.seeds import seed_everything

__all__ = ["deciding_metric", "evaluate_at_end", "validator"]

_DECIDING = ("abs_rel", "ssi_mae")


def deciding_metric(protocol: Protocol) -> str | None:
    """Returns the metric that chooses the best checkpoint, the smaller the better: ``abs_rel``, of relative labels ``ssi_mae``.

    None if the protocol measures neither.
    """
    return next((name for name in _DECIDING if name in protocol.metrics), None)


def validator(plan: EvaluationPlan) -> Callable[[DepthModel], float]:
    """Returns a function that measures a model's mean :func:`deciding_metric` as the run's evaluation will."""
    dataset, metric = plan.open(), deciding_metric(plan.protocol)
    assert metric is not None

    def validate(model: DepthModel) -> float:
        found = evaluate(model, dataset, plan.protocol, name="student", batch_size=plan.batch_size, limit=plan.limit)
        return found.mean[metric]

    return validate


def evaluate_at_end(
    run: RunConfig,
    plan: EvaluationPlan | None,
    folder: Path,
    results: Mapping[str, Path],
    device: torch.device,
    console: Console,
) -> dict[str, list[Evaluation]]:
    """Evaluate the last stage's teachers and student, and the other stages. Returns {} without ``evaluation``.

    The key of the first set's rows is "". Those of further sets (``evaluation.also``) are called as the plan calls them, and
    their results are written into ``evaluations/NAME``.

    Rows: the teachers, results of other earlier stages, the student, and (``evaluation.trivial``) the student before training
    and the trivial answers. A teacher that cannot be loaded any more leaves out its row, which a finished run does not need;
    the results that lie there, which may have it, then stay as they are.
    """
    if plan is None:
        return {}
    lost: dict[str, str] = {}
    models = {name: model.to(device) for name, model in _models(run, plan, results, lost).items()}
    kept = bool(lost) and (folder / "evaluation.json").is_file()

    def warn(text: str) -> None:
        console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)

    for name, reason in lost.items():
        warn(f"{name} is not evaluated: {reason}{'. The evaluation.json of before stays' if kept else ''}")
    labelled = next((stage.data.labelled[0] for stage in run.stages if stage.data.labelled), None)
    training_data = None if labelled is None else build("dataset", labelled.name, labelled.options)
    found: dict[str, list[Evaluation]] = {}
    with console.status("evaluating") as status, tempfile.TemporaryDirectory() as aside:
        root = Path(aside) if kept else folder
        for key, one in {"": plan, **plan.also}.items():
            usable = {name: model for name, model in models.items() if _converts(model.spec.space, one.protocol.space)}
            for name in models.keys() - usable.keys() if key else ():
                warn(f"{name} is not evaluated on {key}: {models[name].spec.space} does not convert to {one.protocol.space}")
            found[key] = evaluate_run(
                one,
                root / "evaluations" / key if key else root,
                usable if key else models,
                training_data=training_data,
                progress=lambda name, done: status.update(f"evaluating {name}: {done} images"),
            )
    return found


def _models(run: RunConfig, plan: EvaluationPlan, results: Mapping[str, Path], lost: dict[str, str]) -> dict[str, DepthModel]:
    """Row name -> model; ``lost`` gets the rows, with the reason, of teachers whose files are gone."""
    last = run.stages[-1]
    names = teacher_names(last.teachers)
    label = {name: "teacher" if len(names) == 1 else f"teacher {name}" for name in names}
    models: dict[str, DepthModel] = {}
    for name, teacher in zip(names, last.teachers, strict=True):
        try:
            models[label[name]] = build_teacher(teacher, results)
        except DadkitError as error:
            lost[label[name]] = str(error)
    shown = {teacher.stage for teacher in last.teachers} | {last.name}
    others = {f"stage {stage.name}": load_result(results[stage.name]) for stage in run.stages if stage.name not in shown}
    models |= {name: model for name, model in others.items() if _converts(model.spec.space, plan.protocol.space)}
    models["student"] = load_result(results[last.name])
    if plan.trivial:
        models["untrained student"] = _untrained(run, last, results)
    return models


def _converts(source: Space, target: Space) -> bool:
    try:
        check_conversion(source, target)
    except SpaceError:
        return False
    return True


def _untrained(run: RunConfig, stage: StageConfig, results: Mapping[str, Path]) -> DepthModel:
    """Returns the student as its first stage began: with its initial weights."""
    by_name = {other.name: other for other in run.stages}
    while stage.student is not None and stage.student.stage is not None:
        stage = by_name[stage.student.stage]
    assert stage.student is not None
    seed_everything(run.seed, stage.name, "init")
    return build_student(stage.student, results).eval()
