"""What a stage asks for that cannot work, or that the papers show to fail: refused before anything is built.

Each check reads parts of a stage that are valid by themselves, so that one run reports everything at once: a check is left out
where a part it needs is broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from dadkit.config.rules import StageFacts, TermFacts, answered, findings
from dadkit.config.schema import ExtraLossConfig, FeatureLossConfig, LossConfig, ReferenceConfig, StageFields
from dadkit.config.stages import Lookup, StageView
from dadkit.config.tree import KeyPath, Problem
from dadkit.errors import did_you_mean
from dadkit.spaces import Space, SpaceError, check_conversion

if TYPE_CHECKING:
    from dadkit.plugin import Component

__all__ = ["check_stages", "declared"]


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


def _leaves_inputs_out_of_the_mix(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Iterator[Problem]:
    """A completer that is given the very map that it shall answer learns to ignore the points."""
    completion = stage.fields.completion
    teachers = [(teacher.name, teacher.stage) for teacher in stage.fields.teachers]
    for index, given in enumerate(() if completion is None else completion.inputs):
        if (given.name, given.stage) in teachers:
            called = given.name or f"stage:{given.stage}"
            message = (
                f"'{called}' is a teacher of this stage too, so its own map would be the truth: the completer would learn to "
                "ignore the points. Take it out of teachers, or complete the map of another model"
            )
            yield stage.problem(("completion", "inputs", index), message)


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
    for index, given in enumerate(fields.completion.inputs if fields.completion and "completion" not in stage.broken else ()):
        if given.stage is not None:
            yield ("completion", "inputs", index), given.stage
    reference = fields.losses.feature.reference
    if "losses" not in stage.broken and isinstance(reference, ReferenceConfig) and reference.stage is not None:
        yield ("losses", "feature", "reference"), reference.stage


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


def _keeps_the_rules(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Iterator[Problem]:
    """What the rules on losses, models and data say (:mod:`dadkit.config.rules`), as far as it is known here."""
    fields = stage.fields
    data, reference = fields.data, fields.losses.feature.reference
    stored = answered(data, lookup) and not fields.teachers and fields.completion is None
    facts = StageFacts(
        terms=declared(fields.losses, lookup),
        space=_result_space(stage, earlier, lookup),
        teachers=len(fields.teachers) or int(stored),
        unlabelled="root" if data.root else "unlabelled" if data.unlabelled else "",
        labelled=bool(data.labelled),
        patches=_has_patches(fields, lookup),
        reference=isinstance(reference, ReferenceConfig),
        ranges="" if _share_a_range(stage, earlier, lookup) else "which are not known before they are built",
        selection=fields.selection,
        stored=stored,
    )
    for finding in findings(facts, with_data="data" not in stage.broken):
        permitted = fields.allow_unsound or "allow_unsound" in stage.broken
        if finding.path[0] in stage.broken or (finding.unsound and permitted):
            continue
        hint = ", or set allow_unsound: true for an ablation" if finding.unsound else ""
        yield stage.problem(finding.path, finding.text + hint)


def declared(losses: LossConfig, lookup: Lookup) -> list[TermFacts]:
    """Returns what the terms that are on declare. Training asks the built terms instead."""
    facts = []
    for key, needs in losses.needs().items():
        raw = getattr(getattr(losses, key), "raw", False)
        facts.append(TermFacts(needs, raw=raw, path=("losses", key)))
    for index, extra in enumerate(losses.extra):
        if extra.weight > 0:
            facts.append(TermFacts(_needs(extra, lookup), path=("losses", "extra", index)))
    return facts


def _needs(extra: ExtraLossConfig, lookup: Lookup) -> frozenset[str]:
    """Returns what a term's class declares, or what a loss looks at."""
    term = None if lookup.find("loss", extra.name) else lookup.find("term", extra.name)
    if term is not None:
        declared: frozenset[str] = getattr(lookup.load(term), "needs", frozenset())
        return declared or frozenset({"regions", "patches", "labels", "scale"})  # it is known once the term is built
    kinds = {"both": ("regions", "labels"), "teachers": ("regions",), "labels": ("labels",)}
    return frozenset((*kinds[extra.on], "scale"))


_LARGE = (4096, 4096)


def _has_patches(fields: StageFields, lookup: Lookup) -> bool:
    """True if the context sampler gives patches, or cannot be asked."""
    sampler = lookup.build(lookup.find("context", fields.contexts.name), fields.contexts.options)
    if sampler is None:
        return True
    import torch

    return len(sampler(_LARGE, torch.Generator().manual_seed(0)).patches) > 0


