"""Measures the typical scale of every source of targets on the first images, before the first step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch

from dadkit.data.sample import Batch
from dadkit.interfaces import Student
from dadkit.training.micro import Iteration, micro_batches
from dadkit.training.pairs import labelled_target
from dadkit.training.scale import LABELS, ScaleMeter, SourceScales
from dadkit.training.stage import Stage
from dadkit.training.step import DistillationStep

__all__ = ["calibrate"]


@torch.no_grad()
def calibrate(stage: Stage, batches: Iterator[Iteration]) -> tuple[SourceScales, Iterator[Iteration]]:
    """Measure c of every source, and gamma (see ``scale.py``), on the first iterations' images.

    So many iterations are taken that one kind of images, unlabelled or labelled, has ``losses.anchor.warmup_maps`` of them.
    They are cut into micro-batches as in training, so no more memory is needed here than there.

    Args:
        stage: its initial student decides gamma if its head comes with trained weights; otherwise gamma is 1.
        batches: the iterations.

    Returns:
        The scales, and all iterations from the first one on.

    Raises:
        ScaleError: a source answers with constant maps only.
    """
    step, device = stage.step, stage.device
    taken = _take(batches, stage.config.losses.anchor.warmup_maps)
    cut = [part for data in taken for part in micro_batches(data, stage.config.optim.accumulate)]
    unlabelled = [part.unlabelled for part in cut if part.unlabelled is not None]
    labelled = [part.labelled for part in cut if part.labelled is not None]
    sources: dict[str, float] = {}
    for index, teacher in enumerate(step.teachers if unlabelled else ()):
        sources[teacher.name] = _teacher_scale(step, index, unlabelled, device)
    if labelled:
        meter = ScaleMeter("the true depth")
        for batch in labelled:
            meter.add(*labelled_target(batch, step.space))
        sources[LABELS] = meter.value()
    gamma = _student_scale(step, stage.student, unlabelled + labelled, device) if stage.student_is_trained else 1.0
    return SourceScales(sources, gamma), itertools.chain(taken, batches)


def _take(batches: Iterator[Iteration], maps: int) -> list[Iteration]:
    taken: list[Iteration] = []
    unlabelled = labelled = 0
    for data in batches:
        taken.append(data)
        unlabelled, labelled = unlabelled + data.counts[0], labelled + data.counts[1]
        if max(unlabelled, labelled) >= maps:
            break
    return taken


def _teacher_scale(step: DistillationStep, index: int, batches: list[Batch], device: torch.device) -> float:
    meter = ScaleMeter(f"teacher '{step.teachers[index].name}'")
    for batch in batches:
        seen = step.label(batch.to(device), index, regions=True, patches=False)
        assert seen.region is not None
        meter.add(seen.region, seen.region_mask)
    return meter.value()


def _student_scale(step: DistillationStep, student: Student, batches: list[Batch], device: torch.device) -> float:
    meter = ScaleMeter("the student")
    was_training = student.training
    student.eval()
    for batch in batches:
        meter.add(step.predict(student, [batch.to(device)])[0].depth)
    student.train(was_training)
    return meter.value()
