"""Measures the typical scale of every source of targets on the first images, before the first step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import torch

from dadkit.data.sample import Batch
from dadkit.interfaces import Student
from dadkit.losses import ScaleMeter
from dadkit.training.batches import Iteration, micro_batches
from dadkit.training.distributed import Ranks
from dadkit.training.scale import LABELS, SourceScales, measured
from dadkit.training.stage import Stage
from dadkit.training.step import DistillationStep

__all__ = ["calibrate", "calibrate_together"]


@torch.no_grad()
def calibrate(stage: Stage, batches: Iterator[Iteration], *, parts: int) -> tuple[SourceScales, Iterator[Iteration]]:
    """Measure c of every source, and gamma (see ``scale.py``), on the first iterations' images.

    So many iterations are taken that one kind of images, unlabelled or labelled, has ``losses.anchor.warmup_maps`` of them.
    They are cut into micro-batches as small as in training, so no more memory is needed here than there.

    Args:
        stage: its initial student decides gamma if its head comes with trained weights; otherwise gamma is 1.
        batches: the iterations.
        parts: micro-batches into which each is cut.

    Returns:
        The scales, and all iterations from the first one on.

    Raises:
        ScaleError: a source answers with constant maps only.
    """
    step, device, maps = stage.step, stage.device, stage.config.losses.anchor.warmup_maps
    taken = _take(batches, maps)
    cut = [part for data in taken for part in micro_batches(data, parts)]
    unlabelled = [part.unlabelled for part in cut if part.unlabelled is not None]
    labelled = [part.labelled for part in cut if part.labelled is not None]
    sources: dict[str, float] = {}
    for index, teacher in enumerate(step.teachers if unlabelled else ()):
        sources[teacher.name] = _teacher_scale(step, index, unlabelled, device, ScaleMeter(maps))
    if labelled:
        meter = ScaleMeter(maps)
        for batch in labelled:
            meter.observe(*step.truth(batch))
        doubt = "are the labels too sparse for the view (try a larger contexts.options.view_size)?"
        sources[LABELS] = measured(meter, "the true depth", doubt=doubt)
    gamma = 1.0
    if stage.student_is_trained:
        gamma = _student_scale(step, stage.student, unlabelled + labelled, device, ScaleMeter(maps))
    return SourceScales(sources, gamma), itertools.chain(taken, batches)


def calibrate_together(stage: Stage, batches: Iterator[Iteration], ranks: Ranks) -> tuple[SourceScales, Iterator[Iteration]]:
    """As :func:`calibrate`, in a run of one or several processes: rank 0 measures whole iterations, as if it were alone."""
    parts = stage.config.optim.accumulate * ranks.count
    if not ranks.several:
        return calibrate(stage, batches, parts=parts)

    scales: SourceScales | None = None
    if ranks.main:
        with closing(stage.data.whole()) as data:
            scales = calibrate(stage, data.iterations(0), parts=parts)[0]
    stage.finish_asking()
    found = ranks.from_main(lambda: scales)
    assert found is not None
    return found, batches


def _take(batches: Iterator[Iteration], maps: int) -> list[Iteration]:
    taken: list[Iteration] = []
    unlabelled = labelled = 0
    for data in batches:
        taken.append(data)
        unlabelled, labelled = unlabelled + data.counts[0], labelled + data.counts[1]
        if max(unlabelled, labelled) >= maps:
            break
    return taken


def _teacher_scale(step: DistillationStep, index: int, batches: list[Batch], device: torch.device, meter: ScaleMeter) -> float:
    meter = meter.to(device)
    for batch in batches:
        seen = step.label(batch.to(device), index, regions=True, patches=False)
        assert seen.region is not None
        meter.observe(seen.region, seen.region_mask)
    teacher = step.teachers[index]
    more = {"doubt": "it has metres only for pictures with a camera: have they one?"} if teacher.model.needs_camera else {}
    return measured(meter, f"teacher '{teacher.name}'", **more)


def _student_scale(
    step: DistillationStep, student: Student, batches: list[Batch], device: torch.device, meter: ScaleMeter
) -> float:
    meter = meter.to(device)
    was_training = student.training
    student.eval()
    for batch in batches:
        clean = replace(batch, student_images=batch.images)  # the maps that the teachers were measured on
        meter.observe(step.predict(student, [clean.to(device)])[0].depth)
    student.train(was_training)
    return measured(meter, "the student")