def _compares_what_can_be_compared(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Iterator[Problem]:
    """The core's own losses say themselves in which spaces they work; plugins' are asked once they are built."""
    space = _result_space(stage, earlier, lookup)
    for index, extra in enumerate(stage.fields.losses.extra):
        path = ("losses", "extra", index, "name")
        component = lookup.find("loss", extra.name)
        if component is None and extra.name in get_args(FeatureLossConfig.model_fields["loss"].annotation):
            message = f"'{extra.name}' compares features, not maps; it belongs to losses.feature.loss: {extra.name}"
            yield stage.problem(path, message)
        elif component is not None and component.plugin == "dadkit" and space is not None:
            try:
                getattr(lookup.build(component, extra.options), "check_space", lambda space: None)(str(space))
            except ValueError as error:
                yield stage.problem(path, str(error))


def _mixes_pairs(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Iterator[Problem]:
    fields, perturb = stage.fields, stage.fields.perturb
    if perturb is None:
        return
    if fields.completion is not None:  # what the completer sees of any picture
        if perturb.cutmix.probability:
            message = "CutMix pastes between two pictures, whose points would not fit: set this to 0"
            yield stage.problem(("perturb", "cutmix", "probability"), message)
        return
    if not (fields.data.root or fields.data.unlabelled):
        if not any(dataset.name == "labels" for dataset in fields.data.labelled):
            yield stage.problem(("perturb",), "changes what the student sees of unlabelled images, and the stage has none")
        elif perturb.cutmix.probability:
            message = "CutMix pastes between unlabelled images, and the stage has none: set this to 0"
            yield stage.problem(("perturb", "cutmix", "probability"), message)
        return
    labelled = round(fields.batch_size * fields.data.labelled_fraction) if fields.data.labelled else 0
    if perturb.cutmix.probability and fields.batch_size - labelled < 2:
        message = "CutMix pastes between two images, and a batch has one unlabelled image: raise batch_size, or set this to 0"
        yield stage.problem(("perturb", "cutmix", "probability"), message)


def _speaks_one_space(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Iterator[Problem]:
    """Teachers and true depth must be convertible to the student's space, where registrations say which they are."""
    if stage.fields.completion is not None:
        return
    space = _result_space(stage, earlier, lookup)
    if space is None:
        return
    for path, what, source in _sources(stage, earlier, lookup):
        try:
            check_conversion(source, space, what=what)
        except SpaceError as error:
            yield stage.problem(path, str(error))


def _share_a_range(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> bool:
    """True for one teacher, or metres from all of them; whether other spaces share a range is not known before they
    are built.
    """
    count = len(stage.fields.teachers)
    spaces = [space for path, _, space in _sources(stage, earlier, lookup) if path[0] == "teachers"]
    return count < 2 or (len(spaces) == count and set(spaces) == {Space.METRIC})


def _sources(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Iterator[tuple[KeyPath, str, Space]]:
    """(path, what it is, its space) of everything that the student learns from and whose space is known."""
    for index, teacher in enumerate(stage.fields.teachers):
        if teacher.name is not None:
            known = _space(lookup.find("teacher", teacher.name), teacher.options)
            if known is not None:
                yield ("teachers", index, "name"), f"teacher '{teacher.name}'", known
        elif teacher.stage is not None:
            known = _space_of_stage(teacher.stage, earlier, lookup)
            if known is not None:
                yield ("teachers", index, "stage"), f"stage '{teacher.stage}'", known
    for index, dataset in enumerate(stage.fields.data.labelled):
        known = _space(lookup.find("dataset", dataset.name), dataset.options)
        if known is not None:
            yield ("data", "labelled", index, "name"), f"dataset '{dataset.name}'", known


def _space(component: Component | None, options: Mapping[str, Any]) -> Space | None:
    """Returns what a component's option ``space`` says, if it has one, else its registration."""
    said = options.get("space") or (component.space if component is not None else None)
    return Space(said) if said in list(Space) else None


def _result_space(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Space | None:
    """Returns the space of a stage's result, if it is registered."""
    student = stage.fields.student
    if student is None or "student" in stage.broken:
        return None
    if student.stage is not None:
        return _space_of_stage(student.stage, earlier, lookup)
    return _space(lookup.find("student", student.name or ""), student.options)


def _space_of_stage(name: str, stages: Sequence[StageView], lookup: Lookup) -> Space | None:
    for index, stage in enumerate(stages):
        if stage.name == name:
            return _result_space(stage, stages[:index], lookup)
    return None


_CHECKS: tuple[tuple[tuple[str, ...], Callable[[StageView, Sequence[StageView], Lookup], Iterator[Problem]]], ...] = (
    ((), _has_a_name_of_its_own),
    (("student",), _is_complete),
    (("iterations", "epochs"), _has_a_length),
    (("completion", "teachers"), _leaves_inputs_out_of_the_mix),
    (("batch_size", "optim"), _accumulates_evenly),
    ((), _refers_to_earlier_stages),
    (("data", "batch_size"), _draws_both_kinds),
    (("teachers", "losses"), _keeps_the_rules),
    (("student", "losses"), _compares_what_can_be_compared),
    (("perturb", "data", "batch_size"), _mixes_pairs),
    (("student", "teachers", "data"), _speaks_one_space),
)
"""(keys that a check needs, the check)."""
