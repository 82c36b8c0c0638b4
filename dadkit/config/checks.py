"""What a stage asks for that cannot work, or that the papers show to fail: refused before anything is built.

Each check reads parts of a stage that are valid by themselves, so that one run reports everything at once: a check is left out
where a part it needs is broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from dadkit.config.schema import ReferenceConfig
from dadkit.config.stage_spaces import result_space, share_a_range, speaks_one_space
from dadkit.config.stages import Lookup, StageView
from dadkit.config.tree import KeyPath, Problem
from dadkit.errors import did_you_mean
from dadkit.spaces import Space

__all__ = ["check_stages"]


def check_stages(stages: Sequence[StageView], lookup: Lookup, *, has_evaluation: bool) -> list[Problem]:
    """Everything that cannot work in these stages, which are in the order of the run."""
    problems: list[Problem] = []
    for index, stage in enumerate(stages):
        if stage.fields.validate_every is not None and not has_evaluation:
            problems.append(
                stage.problem(("validate_every",), "the run has no evaluation, which says what to measure, and on what")
            )
        earlier = stages[:index]
        for needs, check in _CHECKS:
            if not stage.broken & set(needs):
                problems += check(stage, earlier, lookup)
    return problems


def _has_a_name_of_its_own(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Iterator[Problem]:
    """Later stages and overrides refer to stages by name."""
    first = next((view for view in earlier if view.name == stage.name and view.name is not None), None)
    if first is not None:
        place = first.node.nearest(("name",)).place
        yield stage.problem(
            ("name",), f"a second stage called '{stage.name}' (the first: {place}); give each a name of its own"
        )


def _is_complete(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Iterator[Problem]:
    if stage.fields.student is None:
        yield stage.problem(("student",), "missing: the model to train, name: PLUGIN/NAME or stage: EARLIER")


def _has_a_length(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Iterator[Problem]:
    iterations, epochs = stage.fields.iterations, stage.fields.epochs
    if iterations is None and epochs is None:
        yield stage.problem(("iterations",), "missing: give iterations or epochs")
    if iterations is not None and epochs is not None:
        yield stage.problem(("epochs",), f"give iterations or epochs, not both (iterations is {iterations})")


def _accumulates_evenly(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Iterator[Problem]:
    size, parts = stage.fields.batch_size, stage.fields.optim.accumulate
    if size % parts:
        yield stage.problem(("optim", "accumulate"), f"must divide batch_size, got {parts} for a batch_size of {size}")


def _refers_to_earlier_stages(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Iterator[Problem]:
    known = [view.name for view in earlier if view.name is not None]
    for path, name in _references(stage):
        if name not in known:
            why = f"the earlier stages are {', '.join(known)}" if known else "there is no earlier stage"
            if name == stage.name:
                why = f"a stage cannot build on itself; {why}"
            yield stage.problem((*path, "stage"), f"no earlier stage '{name}' ({why}){did_you_mean(name, known)}")


def _references(stage: StageView) -> Iterator[tuple[KeyPath, str]]:
    fields = stage.fields
    if "student" not in stage.broken and fields.student is not None and fields.student.stage is not None:
        yield ("student",), fields.student.stage
    for index, teacher in enumerate(() if "teachers" in stage.broken else fields.teachers):
        if teacher.stage is not None:
            yield ("teachers", index), teacher.stage
    reference = fields.losses.feature.reference
    if "losses" not in stage.broken and isinstance(reference, ReferenceConfig) and reference.stage is not None:
        yield ("losses", "feature", "reference"), reference.stage


def _has_data_to_learn_from(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Iterator[Problem]:
    fields = stage.fields
    unlabelled = bool(fields.data.root or fields.data.unlabelled)
    feature = fields.losses.feature
    has_reference = feature.weight > 0 and isinstance(feature.reference, ReferenceConfig)
    if fields.teachers and not unlabelled:
        message = "teachers label images without labels, and there are none: give data.root or data.unlabelled"
        if fields.data.labelled:
            message += " (a labelled dataset may be named there too, its labels are then ignored)"
        yield stage.problem(("data",), message)
    elif not unlabelled and not fields.data.labelled:
        yield stage.problem(("data",), "nothing to train on: give teachers and data.root, or data.labelled")
    elif unlabelled and not fields.teachers and not has_reference:
        where = "root" if fields.data.root else "unlabelled"
        yield stage.problem(("data", where), "images without labels need teachers, and the stage has none")


def _draws_both_kinds(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Iterator[Problem]:
    data, size = stage.fields.data, stage.fields.batch_size
    if data.labelled and (data.root or data.unlabelled):
        labelled = round(size * data.labelled_fraction)
        if labelled in (0, size):
            message = (
                f"{data.labelled_fraction:g} of a batch of {size} is {labelled} labelled and {size - labelled} unlabelled "
                "images, but both kinds are given: change it or batch_size, or leave out one kind"
            )
            yield stage.problem(("data", "labelled_fraction"), message)


def _has_a_loss(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Iterator[Problem]:
    fields, losses = stage.fields, stage.fields.losses
    gradient = losses.gradient.weight
    on_teachers = [extra.weight for extra in losses.extra if extra.on != "labels"]
    on_labels = [extra.weight for extra in losses.extra if extra.on != "teachers"]
    terms = (losses.shared, losses.local_global, losses.feature)
    if fields.teachers and not any([*(term.weight for term in terms), gradient, *on_teachers]):
        yield stage.problem(("losses",), "every term that looks at the teachers has weight 0, so they teach nothing")
    if fields.data.labelled and not any([losses.labelled.weight, gradient, *on_labels]):
        message = (
            "the stage has labelled data, but every term that looks at true depth (labelled, gradient, extra) has weight 0"
        )
        yield stage.problem(("losses", "labelled", "weight"), message)
    if losses.feature.weight > 0 and not (fields.data.root or fields.data.unlabelled):
        message = "features are aligned on images without labels, and there are none: give data.root, or set this to 0"
        yield stage.problem(("losses", "feature", "weight"), message)
    elif losses.feature.weight > 0 and losses.feature.reference == "teacher" and not fields.teachers:
        message = "the features of 'teacher' are wanted, but the stage has no teachers: name a model (reference: {name: …})"
        yield stage.problem(("losses", "feature", "reference"), message)


def _has_patches(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Iterator[Problem]:
    weight, sampler = stage.fields.losses.local_global.weight, stage.fields.contexts.name
    if stage.fields.teachers and weight > 0 and sampler in ("whole", "shared"):
        message = (
            f"'{sampler}' has no patches, but losses.local_global.weight is {weight:g}: set that to 0, or choose local-global"
        )
        yield stage.problem(("contexts", "name"), message)


def _is_sound(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Iterator[Problem]:
    fields, losses = stage.fields, stage.fields.losses
    if fields.allow_unsound or not fields.teachers:
        return
    if losses.local_global.weight > 0 and losses.local_global.normalizer.name == "none":
        message = (
            "patches without normalisation fail (Distill Any Depth, Table 1: AbsRel .273 on ETH3D, where hybrid reaches .064); "
            "choose hybrid, global or local, or set allow_unsound: true for an ablation"
        )
        yield stage.problem(("losses", "local_global", "normalizer", "name"), message)
    if losses.shared.weight > 0 and losses.shared.normalizer.name == "none" and not share_a_range(stage, earlier, lookup):
        message = (
            "without normalisation the student would follow the teachers' different ranges by turns; "
            "choose hybrid, global or local, use one teacher, or set allow_unsound: true for an ablation"
        )
        yield stage.problem(("losses", "shared", "normalizer", "name"), message)
    if fields.selection == "average" and len(fields.teachers) > 1 and "selection" not in stage.broken:
        message = (
            "averaged teachers fail (Distill Any Depth, Table 4: AbsRel .228 on ETH3D, where drawing one reaches .054); "
            "choose iteration or sample, or set allow_unsound: true for an ablation"
        )
        yield stage.problem(("selection",), message)


def _teaches_metres(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Iterator[Problem]:
    losses = stage.fields.losses
    if stage.fields.allow_unsound or result_space(stage, earlier, lookup) != Space.METRIC:
        return
    maps = (losses.shared, losses.local_global, losses.labelled)
    if not losses.extra and not any(term.weight > 0 and term.normalizer.name == "none" for term in maps):
        message = (
            "the student answers in metres, but every term is normalised, so nothing teaches it metres: give losses.labelled "
            "or losses.shared the normalizer none, or add a loss in metres under losses.extra"
        )
        yield stage.problem(("student",), message)


_FEATURES_ONLY = {
    "spatial-kl": "compares the channels of each pixel, and a depth map has one, whose softmax is always 1: the loss is 0",
    "pairwise": "compares directions of features, and a depth map has one channel, in which every cosine is 1 or -1",
}
"""Losses of ``losses.feature.loss`` that say nothing about maps, and why: more helpful than that no map loss is called so."""


def _compares_what_can_be_compared(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Iterator[Problem]:
    space = result_space(stage, earlier, lookup)
    for index, extra in enumerate(stage.fields.losses.extra):
        path = ("losses", "extra", index, "name")
        if extra.name in _FEATURES_ONLY:
            message = f"'{extra.name}' {_FEATURES_ONLY[extra.name]}. It belongs to features: losses.feature.loss: {extra.name}"
            yield stage.problem(path, message)
        elif extra.name == "geometric" and space is Space.DISPARITY and not extra.options.get("assume_inverse"):
            message = (
                "the geometric loss unprojects depth, and affine disparity has an unknown shift, so 1/disparity is not its "
                "depth: take teacher and student in space depth, or state the assumption, "
                "options: {assume_inverse: {scale: a, shift: b}}"
            )
            yield stage.problem(path, message)
        elif extra.name == "silog" and space not in (None, Space.METRIC):
            yield stage.problem(path, f"silog compares logarithms of metres, but the student answers in space '{space}'")


def _mixes_pairs(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Iterator[Problem]:
    fields, perturb = stage.fields, stage.fields.perturb
    if perturb is None:
        return
    if not (fields.data.root or fields.data.unlabelled):
        yield stage.problem(("perturb",), "changes what the student sees of unlabelled images, and the stage has none")
        return
    labelled = round(fields.batch_size * fields.data.labelled_fraction) if fields.data.labelled else 0
    if perturb.cutmix.probability and fields.batch_size - labelled < 2:
        message = "CutMix pastes between two images, and a batch has one unlabelled image: raise batch_size, or set this to 0"
        yield stage.problem(("perturb", "cutmix", "probability"), message)


_CHECKS: tuple[tuple[tuple[str, ...], Callable[[StageView, Sequence[StageView], Lookup], Iterator[Problem]]], ...] = (
    ((), _has_a_name_of_its_own),
    (("student",), _is_complete),
    (("iterations", "epochs"), _has_a_length),
    (("batch_size", "optim"), _accumulates_evenly),
    ((), _refers_to_earlier_stages),
    (("teachers", "data", "losses"), _has_data_to_learn_from),
    (("data", "batch_size"), _draws_both_kinds),
    (("teachers", "data", "losses"), _has_a_loss),
    (("teachers", "contexts", "losses"), _has_patches),
    (("teachers", "losses", "allow_unsound"), _is_sound),
    (("student", "losses", "allow_unsound"), _teaches_metres),
    (("student", "losses"), _compares_what_can_be_compared),
    (("perturb", "data", "batch_size"), _mixes_pairs),
    (("student", "teachers", "data"), speaks_one_space),
)
"""(keys that a check needs, the check)."""
