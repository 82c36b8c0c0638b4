"""Loading a state dict whole, or not at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from dadkit.errors import WeightsError
from dadkit.weights.families import recognise
from dadkit.weights.reading import WeightFile, read_file, some
from dadkit.weights.renaming import without_prefixes

__all__ = ["Fit", "load_family", "load_strict"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fit:
    """A file beside the model that it was given to.

    Attributes:
        file: the file, with its own names.
        state: the tensors under the model's names; names that no rule knows stay as they are.
        size: the size of the family that the file is of; None if it is of none.
    """

    file: WeightFile
    state: Mapping[str, Tensor]
    size: str | None

    def has(self, part: str) -> bool:
        """True if the file holds tensors of the model with names that begin so."""
        return any(name.startswith(part) for name in self.state)


def load_family(
    model: nn.Module,
    weights: str | Path,
    *,
    component: str,
    to_model: Callable[[Mapping[str, Tensor]], dict[str, Tensor]],
    looks_like: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], str | None],
    hint: Callable[[Fit], str],
    unlike: str = "",
    check: Callable[[WeightFile], None] = lambda file: None,
    init: str = "all",
    head: tuple[str, ...] = (),
    may_lack: tuple[str, ...] = (),
    containers: Sequence[str] = ("state_dict", "model"),
) -> Fit:
    """Read a weight file of any layout of a family and load it strictly: what the ``weights`` of a plugin's model come to.

    Args:
        model: gets the values.
        weights: file, folder or ``hf://ORG/NAME``.
        component: the model's registered name, for messages.
        to_model: a state dict with the file's names -> one with the model's, as :func:`~dadkit.weights.assemble` makes it.
        looks_like: (tensors with the file's names, with the model's names) -> the size of the family that they are of, or None.
        hint: what to say about a file that does not fit, beside the differences; "" = nothing.
        unlike: what to say where ``hint`` has nothing to say and the file is of no known size of this family.
        check: refuses a file by what is beside its tensors. Called for ``init: all`` only, as what else decides about the
            meaning of the answers: a result of dadkit in another space is refused too.
        init: ``"all"``, or ``"encoder"``: the model's parameters under ``head`` keep their values.
        head: beginnings of the names, in the model, of all that is not the encoder.
        may_lack: beginnings of names of parts that a file may lack as a whole, never in pieces; they keep their values.
        containers: as in :func:`~dadkit.weights.read_file`.

    Returns:
        The file beside the model, without what ``init`` left out.

    Raises:
        WeightsError: the file cannot be read, contradicts the options or does not fit; the message says which model it looks
            like. Nothing is copied then.
    """
    kept = head if init == "encoder" else ()

    def taken(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in to_model(tensors).items() if not (kept and name.startswith(kept))}

    def optional(state: Mapping[str, Tensor], parts: Sequence[str] = may_lack) -> Callable[[str], bool]:
        absent = (*kept, *(part for part in parts if not any(name.startswith(part) for name in state)))
        # A counter of batch norms takes no part in the function, and old files lack it.
        return lambda name: name.startswith(absent) or name.endswith(".num_batches_tracked")

    try:
        file = read_file(weights, containers=containers)
        state = taken(file.tensors)
        if _problems(model, state, optional(state)):
            for words, bare in without_prefixes(file.tensors):
                # Where names are left out, the model must be whole without them: they may be its own, of other options.
                parts = may_lack if len(bare) == len(file.tensors) else ()
                if not _problems(model, renamed := taken(bare), optional(renamed, parts)):
                    _log.warning("%s: %s", file.path, words)
                    file, state = WeightFile(file.path, bare, file.beside), renamed
                    break
    except WeightsError as error:
        raise WeightsError(f"{component}: {error}") from error
    if init == "all":
        check(file)
        _check_space(model, file, component)
    fit = Fit(file, state, looks_like(file.tensors, state))
    load_strict(
        model,
        state,
        source=weights,
        optional=optional(state),
        hint=hint(fit) or _unlike(unlike, fit, component),
        names=file.tensors,
    )
    return fit


def _check_space(model: nn.Module, file: WeightFile, component: str) -> None:
    """Refuse a result of dadkit that answers in another space: its tensors alone would fit."""
    said, space = file.card.get("space"), getattr(getattr(model, "spec", None), "space", None)
    if said is not None and space is not None and said != space:
        raise WeightsError(
            f"{component}: {file.path} is a result of dadkit ({file.card.get('component')}) that answers in {said}, not in "
            f"{space}: use that model, or init: encoder to train a new head"
        )


def _unlike(unlike: str, fit: Fit, component: str) -> str:
    """``unlike``, unless the names are the family's own."""
    if fit.size is not None:
        return ""
    family, plugin = recognise(fit.file.tensors), component.partition("/")[0]
    if family is None or family.plugin != plugin:
        return unlike
    return f"Its names are those of {family.words}, but it is no known size of {plugin}/…: it is incomplete, or changed."


