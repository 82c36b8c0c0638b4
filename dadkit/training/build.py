"""From a stage's configuration to its objects: models, terms, data, in an order that makes initial weights repeatable."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dadkit.config.components import Components, build
from dadkit.config.rules import answered
from dadkit.config.schema import (
    DatasetConfig,
    PerturbConfig,
    ReferenceConfig,
    RunConfig,
    StageConfig,
    StudentConfig,
    TeacherConfig,
)
from dadkit.data import Images, Member, SampleError, Stream, Streams, build_streams
from dadkit.data.perturbations import ColorJitter, CutMix, GaussianBlur, Strong
from dadkit.interfaces import (
    Completer,
    ContextSampler,
    FeatureEncoder,
    FrozenTeacher,
    ImageNetwork,
    ModelSpec,
    Student,
    Teacher,
)
from dadkit.loading import ModelCard, load_completer, load_reference, load_result, load_student, load_teacher, read_card
from dadkit.plugin import get_registry
from dadkit.spaces import Space, conversion_text
from dadkit.training.batches import StageData
from dadkit.training.completion import CompletionStep
from dadkit.training.compose import build_terms, follows_features
from dadkit.training.distributed import ALONE, Ranks
from dadkit.training.label_cache import CachedTeacher, are_fixed
from dadkit.training.labels import Labeller, StoredMaps
from dadkit.training.seeds import seed_everything
from dadkit.training.shard import Rounds, ShardedEncoder, ShardedTeacher
from dadkit.training.soundness import StageError, check_space, check_stage
from dadkit.training.stage import Stage
from dadkit.training.step import DistillationStep

__all__ = ["Results", "build_reference", "build_stage", "build_student", "build_teacher", "teacher_names"]

Results = Mapping[str, Path | ModelCard]
"""Name of each earlier stage -> its ``model.safetensors``. A card in the place of the file stands for a model that is not
trained yet: it is built with its initial weights, which is enough to plan with."""

_PROBE = 4096  # side of an image larger than any region, to ask a context sampler how many patches it gives


def build_stage(run: RunConfig, config: StageConfig, results: Results, device: torch.device, ranks: Ranks = ALONE) -> Stage:
    """Build one stage.

    Args:
        run: the whole run.
        config: the stage.
        results: name of each earlier stage -> its ``model.safetensors``, or a card of what it will be (see :data:`Results`).
        device: where the models go; on ``meta`` they have shapes and no memory.
        ranks: the processes that train; this one reads its share of each batch.

    Raises:
        StageError: the parts do not fit together.
        dadkit.plugin.PluginError, dadkit.config.ConfigError, dadkit.errors.DataError: a part cannot be built.
    """
    assert config.student is not None
    rounds = Rounds(ranks, device) if config.shard_teachers and device.type != "meta" else None
    load = _build if rounds is None else rounds.load
    seed_everything(run.seed, config.name, "init")  # nothing may draw before the initial weights
    with torch.device("meta") if device.type == "meta" else nullcontext():
        student = build_student(config.student, results)
        teachers = _labellers(config.teachers, results, load)
        named = config.losses.feature.reference
        reference = None
        if isinstance(named, ReferenceConfig) and follows_features(config.losses):
            reference = load(partial(build_reference, named, results))
        followed = teachers[0].model if reference is None and teachers else reference
        terms = build_terms(config.losses, student, followed, config.backend)
    completion = _completion(run, config, student, results)
    stored = answered(config.data, Components(None)) and not config.teachers and config.completion is None
    if rounds is not None and (teachers or reference):
        rounds.check()
    contexts: ContextSampler = build("context", config.contexts.name, config.contexts.options)
    doubts = check_stage(
        terms,
        student.spec,
        () if completion else teachers,
        has_unlabelled=not completion and bool(config.data.root or config.data.unlabelled),
        has_labelled=bool(completion) or bool(config.data.labelled),
        patches=contexts((_PROBE, _PROBE), torch.Generator().manual_seed(0)).patches.shape[0],
        has_reference=reference is not None,
        selection=config.selection,
        stored=stored,
    )
    if not completion:
        _check_cutmix(config, student.spec)
    if doubts and not config.allow_unsound:
        raise StageError(f"stage '{config.name}': {doubts[0]}. If that is what you want, say so with allow_unsound: true")
    if config.teacher_cache is not None:
        _check_cache(config, contexts, follows_teacher=follows_features(config.losses) and reference is None)
        teachers = [
            _cached(teacher, source, config, ranks.count) for teacher, source in zip(teachers, config.teachers, strict=True)
        ]
    streams = _streams(run, config, contexts, student.spec.space, device, ranks.share, stored)
    own = list(teachers)
    if stored:
        teachers = [Labeller("stored labels", StoredMaps(student.spec.space))]
    data = StageData(streams)
    for model in [student, *completion, *(teacher.model for teacher in teachers), *([reference] if reference else [])]:
        _place(model, device, channels_last=config.channels_last)
    autocast = torch.bfloat16 if config.precision == "bf16" else None
    if config.completion is not None:
        step: DistillationStep = CompletionStep(terms, config.completion, completion, teachers, autocast=autocast)
    else:
        step = DistillationStep(
            terms,
            space=student.spec.space,
            teachers=teachers,
            reference=reference,
            cameras=student.spec.takes_camera,
            need_cameras=[model.spec.name for model in (student, *(t.model for t in teachers)) if model.needs_camera],
            autocast=autocast,
            sky_depth=_sky_depth(config, student.spec),
        )
    taught = [student, *(teacher.model for teacher in own), *([reference] if reference else [])]
    sources = [streams.labelled, *([streams.unlabelled] if stored else [])]
    licenses = [*_licenses(config, results, taught, sources), *(model.spec.license for model in completion)]
    return Stage(
        config=config,
        seed=run.seed,
        device=device,
        student=student,
        step=step.to(device),
        data=data,
        iterations=config.iterations or max(1, math.ceil((config.epochs or 0) * data.steps_per_epoch)),
        student_is_trained=config.student.stage is not None or getattr(student, "head_is_trained", False),
        licenses=list(dict.fromkeys(licenses)),
        conversions=[
            f"teacher {teacher.name}, {text}"
            for teacher in (() if completion else own)
            if (text := conversion_text(teacher.model.spec.space, student.spec.space)) is not None
        ],
        unsound=doubts,
        rounds=rounds,
    )


def _check_cutmix(config: StageConfig, student: ModelSpec) -> None:
    if student.takes_camera and config.perturb is not None and config.perturb.cutmix.probability:
        raise StageError(
            f"stage '{config.name}': perturb.cutmix pastes pixels of one camera into a picture of another, and "
            f"'{student.name}' is given one camera a picture; set perturb.cutmix.probability to 0"
        )


def _place(model: nn.Module, device: torch.device, *, channels_last: bool) -> None:
    if isinstance(model, ShardedTeacher | ShardedEncoder):
        return  # its parts are where they belong, and FSDP2 takes weights in the default memory format only
    model.to(device)
    if channels_last:
        model.to(memory_format=torch.channels_last)


def _sky_depth(config: StageConfig, student: ModelSpec) -> float | None:
    """Metres that sky of true depth counts as; None if it is left out."""
    if config.data.sky == "leave":
        return None
    if student.space is not Space.METRIC or student.range[1] is None:
        raise StageError(
            f"data.sky: far needs a student that answers in metres up to a known distance, and '{student.name}' answers in "
            f"space '{student.space}' {'without a bound' if student.space is Space.METRIC else ''}".rstrip()
            + "; give it max_depth, or leave data.sky out (students of disparity learn sky as 0 by themselves)"
        )
    return student.range[1]


def build_student(config: StudentConfig, results: Results) -> Student:
    """Returns the student with its initial weights, in training mode."""
    if config.stage is not None:
        student = _open(results[config.stage])
    else:
        assert config.name is not None
        found = get_registry().resolve_first(("student", "completer"), config.name)
        student = (load_student if found.kind == "student" else load_completer)(config.name, **config.options)  # type: ignore[assignment]
    return student.train()


def _completion(run: RunConfig, config: StageConfig, student: Student, results: Results) -> list[Teacher]:
    """Returns the models whose maps a stage with ``completion`` completes."""
    if isinstance(student, Completer) != (config.completion is not None):
        raise StageError(
            f"stage '{config.name}': a completer such as refine is trained by a stage with a section completion, which says "
            "whose maps are completed, and such a section trains a completer alone (student: {name: refine})"
        )
    if config.completion is None:
        return []
    if run.evaluation is not None:
        raise StageError(
            f"stage '{config.name}' trains a completer, which a run's evaluation cannot measure: leave evaluation out "
            "(evaluation=null); benchmarks/real/completion.py of the source tree measures completers"
        )
    if not any(True for _ in student.parameters()):
        raise StageError(f"stage '{config.name}': '{student.spec.name}' has nothing to learn; take refine")
    return [_input(given, results) for given in config.completion.inputs]


def _input(config: TeacherConfig, results: Results) -> Teacher:
    """Returns a frozen model whose maps are completed: a teacher, or a student with trained weights."""
    if config.name is None or get_registry().resolve_first(("teacher", "student"), config.name).kind == "teacher":
        return build_teacher(config, results)
    return FrozenTeacher(load_student(config.name, **config.options))


def build_teacher(config: TeacherConfig, results: Results) -> Teacher:
    """Returns a frozen teacher."""
    if config.stage is not None:
        return FrozenTeacher(_open(results[config.stage]))
    assert config.name is not None
    return load_teacher(config.name, **config.options)


def build_reference(config: ReferenceConfig, results: Results) -> FeatureEncoder | Teacher:
    """Returns the frozen model whose features the student follows."""
    if config.stage is not None:
        return FrozenTeacher(_open(results[config.stage]))
    assert config.name is not None
    return load_reference(config.name, **config.options)


def _open(result: Path | ModelCard) -> Student:
    return load_student(result.component, **result.options) if isinstance(result, ModelCard) else load_result(result)


def _card(result: Path | ModelCard) -> ModelCard:
    return result if isinstance(result, ModelCard) else read_card(result)


def _build(model: Callable[[], Any]) -> Any:
    return model()


def _labellers(configs: Sequence[TeacherConfig], results: Results, load: Callable[[Callable[[], Any]], Any]) -> list[Labeller]:
    """Returns the teachers, each under a name of its own."""
    named = zip(teacher_names(configs), configs, strict=True)
    return [Labeller(name, load(partial(build_teacher, config, results)), config.probability) for name, config in named]


def _check_cache(config: StageConfig, contexts: ContextSampler, *, follows_teacher: bool) -> None:
    """Refuse to keep answers that would never be asked for again, or would not be complete."""
    if config.shard_teachers:
        raise StageError(f"stage '{config.name}': teacher_cache and shard_teachers exclude each other; leave one of them out")
    if not are_fixed(contexts):
        raise StageError(
            f"stage '{config.name}': teacher_cache is of no use with contexts '{config.contexts.name}', which show the teacher "
            "another part of the image every time; take contexts: {name: whole}, or leave it out"
        )
    if follows_teacher:
        raise StageError(
            f"stage '{config.name}': teacher_cache keeps depth, not the features that losses.feature follows; name a reference "
            "encoder for them, or leave one of the two out"
        )


def _cached(teacher: Labeller, source: TeacherConfig, config: StageConfig, processes: int) -> Labeller:
    """Returns the teacher with its answers kept on disk."""
    assert config.teacher_cache is not None
    identity = {"name": teacher.model.spec.name, "options": source.options, "precision": config.precision}
    room = config.teacher_cache.max_gb * 1e9 / processes
    model = CachedTeacher(teacher.model, identity, Path(config.teacher_cache.folder).expanduser(), room)
    return replace(teacher, model=model)


def teacher_names(configs: Sequence[TeacherConfig]) -> list[str]:
    """Returns what logs and tables call the teachers: their registered name, or ``stage:NAME``; numbered from the second time
    on.
    """
    called = [config.name or f"stage:{config.stage}" for config in configs]
    counts = [called[: index + 1].count(name) for index, name in enumerate(called)]
    return [f"{name}#{count}" if count > 1 else name for name, count in zip(called, counts, strict=True)]


def _streams(
    run: RunConfig,
    config: StageConfig,
    contexts: ContextSampler,
    space: Space,
    device: torch.device,
    share: tuple[int, int],
    stored: bool,
) -> Streams:
    """Returns the stage's streams, of whose batches this process reads a share."""
    unlabelled = _members(config.data.unlabelled)
    root: Any = config.data.root
    if root is not None:
        unlabelled.append(Member("root", Images(root)))
    labelled = _members(config.data.labelled)
    patches = contexts((_PROBE, _PROBE), torch.Generator().manual_seed(0)).patches.shape[0] if labelled else 0
    for member in [*labelled, *(unlabelled if stored else ())]:
        _check_labels(member, space)
        getattr(member.dataset, "check_contexts", lambda patches: None)(patches)

    perturb, cutmix = _perturbations(config.perturb)
    return build_streams(
        contexts,
        stage=config.name,
        seed=run.seed,
        batch_size=config.batch_size,
        unlabelled=unlabelled,
        labelled=labelled,
        labelled_fraction=config.data.labelled_fraction,
        workers=config.data.workers,
        share=share,
        flip=config.flip,
        max_error_rate=config.data.max_error_rate,
        space=space,
        near_floor=config.data.near_floor,
        perturb=perturb,
        perturb_truth=config.completion is not None,
        cutmix=cutmix,
        stored=stored,
        pin_memory=device.type == "cuda",
    )


