"""In which spaces the parts of a stage speak, as far as registrations and options say it before anything is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dadkit.config.stages import Lookup, StageView
from dadkit.config.tree import KeyPath, Problem
from dadkit.spaces import Space, SpaceError, check_conversion

if TYPE_CHECKING:
    from dadkit.plugin import Component

__all__ = ["result_space", "share_a_range", "speaks_one_space"]


def speaks_one_space(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Iterator[Problem]:
    """Teachers and true depth must be convertible to the student's space, where registrations say which they are."""
    space = result_space(stage, earlier, lookup)
    if space is None:
        return
    for path, what, source in _sources(stage, earlier, lookup):
        try:
            check_conversion(source, space, what=what)
        except SpaceError as error:
            yield stage.problem(path, str(error))


def share_a_range(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> bool:
    """One teacher, or metres from all of them; whether other spaces share their range is not known before they are built."""
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
    """What a component's option ``space`` says, if it has one, else its registration."""
    said = options.get("space") or (component.space if component is not None else None)
    return Space(said) if said in list(Space) else None


def result_space(stage: StageView, earlier: Sequence[StageView], lookup: Lookup) -> Space | None:
    """The space of a stage's result, if it is registered."""
    student = stage.fields.student
    if student is None or "student" in stage.broken:
        return None
    if student.stage is not None:
        return _space_of_stage(student.stage, earlier, lookup)
    return _space(lookup.find("student", student.name or ""), student.options)


def _space_of_stage(name: str, stages: Sequence[StageView], lookup: Lookup) -> Space | None:
    for index, stage in enumerate(stages):
        if stage.name == name:
            return result_space(stage, stages[:index], lookup)
    return None
