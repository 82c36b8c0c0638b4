"""One pair for a labelled set, and what it is worth on pictures that it was not fitted to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dadkit.alignment.affine import l1_line
from dadkit.alignment.few import BEYOND, MOST_IMPOSSIBLE, CalibrationError, Form
from dadkit.calibration.record import Calibration
from dadkit.data.sample import Dataset
from dadkit.errors import SampleError
from dadkit.evaluation.intervals import bootstrap_mean
from dadkit.interfaces import DepthModel, Metres, Space

__all__ = ["calibrate_set"]

_PIXELS = 2000  # of each picture
_FOLDS = 5

_Picture = tuple[Tensor, Tensor]
"""(n,) values and metres."""


def calibrate_set(
    model: DepthModel, dataset: Dataset, *, name: str = "", limit: int | None = None, form: Form = "auto"
) -> Calibration:
    """Fit one pair to all pictures of a labelled set, and say what it is worth on pictures that it was not fitted to.

    Every picture has the same weight. Pairs of folds over pictures give the expected AbsRel, with its 95 % interval; one pair a
    picture gives what a relative model could reach if its pair were known in each.

    Args:
        model: any depth model.
        dataset: pictures with metric depth.
        name: of the dataset, for the file.
        limit: only the first so many pictures.
        form: ``scale``, ``affine`` or ``power``; ``auto`` takes the one with the smallest expected AbsRel.

    Raises:
        CalibrationError: fewer than two pictures with metric depth, or no possible pair.
    """
    pictures = _pixels(model, dataset, limit)
    space = model.spec.space
    shiftless = space in (Space.SCALE, Space.METRIC)
    if len(pictures) < 2:
        raise CalibrationError(f"a set needs at least two pictures with metric depth; found {len(pictures)}")
    if form in ("affine", "power") and shiftless:
        raise CalibrationError(f"maps of space {space} have a factor only; leave --form out")
    if form == "curve":
        raise CalibrationError("a curve goes through a few points; a labelled set takes scale, affine or power")
    forms = ["scale"] if shiftless else ["scale", "affine", "power"] if form == "auto" else [form]
    possible = [row for row in (_across(pictures, space, one) for one in forms) if row is not None]
    if not possible:
        raise CalibrationError(
            "no factor or shift brings these maps to possible distances: is the model or the set upside down?"
        )
    best = min(possible, key=lambda row: sum(row.errors))
    expected, own = _mean(best.errors), _mean(best.own)
    interval = bootstrap_mean(best.errors)
    notes = []
    if space is Space.METRIC:
        before = [_abs_rel(values, metres) for values, metres in pictures]
        gains = [one - other for one, other in zip(before, best.errors, strict=True)]
        if bootstrap_mean(gains).low <= 0:
            raise CalibrationError(
                f"a factor does not help for certain, so none is stored: AbsRel of the model's own metres is "
                f"{_mean(before):.3f}, with the factor {expected:.3f} on pictures that it was not fitted to"
            )
        notes.append(f"AbsRel of the model's own metres: {_mean(before):.3f}")
    elif not shiftless and expected > 1.25 * own:
        notes.append(
            f"one pair for all pictures has AbsRel {expected:.3f}, a pair for each picture {own:.3f}: a relative model has no "
            "global calibration; train a metric student for metres without measuring"
        )
    facts = {
        "dataset": name,
        "pictures": len(pictures),
        "abs_rel": {"expected": expected, "low": interval.low, "high": interval.high, "own_pair": own},
        "pairs_of_pictures": [{"scale": one.scale, "shift": one.shift, "power": one.power} for one in best.pairs],
    }
    return Calibration(best.metres, best.form, expected, facts, notes=notes)


@dataclass(frozen=True)
class _Across:
    """What one form is worth over a set: errors of pictures left out, and with a pair of each picture's own."""

    form: str
    metres: Metres
    errors: Sequence[float]
    own: Sequence[float]
    pairs: Sequence[Metres]


def _across(pictures: Sequence[_Picture], space: Space, form: str) -> _Across | None:
    """None if a pair gives impossible distances."""
    everything = torch.cat([metres for _, metres in pictures])
    limits = float(everything.min()) / BEYOND, float(everything.max()) * BEYOND
    folds = min(_FOLDS, len(pictures))
    errors = [0.0] * len(pictures)
    for fold in range(folds):
        pair = _pair([picture for index, picture in enumerate(pictures) if index % folds != fold], space, form, limits)
        if pair is None:
            return None
        for index in range(fold, len(pictures), folds):
            values, metres = pictures[index]
            errors[index] = _abs_rel(pair(values), metres)
    pair = _pair(pictures, space, form, limits)
    if pair is None:
        return None
    pairs = [_pair([picture], space, form, limits) or pair for picture in pictures]
    own = [_abs_rel(one(values), metres) for one, (values, metres) in zip(pairs, pictures, strict=True)]
    return _Across(form, pair, errors, own, pairs)


def _pair(pictures: Sequence[_Picture], space: Space, form: str, limits: tuple[float, float]) -> Metres | None:
    values, metres = (torch.cat(parts) for parts in zip(*pictures, strict=True))
    target = metres.reciprocal() if space is Space.DISPARITY else metres
    if form == "affine":
        scale, shift = l1_line(values, target)
        possible = scale > 0 and float((scale * values + shift <= 0).double().mean()) <= MOST_IMPOSSIBLE
        return Metres(space, scale, shift, *limits) if possible else None
    usable = values > 0
    if float(usable.double().mean()) < 1 - MOST_IMPOSSIBLE:
        return None
    values, target = values[usable], target[usable]
    if form == "power":
        power, logarithm = l1_line(values.log(), target.log())
        return Metres(space, math.exp(logarithm), 0.0, *limits, power) if power > 0 else None
    return Metres(space, float((target / values).log().median().exp()), 0.0, *limits)


def _pixels(model: DepthModel, dataset: Dataset, limit: int | None) -> list[_Picture]:
    """Takes the same number of pixels of every picture, evenly."""
    pictures = []
    for index in range(min(len(dataset), limit or len(dataset))):
        try:
            sample = dataset[index]
        except SampleError:
            continue
        if sample.depth is None or sample.space != Space.METRIC:
            raise CalibrationError(f"{sample.key}: the labels are {sample.space or 'no depth'}; metres need metric depth")
        known = sample.depth.isfinite() & (sample.depth > 0)
        if sample.valid is not None:
            known &= sample.valid
        if not bool(known.any()):
            continue
        cameras = None if sample.intrinsics is None else sample.intrinsics[None]
        answer = model.predict(sample.image.float() / 255, cameras=cameras).depth[0].cpu()
        values, metres = answer[known].double(), sample.depth[known].double()
        chosen = torch.linspace(0, len(values) - 1, _PIXELS).round().long()
        pictures.append((values[chosen], metres[chosen]))
    return pictures


def _abs_rel(found: Tensor, metres: Tensor) -> float:
    return float((found / metres - 1).abs().mean())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
