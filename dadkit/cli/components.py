"""What there is to choose from: `dadkit teachers` and the like, one per kind of component; `dadkit protocols`.

What a model costs (parameters, multiply-adds) is counted on tensors without memory, so that any size takes a second.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer

from dadkit.cli.output import note, print_facts, print_json, print_table
from dadkit.errors import DadkitError
from dadkit.kinds import KINDS, ComponentKind
from dadkit.spaces import Space

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dadkit.interfaces import DepthModel
    from dadkit.plugin import Component

__all__ = ["Cost", "measure", "short"]

_USUAL = 448  # pixels; for models that take an image at its own size, and so have none


@dataclass(frozen=True)
class Cost:
    """The cost of one model, or why it could not be measured.

    Attributes:
        parameters: how many numbers it holds, frozen ones included.
        multiply_adds: of one image in one forward pass, as counted by ``torch.utils.flop_counter`` (convolutions, matrix
            products, attention; half of its floating-point operations).
        size: (height, width) of that image.
        exportable: what files for other runtimes can be of it: ``any size``, ``one size`` or ``no``.
        error: why the others are None.
    """

    parameters: int | None = None
    multiply_adds: int | None = None
    size: tuple[int, int] | None = None
    exportable: str = ""
    error: str = ""


def measure(component: Component, side: int | None = None) -> Cost:
    """Build a teacher or student with random weights on the meta device, and count.

    Args:
        component: the registered model.
        side: of the square image that it sees, in pixels (the nearest legal multiple is taken); None: its native size.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    try:
        with torch.device("meta"), torch.no_grad():
            model = _build(component).eval()
            height, width = _size(model, side)
            images = torch.zeros(1, 3, height, width)
            with FlopCounterMode(display=False) as counter:
                model(images)
    except Exception as error:  # whatever one plugin's code raises belongs into its own row
        return Cost(error=_reason(error))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Cost(parameters, counter.get_total_flops() // 2, (height, width), model.spec.exportable)


def short(count: int | None) -> str:
    """``24.8 M`` for 24785088: three digits and a thousand's power; empty for None."""
    if count is None:
        return ""
    value, unit = float(count), ""
    for larger in ("k", "M", "G", "T"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    digits = f"{value:#.3g}".rstrip(".") if unit else str(count)
    return f"{digits} {unit}".rstrip()


def _build(component: Component) -> DepthModel:
    from dadkit.loading import load_student, load_teacher

    load = load_student if component.kind == "student" else load_teacher
    return load(component.name, **_least_options(component))


def _least_options(component: Component) -> dict[str, Any]:
    """Returns what a model needs to be built without a file: no weights, and some value where one must be given (space,
    max_depth).
    """
    from dadkit.config.components import options_model

    fields = options_model(component).model_fields
    options: dict[str, Any] = {"weights": "none"} if "weights" in fields else {}
    required = {name: _some(field.annotation) for name, field in fields.items() if field.is_required() and name not in options}
    return options | {name: value for name, value in required.items() if value is not None}


def _some(annotation: Any) -> Any:
    """Returns a value of a choice or a number; None for anything else, which the model then asks for."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)[0]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return next(iter(annotation)).value
    return 1 if annotation in (int, float) else None


def _size(model: DepthModel, side: int | None) -> tuple[int, int]:
    from dadkit.interfaces import nearest_multiple

    if side is None:
        side = model.spec.native.size or _USUAL
        return model.spec.native.target(side, side)
    legal = nearest_multiple(side, model.spec.size_multiple)
    return legal, legal


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines) if isinstance(error, DadkitError) else (lines or [""])[0]
    return text if isinstance(error, DadkitError) else f"{type(error).__name__}: {text}"


_Pattern = Annotated[
    str | None, typer.Argument(metavar="GLOB", help="Shell pattern over names ('dav2/*'), or a part of a name ('small').")
]
_Space = Annotated[Space | None, typer.Option("--space", help="Only those whose maps are in this space.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON, with every detail.")]
_Cost = Annotated[
    bool,
    typer.Option(
        "--cost", help="Measure parameters and multiply-adds with random weights, and say which export; imports the models."
    ),
]
_Size = Annotated[
    int | None,
    typer.Option("--size", min=1, help="With --cost: side of the square image, in pixels; else each model's own."),
]


def __getattr__(name: str) -> Callable[..., None]:
    """Returns the command of a kind: ``teachers``, ``students``, …"""
    for kind, row in KINDS.items():
        if row.command == name:
            return _command(kind, row)
    raise AttributeError(f"module '{__name__}' has no attribute {name!r}")


def _command(kind: str, row: ComponentKind) -> Callable[..., None]:
    """Returns the function whose arguments and docstring typer turns into ``dadkit teachers`` and its kin."""
    command: Callable[..., None]
    if row.has_cost:

        def command(
            pattern: _Pattern = None, space: _Space = None, cost: _Cost = False, size: _Size = None, as_json: _Json = False
        ) -> None:
            _list(kind, pattern, space, as_json, cost=cost or size is not None, size=size)

    elif row.has_space:

        def command(pattern: _Pattern = None, space: _Space = None, as_json: _Json = False) -> None:
            _list(kind, pattern, space, as_json)

    else:

        def command(pattern: _Pattern = None, as_json: _Json = False) -> None:
            _list(kind, pattern, None, as_json)

    imports = "Without --cost, imports" if row.has_cost else "Imports"
    command.__doc__ = (
        f"List {row.listed}.\n\n{imports} the plugins' entry modules (those that match), no component and no torch.\n\n"
        f"Example: dadkit {row.command} {row.example}".rstrip()
    )
    return command


def _list(
    kind: str, pattern: str | None, space: Space | None, as_json: bool, *, cost: bool = False, size: int | None = None
) -> None:
    from dadkit.plugin import PluginError, get_registry
    from dadkit.plugin.messages import failure

    registry = get_registry()
    prefix, slash, _ = (pattern or "").partition("/")
    if slash and not _is_glob(prefix):
        record = registry.plugin(prefix)
        if record.reason:
            raise PluginError(failure(record))
    found = [component for component in registry.components(kind, _glob(pattern)) if space in (None, component.space)]
    if cost:
        _print_costs(found, size, as_json)
    elif as_json:
        print_json([asdict(component) for component in found])
    elif found:
        print_table(
            ("name", "space", "multiple", "licence", "package", "requires", "summary"),
            [
                (
                    component.name,
                    component.space or "",
                    str(component.size_multiple or ""),
                    component.license or "",
                    f"{component.distribution} {component.version}",
                    ", ".join(component.requires),
                    component.summary,
                )
                for component in found
            ],
        )
    if not found:
        note(f"no {kind} matches" if pattern or space else f"no {kind} is installed")
    for record in registry.plugins():
        if record.state.is_failure and (not slash or fnmatchcase(record.name, prefix)):
            note(f"left out: {failure(record)}")


def _print_costs(components: Sequence[Component], size: int | None, as_json: bool) -> None:
    """Parameters and multiply-adds of each model; one that cannot be measured says why in its row."""
    from dadkit.cli.components import measure, short

    costs = [measure(component, size) for component in components]
    if as_json:
        print_json([{**asdict(component), "cost": asdict(cost)} for component, cost in zip(components, costs, strict=True)])
        return
    print_table(
        ("name", "parameters", "multiply-adds", "at", "exports", "space", "summary", "not measured"),
        [
            (
                component.name,
                short(cost.parameters),
                short(cost.multiply_adds),
                "x".join(map(str, cost.size or ())),
                cost.exportable,
                component.space or "",
                component.summary,
                cost.error,
            )
            for component, cost in zip(components, costs, strict=True)
        ],
    )


def _is_glob(text: str) -> bool:
    return any(character in text for character in "*?[")


def _glob(pattern: str | None) -> str:
    if pattern is None:
        return "*"
    if _is_glob(pattern):
        return pattern
    return f"{pattern}*" if "/" in pattern else f"*{pattern}*"


def protocols(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[show] [NAME]", help="Show this protocol whole; `show NAME` and `NAME` mean the same."),
    ] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="With this dataset's own values.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the evaluation protocols, or show one.

    Example: dadkit protocols show marigold --dataset nyuv2
    """
    from dadkit.errors import UsageError
    from dadkit.evaluation import load_protocol, protocol_names

    wanted = [name for name in names or [] if name != "show"]
    if len(wanted) > 1:
        raise UsageError(f"one protocol at a time, got {', '.join(wanted)}")
    chosen = [load_protocol(each, dataset) for each in (wanted or protocol_names())]
    if as_json:
        print_json([protocol.plain() for protocol in chosen])
        return
    if not wanted:
        print_table(
            ["protocol", "space", "alignment", "datasets", "summary"],
            [
                [p.name, *((str(p.space), p.alignment) if p.task == "depth" else ("", "")), " ".join(p.datasets), p.summary]
                for p in chosen
            ],
        )
        return
    protocol = chosen[0]
    facts = {key: value for key, value in protocol.plain().items() if key not in ("name", "datasets")}
    shown = facts | {"metrics": " ".join(protocol.metrics)}
    print_facts(protocol.name, {key: str(value) for key, value in shown.items() if value is not None})
    print_facts("in words", protocol.words())
    if dataset is None and protocol.datasets:
        print_facts("with other values for", {name: _listed(own) for name, own in protocol.datasets.items()})


def _listed(own: dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in own.items()) or "the same"
