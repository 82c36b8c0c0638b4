"""Models written as other programs read them, whole or their encoder alone.

The layout is the model's own; the files and their card are written here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from dadkit._version import __version__
from dadkit.conversion.remote_code import READER, remote_code
from dadkit.errors import DadkitError
from dadkit.files import atomic_path, write_text
from dadkit.interfaces import DepthModel, Export, FrozenTeacher, Student
from dadkit.loading import load_model, read_card, rebuild_options, result_path

__all__ = ["ENCODER", "ConversionError", "Converted", "convert", "encoder_state"]

WEIGHTS = "model.safetensors"
PICKLED = (".pth", ".pt")

ENCODER = "encoder"
"""The layout that every student with an encoder has, whether it names layouts or not.

Depth Anything (section 4.3) claims that its encoder transfers to other tasks.
"""


class ConversionError(DadkitError):
    """A model cannot be written in a layout; the message says which it offers."""

    exit_code = 2


@dataclass(frozen=True)
class Converted:
    """What :func:`convert` wrote.

    Attributes:
        files: all of them, the weights first.
        licenses: of all weights that went into the model.
        notes: what a user of the result must know.
    """

    files: list[Path]
    licenses: list[str]
    notes: list[str]


def convert(source: str | Path, destination: str | Path, layout: str, **options: object) -> Converted:
    """Write a model in a layout that it offers, with a card that carries the licences of its weights on.

    Args:
        source: as for ``dadkit.load_model``: a run's folder, a stage's folder, a ``model.safetensors`` written by dadkit, or a
            registered name.
        destination: a folder, or a file that ends in ``.safetensors``, ``.pth`` or ``.pt``: the layout decides.
        layout: a key of the model's ``layouts``, for instance ``"hf"``; or ``"encoder"``, which every student has.
        options: of a registered model.

    Raises:
        ConversionError: the model does not offer the layout, or the destination does not suit it.
        LoadError: there is no such model.
    """
    model, destination = load_model(source, **options), Path(destination).expanduser()
    model = getattr(model, "model", model)  # a frozen teacher holds the model that knows its layouts
    export = _export(model, source, layout, options)
    # Own and contiguous memory: files know no views, and no two names for one tensor.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in export.tensors.items()}
    licenses = _licenses(model, source)
    card = _card(model, source, destination, export, licenses)
    if export.files:
        files = _write_folder(destination, tensors, export, licenses, card)
    else:
        files = _write_file(destination, tensors, licenses, card)
    return Converted(files, licenses, list(export.notes))


def _export(model: DepthModel, source: str | Path, layout: str, options: Mapping[str, object]) -> Export:
    if layout in model.layouts:
        return model.export(layout)
    if layout == ENCODER:
        return _encoder_alone(model)
    if layout == "hf" and isinstance(model, Student):
        return remote_code(model, *_recipe(source, options))
    offered = {ENCODER: "its encoder alone, for other tasks", **model.layouts}
    if isinstance(model, Student):
        offered.setdefault("hf", READER)
    names = "; ".join(f"{name} ({reader})" for name, reader in offered.items())
    raise ConversionError(f"{source} is a {model.spec.name}, which has no layout '{layout}'; it offers {names}")


def _recipe(source: str | Path, options: Mapping[str, object]) -> tuple[str, dict[str, object]]:
    """Name and options that build the same student again, without its initial weights."""
    path = Path(source).expanduser()
    if not path.exists():
        return str(source), rebuild_options(options)
    card = read_card(result_path(path))
    return card.component, dict(card.options)


def _licenses(model: DepthModel, source: str | Path) -> list[str]:
    """Of a trained result those of its card, one by one; of a registered model its own."""
    if Path(source).expanduser().exists():
        return list(read_card(result_path(Path(source).expanduser())).licenses)
    return [model.spec.license]


def _write_folder(folder: Path, tensors: dict[str, Tensor], export: Export, licenses: list[str], card: str) -> list[Path]:
    if folder.is_file() or folder.suffix in (".safetensors", *PICKLED):
        raise ConversionError(f"this layout is a folder; '{folder}' is {'' if folder.is_file() else 'named like '}a file")
    if folder.is_dir() and any(folder.iterdir()):
        raise ConversionError(f"the folder {folder} is not empty; give a new one")
    _write_weights(folder / WEIGHTS, tensors, licenses)
    texts = {**export.files, "README.md": card}
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in (WEIGHTS, *texts)]


def _write_file(file: Path, tensors: dict[str, Tensor], licenses: list[str], card: str) -> list[Path]:
    if file.suffix not in (".safetensors", *PICKLED):
        raise ConversionError(f"this layout is a file: '{file}' must end in .safetensors, {', '.join(PICKLED)}")
    beside = file.with_suffix(".md")
    for path in (file, beside):
        if path.exists():
            raise ConversionError(f"{path} exists already; give another name, or remove it first")
    _write_weights(file, tensors, licenses)
    write_text(beside, card)
    return [file, beside]


def _write_weights(file: Path, tensors: dict[str, Tensor], licenses: list[str]) -> None:
    with atomic_path(file) as temporary:
        if file.suffix in PICKLED:
            torch.save(tensors, temporary)
        else:
            # transformers asks for the format; the licences travel with the tensors.
            save_file(tensors, temporary, metadata={"format": "pt", "license": " AND ".join(licenses)})


def _card(model: DepthModel, source: str | Path, destination: Path, export: Export, licenses: list[str]) -> str:
    """Markdown that says what the weights are, what went into them and under which terms."""
    spec = model.spec
    low, high = ("unbounded" if bound is None else f"{bound:g}" for bound in spec.range)
    lines = [
        f"# {spec.name}",
        "",
        f"Written by dadkit {__version__}. Answers: {spec.space} in [{low}, {high}]. Input: RGB in [0, 1], minus "
        f"{_numbers(spec.mean)}, divided by {_numbers(spec.std)}; sides are multiples of {spec.size_multiple} pixels.",
        "",
        "## Licence",
        "",
        "The licences of all weights that went into this model, its teachers' included; all of them hold:",
        "",
        *(f"- {name}" for name in licenses),
        "",
    ]
    if export.usage:
        lines += ["## Use", "", "```python", export.usage.format(path=destination.name).strip(), "```", ""]
    if export.notes:
        lines += ["## Notes", "", *(f"- {note}" for note in export.notes), ""]
    path = Path(source).expanduser()
    if path.exists():
        card = read_card(result_path(path))
        lines += [
            "## Origin",
            "",
            f"Stage `{card.stage}` of the run `{card.run}`, {card.step} steps; component `{card.component}` with options "
            f"`{json.dumps(dict(card.options))}`; {', '.join(f'{name} {version}' for name, version in card.versions.items())}.",
            "",
        ]
        if card.unsound:
            lines += ["Trained although it was known to be unsound:", "", *(f"- {doubt}" for doubt in card.unsound), ""]
    return "\n".join(lines)


def _numbers(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"


def encoder_state(model: DepthModel) -> dict[str, Tensor]:
    """Returns the encoder's tensors, under the names that they have within the encoder.

    The student itself says what its encoder is, by ``encoder_prefixes``. The longest part of a name that all its tensors share,
    up to a dot, is cut off: ``backbone.blocks.0.…`` becomes ``blocks.0.…``.

    Raises:
        DadkitError: the model names no tensors as its encoder's.
    """
    student = model.model if isinstance(model, FrozenTeacher) else model
    prefixes = student.encoder_prefixes if isinstance(student, Student) else ()
    state = {name: tensor for name, tensor in student.state_dict().items() if name.startswith(prefixes)}
    if not state:
        raise DadkitError(f"'{student.spec.name}' does not say which of its parameters are its encoder's (encoder_prefixes)")
    paths = [name.split(".") for name in state]
    shared = 0
    while all(len(path) > shared + 1 and path[shared] == paths[0][shared] for path in paths):
        shared += 1
    return {".".join(path[shared:]): state[name].detach() for path, name in zip(paths, state, strict=True)}


def _encoder_alone(model: DepthModel) -> Export:
    """Returns the encoder's tensors in a file of their own, for a model that has no better idea (see ``DepthModel.layouts``).

    Raises:
        DadkitError: the model names no encoder.
    """
    return Export(
        encoder_state(model),
        notes=["The tensors have the names that they have within the encoder; its code is part of the model's."],
        usage='from safetensors.torch import load_file\n\nencoder.load_state_dict(load_file("{path}"))',
    )
