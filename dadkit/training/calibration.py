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
from dadkit.training.step import DistillationStep

__all__ = ["calibrate"]


@torch.no_grad()
def calibrate(
    step: DistillationStep,
    student: Student,
    batches: Iterator[Iteration],
    *,
    maps: int,
    parts: int,
    measure_student: bool,
    device: torch.device,
) -> tuple[SourceScales, Iterator[Iteration]]:
    """Measure c of every source, and gamma (see ``scale.py``), on the first iterations' images.

    Args:
        step: knows the teachers and the student's space.
        student: its initial weights decide gamma.
        batches: the iterations; so many are taken that one kind, unlabelled or labelled, has ``maps`` images.
        maps: how many maps of each source are measured, about.
        parts: micro-batches per iteration, as in training, so that no more memory is needed here than there.
        measure_student: whether the student's head comes with trained weights; otherwise gamma is 1.
        device: where the models are.

    Returns:
        The scales, and all iterations from the first one on.

    Raises:
        ScaleError: a source answers with constant maps only.
    """
    taken = _take(batches, maps)
    cut = [part for data in taken for part in micro_batches(data, parts)]
    unlabelled = [part.unlabelled for part in cut if part.unlabelled is not None]
    labelled = [part.labelled for part in cut if part.labelled is not None]
    sources = {
        teacher.name: _teacher_scale(step, index, unlabelled, device) for index, teacher in enumerate(step.teachers) if unlabelled
    }
    if labelled:
        meter = ScaleMeter("the true depth")
        for batch in labelled:
            meter.add(*labelled_target(batch, step.space))
        sources[LABELS] = meter.value()
    gamma = _student_scale(step, student, unlabelled + labelled, device) if measure_student else 1.0
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
