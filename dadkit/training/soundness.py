"""What a stage must not be built from: combinations that cannot work, and combinations that the papers show to fail.

The configuration's own checks see what is written; these see what was built, and also guard stages made in Python. The second
kind is permitted by ``allow_unsound: true``, which ablations set; it is then recorded with the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dadkit.errors import DadkitError
from dadkit.interfaces import ImageNetwork, ModelSpec
from dadkit.spaces import Space, SpaceError, check_conversion

if TYPE_CHECKING:
    from dadkit.training.step import Labeller
    from dadkit.training.terms import Terms

__all__ = ["StageError", "advice", "check_space", "check_stage", "check_tap", "unsound"]


class StageError(DadkitError):
    """The parts of a stage do not fit together; the message says which, why, and what to change."""

    exit_code = 2


def check_stage(
    terms: Terms,
    student: ModelSpec,
    teachers: Sequence[Labeller],
    *,
    has_unlabelled: bool,
    has_labelled: bool,
    patches: int,
    has_reference: bool,
) -> None:
    """Refuse what cannot work.

    Args:
        terms: the built terms.
        student: what the model that learns declares.
        teachers: who labels.
        has_unlabelled, has_labelled: which data there are.
        patches: how many patches the context sampler gives.
        has_reference: the feature term follows a model of its own, not a teacher.

    Raises:
        StageError: the first problem found.
    """
    for teacher in teachers:
        check_space(teacher.model.spec.space, student.space, f"teacher '{teacher.name}'")
    for problem in _impossible(terms, teachers, has_unlabelled, has_labelled, patches, has_reference):
        raise StageError(problem)


def _impossible(
    terms: Terms, teachers: Sequence[Labeller], has_unlabelled: bool, has_labelled: bool, patches: int, has_reference: bool
) -> Iterator[str]:
    if teachers and not has_unlabelled:
        yield "the stage has teachers but no unlabelled images for them to label: give data.root or data.unlabelled"
    if has_unlabelled and not teachers and not (terms.feature and has_reference):
        yield "the stage has unlabelled images but no teachers to label them"
    if terms.local_global is not None and teachers and not patches:
        yield (
            f"losses.local_global has weight {terms.local_global.weight:g}, but the context sampler gives no patches: "
            "choose contexts: {name: local-global} or losses.local_global.weight: 0"
        )
    if terms.feature is not None and not has_unlabelled:
        yield "losses.feature works on unlabelled images, and the stage has none: give data.root, or set its weight to 0"
    extra_on_teachers = [extra for extra in terms.extra if extra.on != "labels"]
    extra_on_labels = [extra for extra in terms.extra if extra.on != "teachers"]
    on_teachers = (terms.shared, terms.local_global, terms.feature, terms.gradient, *extra_on_teachers)
    if has_unlabelled and not any(on_teachers):
        yield "no term of losses looks at the unlabelled images: give one of them a weight"
    if has_labelled and not any((terms.labelled, terms.gradient, *extra_on_labels)):
        yield "no term of losses looks at the true depth: give losses.labelled a weight"


def check_space(source: Space, student: Space, what: str) -> None:
    """Refuse targets that do not convert to the student's space exactly."""
    try:
        check_conversion(source, student, what=what)
    except SpaceError as error:
        raise StageError(str(error)) from error


def check_tap(model: ImageNetwork, tap: str, what: str) -> int:
    """The width of a feature tap that the model declares."""
    if tap not in model.spec.features:
        have = ", ".join(sorted(model.spec.features)) or "none"
        raise StageError(f"losses.feature asks {what} '{model.spec.name}' for the features '{tap}'; it offers: {have}")
    return model.spec.features[tap]


def unsound(terms: Terms, student: ModelSpec, teachers: Sequence[Labeller], *, selection: str = "iteration") -> list[str]:
    """What the papers (or plain reasoning) say will fail, each with its reason; empty if all is well."""
    found = list(_unsound(terms, student, teachers))
    if selection == "average" and len(teachers) > 1:
        found.append(
            "selection: average: the mean of teachers that disagree is a map that none of them stands for "
            "(Distill Any Depth, Table 4: AbsRel .228 on ETH3D, where drawing one reaches .054)"
        )
    return found


def advice(student: ModelSpec) -> list[str]:
    """What is allowed, and yet a pity."""
    low = student.range[0]
    if student.space is Space.DISPARITY and (low is None or low < 0):
        return [
            f"'{student.name}' answers with disparity that may be negative; protocols drop such pixels, up to a third of "
            "all. A ReLU or softplus at the end prevents that"
        ]
    return []


def _unsound(terms: Terms, student: ModelSpec, teachers: Sequence[Labeller]) -> Iterator[str]:
    if teachers and terms.local_global is not None and terms.local_global.raw:
        yield (
            "losses.local_global without normalisation: a patch has a scale and shift of its own "
            "(Distill Any Depth, Table 1: AbsRel .273 on ETH3D, where hybrid reaches .064)"
        )
    if terms.shared is not None and terms.shared.raw and not _share_a_range([t.model.spec for t in teachers]):
        yield (
            "losses.shared without normalisation with teachers of different range: the student would follow them by turns ("
            + ", ".join(f"{t.name}: {_range(t.model.spec)}" for t in teachers)
            + ")"
        )
    if student.space is Space.METRIC and not _teaches_metres(terms):
        yield (
            "a metric student under normalised losses only: nothing teaches it metres. Give losses.labelled or losses.shared "
            "the normalizer none, or add a loss in metres under losses.extra"
        )


def _share_a_range(specs: Sequence[ModelSpec]) -> bool:
    """One teacher, only metric ones, or all with the same two declared bounds."""
    if len(specs) < 2 or all(spec.space is Space.METRIC for spec in specs):
        return True
    return len({spec.range for spec in specs}) == 1 and None not in specs[0].range


def _range(spec: ModelSpec) -> str:
    low, high = ("?" if bound is None else f"{bound:g}" for bound in spec.range)
    return f"{spec.space} in [{low}, {high}]"


def _teaches_metres(terms: Terms) -> bool:
    maps = (terms.shared, terms.local_global, terms.labelled)
    return bool(terms.extra) or any(term is not None and term.raw for term in maps)
