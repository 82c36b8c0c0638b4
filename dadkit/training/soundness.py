"""The built parts of a stage fit together, or are refused: the configuration's rules on what models and terms declare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dadkit.config.rules import StageFacts, TermFacts, findings
from dadkit.errors import DadkitError
from dadkit.interfaces import ImageNetwork, ModelSpec, Term
from dadkit.spaces import Space, SpaceError, check_conversion

if TYPE_CHECKING:
    from dadkit.training.labels import Labeller

__all__ = ["StageError", "StageTerm", "advice", "check_space", "check_stage", "check_tap"]


class StageError(DadkitError):
    """The parts of a stage do not fit together; the message says which, why, and what to change."""

    exit_code = 2


class StageTerm(NamedTuple):
    """A term of a stage: its name in logs, its factor in the total, itself, where the configuration has it.

    The values of terms with one name add up.
    """

    name: str
    weight: float
    term: Term
    path: tuple[str | int, ...] = ()


def check_stage(
    terms: Sequence[StageTerm],
    student: ModelSpec,
    teachers: Sequence[Labeller],
    *,
    has_unlabelled: bool,
    has_labelled: bool,
    patches: int,
    has_reference: bool,
    selection: str = "iteration",
    stored: bool = False,
) -> list[str]:
    """Refuse what cannot work; return what the papers (or plain reasoning) say will fail, each with its reason.

    Args:
        terms: the built terms.
        student: what the model that learns declares.
        teachers: the models that label.
        has_unlabelled, has_labelled: which data there are.
        patches: how many patches the context sampler gives.
        has_reference: features of a model of its own are followed, not a teacher's.
        selection: how teachers are drawn.
        stored: what teachers would answer comes with the images.

    Raises:
        StageError: the first problem found.
    """
    for teacher in teachers:
        check_space(teacher.model.spec.space, student.space, f"teacher '{teacher.name}'")
    specs = [teacher.model.spec for teacher in teachers]
    for name, _, term, path in terms:
        for problem in term.check(student, specs):
            raise StageError(f"{'.'.join(str(part) for part in path) or f'losses.{name}'} ({name}): {problem}")
    facts = StageFacts(
        terms=[TermFacts(term.needs, term.raw, term.auxiliary, path or ("losses", name)) for name, _, term, path in terms],
        space=student.space,
        teachers=len(teachers) or int(stored),
        unlabelled="unlabelled" if has_unlabelled else "",
        labelled=has_labelled,
        patches=patches > 0,
        reference=has_reference,
        ranges="" if _share_a_range(specs) else ", ".join(f"{t.name}: {_range(t.model.spec)}" for t in teachers),
        selection=selection,
        stored=stored,
    )
    found = [(finding, f"{'.'.join(str(part) for part in finding.path)}: {finding.text}") for finding in findings(facts)]
    for finding, text in found:
        if not finding.unsound:
            raise StageError(text)
    return [text for _, text in found]


def check_space(source: Space, student: Space, what: str) -> None:
    """Refuse targets that do not convert to the student's space exactly."""
    try:
        check_conversion(source, student, what=what)
    except SpaceError as error:
        raise StageError(str(error)) from error


def check_tap(model: ImageNetwork, tap: str, what: str) -> int:
    """Returns the width of a feature tap that the model declares."""
    if tap not in model.spec.features:
        have = ", ".join(sorted(model.spec.features)) or "none"
        raise StageError(f"losses.feature asks {what} '{model.spec.name}' for the features '{tap}'; it offers: {have}")
    return model.spec.features[tap]


def advice(student: ModelSpec) -> Iterator[str]:
    """Hints about what is allowed and can be done better."""
    if student.space is Space.DISPARITY and (student.range[0] is None or student.range[0] < 0):
        yield (
            f"'{student.name}' answers with disparity that may be negative; protocols drop such pixels, up to a third of "
            "all. A ReLU or softplus at the end prevents that"
        )


def _share_a_range(specs: Sequence[ModelSpec]) -> bool:
    """True if there is one teacher, only metric ones, or all have the same two declared bounds."""
    if len(specs) < 2 or all(spec.space is Space.METRIC for spec in specs):
        return True
    return len({spec.range for spec in specs}) == 1 and None not in specs[0].range


def _range(spec: ModelSpec) -> str:
    low, high = ("?" if bound is None else f"{bound:g}" for bound in spec.range)
    return f"{spec.space} in [{low}, {high}]"