def load_strict(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    source: str | Path,
    optional: Callable[[str], bool] = lambda name: False,
    hint: str = "",
    names: Iterable[str] = (),
) -> None:
    """Copy ``state`` into ``module``, all of it, or raise and copy nothing.

    Args:
        module: gets the values, in its own dtype and on its own device.
        state: name -> tensor, names as in ``module.state_dict()``; a prefix common to all or most of them is taken off, with a
            line in the log, if these fit without it.
        source: the file, for the message.
        optional: whether a name of ``module`` may be missing from ``state``; it then keeps its value.
        hint: what the caller knows about the file, for the message: which model it looks like, what to do.
        names: the file's own names where ``state``'s are changed: they tell which model of which plugin it is. Default:
            ``state``'s, which usually leave unknown names unchanged.

    Raises:
        WeightsError: names are missing or unexpected, or shapes differ; the message counts and lists them, and says which
            model the file looks like if its names are those of a family that dadkit knows. Or whole numbers are given for
            floats.
    """
    problems = _problems(module, state, optional)
    if problems:
        for words, bare in without_prefixes(state):
            if not _problems(module, bare, optional):
                _log.warning("%s: %s", source, words)
                state, problems = bare, []
                break
    if problems:
        more = [hint, _looks_like(tuple(names) or tuple(state), hint)]
        first = f"the weights in {source} do not fit {type(module).__name__}"
        raise WeightsError("\n  ".join([first, *problems, *filter(None, more)]))
    own = module.state_dict()
    whole = [name for name in state if own[name].is_floating_point() and not state[name].is_floating_point()]
    if whole:
        odd = state[whole[0]]
        kind = str(odd.dtype).removeprefix("torch.")
        scales = "" if odd.is_complex() else ", and not the scales that such quantised weights need"
        raise WeightsError(
            f"{source} holds {kind} where the model computes in floats{scales} "
            f"({len(whole)}: {some(whole)}); use the weights as they were before"
        )
    # Only names allowed by ``optional`` can still be missing here.
    module.load_state_dict(state, strict=False)


def _problems(module: nn.Module, state: Mapping[str, Tensor], optional: Callable[[str], bool]) -> list[str]:
    own = module.state_dict()
    problems = [
        _listed("missing", [name for name in own if name not in state and not optional(name)]),
        _listed("unexpected", [name for name in state if name not in own]),
        _listed(
            "of another shape",
            [
                f"{name} (file {tuple(state[name].shape)}, model {tuple(own[name].shape)})"
                for name in own
                if name in state and state[name].shape != own[name].shape
            ],
        ),
    ]
    return [problem for problem in problems if problem]


def _looks_like(names: Sequence[str], hint: str) -> str:
    family = recognise(names)
    # A caller that names its own components knows more than the names tell.
    if family is None or f"{family.plugin}/" in hint:
        return ""
    return f"Its names are those of {family.words}: {family.advice}."


def _listed(what: str, names: Sequence[str]) -> str:
    return f"{len(names)} {what}: {some(names)}" if names else ""