def _perturbations(config: PerturbConfig | None) -> tuple[Strong | None, CutMix | None]:
    """Returns what a ``perturb`` section means for the unlabelled stream."""
    if config is None:
        return None, None
    color, blur = ColorJitter(**config.color.model_dump()), GaussianBlur(**config.blur.model_dump())
    strong = Strong(color if color.probability else None, blur if blur.probability else None)
    cutmix = CutMix(**config.cutmix.model_dump())
    return (strong if strong.color or strong.blur else None), (cutmix if cutmix.probability else None)


def _members(configs: Sequence[DatasetConfig]) -> list[Member]:
    return [Member(config.name, build("dataset", config.name, config.options), config.weight) for config in configs]


def _check_labels(member: Member, space: Space) -> None:
    """Refuse true depth that does not convert to the student's space; its first sample tells what it is."""
    try:
        source = member.dataset[0].space if len(member.dataset) else None
    except SampleError:
        return  # the stream counts it; other samples will tell
    if source is not None:
        check_space(source, space, f"the true depth of dataset '{member.name}'")


def _licenses(
    config: StageConfig, results: Results, models: Sequence[ImageNetwork], labelled: Sequence[Stream | None]
) -> list[str]:
    """Returns the licences of all weights that take part, each once: of earlier stages' sources and of stored labels too."""
    sources: list[StudentConfig | TeacherConfig | ReferenceConfig | None] = [config.student, *config.teachers]
    if isinstance(config.losses.feature.reference, ReferenceConfig):
        sources.append(config.losses.feature.reference)
    found: list[str] = []
    for source, model in zip(sources, models, strict=False):
        stage = None if source is None else source.stage
        found += [model.spec.license] if stage is None else list(_card(results[stage]).licenses)
    for stream in labelled:
        for member in stream.members if stream else ():
            found += getattr(member.dataset, "licenses", ())
    return list(dict.fromkeys(found))
