"""Which losses, models and data go together: rules on what a stage declares, stated once.

The configuration's checks apply them to what is written, before anything is built. Training applies them to the built stage,
which knows more: ranges of teachers, needs of plugins' terms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dadkit.config.sections import DataConfig
from dadkit.config.tree import KeyPath
from dadkit.spaces import Space

if TYPE_CHECKING:
    from dadkit.config.stages import Lookup

__all__ = ["Finding", "StageFacts", "TermFacts", "answered", "findings"]

_OF_TEACHERS = frozenset({"regions", "patches", "teachers"})


@dataclass(frozen=True)
class TermFacts:
    """What a term declares.

    Attributes:
        needs: see ``dadkit.interfaces.Need``.
        raw: it compares values with no normalisation.
        auxiliary: it teaches nothing by itself.
        path: where the configuration has it.
    """

    needs: frozenset[str]
    raw: bool = False
    auxiliary: bool = False
    path: KeyPath = ("losses",)


@dataclass(frozen=True)
class StageFacts:
    """What is known of a stage.

    Attributes:
        terms: those that are on.
        space: the student's, if known.
        teachers: how many there are, with ``stored`` one.
        stored: what teachers would answer comes with the images.
        unlabelled: the key of ``data`` that gives images without labels; empty if there are none.
        labelled: there is true depth.
        patches: the context sampler gives patches, or it is not known.
        reference: a model of its own is named whose features are followed.
        ranges: the teachers' ranges in words if they differ, or may differ; empty if they share one.
        selection: how teachers are drawn.
    """

    terms: Sequence[TermFacts]
    space: Space | None
    teachers: int
    unlabelled: str
    labelled: bool
    patches: bool = True
    reference: bool = False
    ranges: str = ""
    selection: str = "iteration"
    stored: bool = False

    def needed(self, *needs: str) -> list[TermFacts]:
        """Returns the terms that need one of these, and teach something."""
        return [term for term in self.terms if not term.auxiliary and not term.needs.isdisjoint(needs)]


def answered(data: DataConfig, lookup: Lookup) -> bool:
    """Whether every image without true depth comes with a teacher's map of it: all datasets say ``answered = True``."""
    found = [lookup.find("dataset", one.name) for one in data.unlabelled]
    says = [one is not None and getattr(lookup.load(one), "answered", False) is True for one in found]
    return data.root is None and bool(says) and all(says)


@dataclass(frozen=True)
class Finding:
    """A rule that a stage breaks.

    Attributes:
        path: the key to change.
        text: what is wrong, and what to do.
        unsound: it works, but the papers (or plain reasoning) say that it fails; ``allow_unsound: true`` permits it.
    """

    path: KeyPath
    text: str
    unsound: bool = False


def findings(stage: StageFacts, *, with_data: bool = True) -> Iterator[Finding]:
    """Every rule that the stage breaks. ``with_data=False``: its data are not known, so the rules about them are left out."""
    if with_data:
        yield from _data(stage)
        yield from _terms(stage)
    yield from _unsound(stage)


def _data(stage: StageFacts) -> Iterator[Finding]:
    follows = stage.reference and bool(stage.needed("features"))
    if stage.teachers and not stage.unlabelled:
        message = "teachers label images without labels, and there are none: give data.root or data.unlabelled"
        if stage.labelled:
            message += " (a labelled dataset may be named there too, its labels are then ignored)"
        yield Finding(("data",), message)
    elif not stage.unlabelled and not stage.labelled:
        yield Finding(("data",), "nothing to train on: give teachers and data.root, or data.labelled")
    elif stage.unlabelled and not stage.teachers and not follows:
        yield Finding(("data", stage.unlabelled), "images without labels need teachers, and the stage has no teachers")


def _terms(stage: StageFacts) -> Iterator[Finding]:
    features = stage.needed("features")
    if stage.teachers and not stage.needed(*_OF_TEACHERS, "features"):
        message = "no term of losses looks at the unlabelled images, so the teachers teach nothing: give one of them a weight"
        yield Finding(("losses",), message)
    if stage.labelled and not stage.needed("labels"):
        message = (
            "the stage has labelled data, but no term of losses looks at the true depth: give labelled or another a weight"
        )
        yield Finding(("losses", "labelled", "weight"), message)
    if features and not stage.unlabelled:
        message = "features are aligned on images without labels, and there are none: give data.root, or set this to 0"
        yield Finding((*features[0].path, "weight"), message)
    elif features and not stage.reference and (stage.stored or not stage.teachers):
        message = "the features of 'teacher' are wanted, but the stage has no teachers: name a model (reference: {name: …})"
        yield Finding(("losses", "feature", "reference"), message)
    if stage.stored:
        for term in stage.needed("patches", "teachers")[:1]:
            message = "this term asks teachers, and the maps of this stage are stored: set its weight to 0"
            yield Finding((*term.path, "weight"), message)
    for term in stage.needed("patches")[:1] if stage.teachers and not stage.patches else ():
        where = ".".join(str(part) for part in term.path)
        message = f"the context sampler has no patches, but {where} compares them: set its weight to 0, or choose local-global"
        yield Finding(("contexts", "name"), message)


def _unsound(stage: StageFacts) -> Iterator[Finding]:
    for term in stage.terms if stage.teachers else ():
        where = (*term.path, "normalizer", "name")
        if term.raw and "patches" in term.needs:
            message = (
                "patches without normalisation fail (Distill Any Depth, Table 1: AbsRel .273 on ETH3D, where hybrid reaches "
                ".064), as each patch has a scale and shift of its own; choose hybrid, global or local"
            )
            yield Finding(where, message, unsound=True)
        if term.raw and "regions" in term.needs and stage.ranges:
            message = (
                f"without normalisation the student would follow the teachers' different ranges by turns ({stage.ranges}); "
                "choose hybrid, global or local, or use one teacher"
            )
            yield Finding(where, message, unsound=True)
    if stage.selection == "average" and stage.teachers > 1:
        message = (
            "averaged teachers fail (Distill Any Depth, Table 4: AbsRel .228 on ETH3D, where drawing one reaches .054): the "
            "mean of teachers that disagree is a map that none of them gives; choose iteration or sample"
        )
        yield Finding(("selection",), message, unsound=True)
    if stage.space is Space.METRIC and not stage.needed("scale"):
        message = (
            "the student answers in metres, but every term is normalised, so nothing teaches it metres: give losses.labelled "
            "or losses.shared the normalizer none, or add a loss in metres under losses.extra"
        )
        yield Finding(("student",), message, unsound=True)
