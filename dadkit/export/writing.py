"""From a model to a file that has been checked against it."""

from __future__ import annotations

import errno
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from dadkit.config.components import build
from dadkit.errors import DadkitError
from dadkit.evaluation import EvaluationPlan
from dadkit.export.check import Agreement, check_sizes, compare, rounding
from dadkit.export.gate import MAX_ABS_REL, MAX_DROP, MAX_WORST, MIN_DELTA1, Drop, Truth, Untranslated, Verdict, judge
from dadkit.export.mends import mend
from dadkit.export.metadata import KEPT, describe, written
from dadkit.export.photographs import cropped, photographs
from dadkit.files import atomic_path
from dadkit.interfaces import DeployedModel, DepthModel, Exporter, ExportRequest
from dadkit.interfaces.exporter import as_input

__all__ = ["LIMIT", "ExportError", "Exported", "export_model"]

LIMIT = 1e-4
"""Largest difference, in parts of the map's range, that a float32 file may have."""
ROUNDINGS, MOST_ROUNDING = 4, 10
"""A larger one is allowed up to so many times the model's own distance from float64, never above the second times the limit."""


_FEWEST = 4


class ExportError(DadkitError):
    """A model cannot be written in a format, or the file does not do what the model does; the message says why."""


@dataclass(frozen=True)
class Exported:
    """What :func:`export_model` wrote.

    Attributes:
        files: the file, and what belongs to it.
        metadata: what the file says about itself, see :func:`dadkit.export.metadata.describe`.
        agreement: how the file compares with the model; None where it was not checked.
        notes: what a user must know, a sentence each.
        verdicts: of a file of lower precision, the variants that were tried; the last one was kept.
        drop: what the file loses against true depth; None where there was none.
    """

    files: Sequence[Path]
    metadata: Mapping[str, Any]
    agreement: Agreement | None
    notes: Sequence[str] = ()
    verdicts: Sequence[Verdict] = ()
    drop: Drop | None = None


def export_model(
    model: DepthModel,
    path: str | Path,
    *,
    to: str = "onnx",
    options: Mapping[str, Any] | None = None,
    size: tuple[int, int] | None = None,
    input: Literal["float", "uint8"] = "float",
    source: Mapping[str, Any] | None = None,
    precision: str = "fp32",
    pictures: Sequence[str | Path] = (),
    check: bool = True,
    limit: float = LIMIT,
    truth: EvaluationPlan | None = None,
    max_drop: float = MAX_DROP,
) -> Exported:
    """Write a depth model for another runtime, and check the file against the model.

    The file is run at three sizes on photographs. If its answers differ from the model's by more than ``limit``, or if anything
    else fails, no file gets the name ``path``.

    Args:
        model: any depth model.
        path: the file to write; it must not exist.
        to: registered name of the exporter.
        options: its options.
        size: (height, width) for a file of one size; None: any legal size and batch, where format and network can, else the
            network's own.
        input: ``"float"``: (B, 3, H, W) RGB in [0, 1]; ``"uint8"``: (B, H, W, 3).
        precision: one of the exporter's: ``fp32``, mostly also ``fp16`` and ``int8``. A file of lower precision must pass the
            gate of :mod:`dadkit.export.gate` instead of ``limit``. For ``int8`` half of the pictures go to the quantiser, and
            the others to the gate.
        source: where the weights come from, for the metadata: see :func:`dadkit.export.metadata.origin`.
        pictures: image files and folders to check on; none: a photograph that matplotlib ships.
        check: False writes without checking, and the file says so.
        limit: largest difference in parts of the map's range.
        truth: images with true depth and a protocol: model and file are evaluated on them too, both at the file's size.
        max_drop: with ``truth``: AbsRel may grow by this part of the model's own, at the upper end of the 95 % interval.

    Raises:
        ExportError: the network cannot be traced, the size is not legal, the file exists, or the check fails.
        dadkit.plugin.PluginError: there is no such exporter, or its runtime is not installed.
    """
    path = Path(path).expanduser()
    exporter: Exporter = build("exporter", to, options)
    if not isinstance(exporter, Exporter):
        raise TypeError(f"exporter '{to}' built a {type(exporter).__qualname__}, which is not a dadkit.interfaces.Exporter")
    size = _legal(model, exporter, size)
    if path.suffix != exporter.suffix:
        raise ExportError(f"exporter '{to}' writes {exporter.suffix} files; got {path}")
    if path.exists():
        raise ExportError(f"{path} exists already; give another name, or remove it first")
    runs = check and exporter.runs_here is None
    seen = photographs(pictures) if runs else []
    if precision not in exporter.precisions:
        raise ExportError(f"exporter '{to}' writes {', '.join(exporter.precisions)}; not '{precision}'")
    if precision == "int8" and len(seen) < _FEWEST:
        raise ExportError(
            f"int8 needs at least {_FEWEST} photographs of what the model will see, half to measure ranges and half to judge "
            f"the file: --images FOLDER; got {len(seen)}"
        )
    model.eval()
    request = ExportRequest(model.spec.size_multiple, size, input, precision)
    facts = describe(model, request, source or {"component": model.spec.name})
    network = _network(model, request)
    agreement: Agreement | None = None
    drop: Drop | None = None
    known = Truth(Untranslated(network, exporter, path, facts), truth, max_drop) if truth is not None and runs else None
    notes: list[str] = []
    verdicts: list[Verdict] = []
    with _draft_folder(path) as folder:
        draft = Path(folder) / path.name
        if precision == "fp32" or not runs:
            _write(exporter, network, draft, request, to)
        else:
            verdicts = _lowered(model, exporter, network, draft, request, to, seen, facts, known)
            drop = verdicts[-1].drop
        if not check:
            notes.append("The file was not checked against the model.")
        elif not runs:
            notes.append(f"The file was converted, not run: {exporter.runs_here}.")
        elif precision != "fp32":
            facts["gate"] = [asdict(row) for row in verdicts]
        else:
            agreement = compare(model, exporter.open(draft), seen, check_sizes(model, size), input=input)
            allowed = limit
            if limit < agreement.worst <= MOST_ROUNDING * limit:
                agreement = replace(agreement, rounding=rounding(model, seen, check_sizes(model, size)))
                allowed = max(limit, ROUNDINGS * (agreement.rounding or 0.0))
            if not agreement.worst <= allowed:  # a NaN is no agreement either
                raise ExportError(
                    f"the file answers otherwise than the model: the largest difference is {agreement.worst:.2g} of the map's "
                    f"range, more than the limit of {allowed:.2g}; nothing was written"
                )
            if known is not None:
                drop = known.drop(DeployedModel(exporter, draft, facts))
                if not drop.passes:
                    raise ExportError(f"against true depth the file {_loses(drop)}; nothing was written")
        facts["check"] = agreement.plain() if agreement else None
        facts["truth"] = asdict(drop) if drop else None
        exporter.annotate(draft, written(facts))
        files = _moved(Path(folder), path)
    return Exported(files, facts, agreement, notes, verdicts, drop)


def _draft_folder(path: Path) -> tempfile.TemporaryDirectory[str]:
    """A hidden folder beside ``path``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.")
    except OSError as error:
        raise ExportError(f"cannot write into {path.parent}: {error.strerror or error}; choose another folder") from error


def _write(exporter: Exporter, network: nn.Module, draft: Path, request: ExportRequest, to: str) -> None:
    try:
        exporter.write(network, draft, request)
    except Exception as error:  # tracers and translators raise whatever they like
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ExportError(f"cannot write {to}: {error.strerror}; free some space or choose another folder") from error
        sizes = "" if request.size else "; a file of one size may work: --size HEIGHTxWIDTH"
        raise ExportError(f"the model cannot be written as {to}{sizes}: {_short(error)}") from error


def _lowered(
    model: DepthModel,
    exporter: Exporter,
    network: nn.Module,
    draft: Path,
    request: ExportRequest,
    to: str,
    pictures: Sequence[Tensor],
    facts: Mapping[str, Any],
    known: Truth | None,
) -> list[Verdict]:
    """Write one variant after the other until one passes the gate, on pictures that no range was measured on."""
    own = model.spec.native.size or 256
    size = request.size or model.spec.native.target(round(0.75 * own), own)
    images = [cropped(picture, size) for picture in pictures]
    measured, judged = (images[::2], images[1::2]) if request.precision == "int8" else ([], images)
    calibration = [as_input(image.float() / 255, request.input) for image in measured]
    verdicts: list[Verdict] = []
    for variant in exporter.variants(request.precision):
        _write(exporter, network, draft, replace(request, variant=variant, calibration=calibration), to)
        run, size_of_files = exporter.open(draft), sum(map(megabytes, [draft, *exporter.companions(draft)]))
        kept = json.loads(exporter.metadata(draft).get(KEPT, "[]"))
        row = judge(model, run, judged, input=request.input, variant=variant, megabytes=size_of_files, kept=kept)
        if row.passes and known is not None:
            row = replace(row, drop=known.drop(DeployedModel(exporter, draft, facts)))
        verdicts.append(row)
        if verdicts[-1].passes:
            break
        draft.unlink()
    else:
        best = min(verdicts, key=lambda row: row.abs_rel)
        lost = [row.drop for row in verdicts if row.drop is not None]
        if lost:
            least = min(lost, key=lambda drop: drop.high)
            raise ExportError(
                f"against true depth no way to {request.precision} passes: the best {_loses(least)}; nothing was written"
            )
        raise ExportError(
            f"no way to {request.precision} keeps the map: the best, {best.variant or request.precision}, has AbsRel "
            f"{best.abs_rel:.3f} (at most {MAX_ABS_REL}), delta1 {best.delta1:.3f} (at least {MIN_DELTA1}), worst picture "
            f"{best.worst:.3f} (at most {MAX_WORST}) against the model; nothing was written. Take fp16, or other photographs"
        )
    for file in set(draft.parent.iterdir()) - {draft, *exporter.companions(draft)}:
        file.unlink()
    return verdicts


def _loses(drop: Drop) -> str:
    return (
        f"changes AbsRel by {drop.abs_rel_change:+.4f} [{drop.low:+.4f}, {drop.high:+.4f}] of {drop.abs_rel:.4f} on "
        f"{drop.images} images of {drop.dataset}, and the upper end may be {drop.limit:.1%} of it"
    )


def _legal(model: DepthModel, exporter: Exporter, size: tuple[int, int] | None) -> tuple[int, int] | None:
    """Returns the size of the file: the wanted one, or the model's own where format or network has no other way."""
    multiple = model.spec.size_multiple
    if model.spec.exportable == "no":
        why = ": its answer depends on a camera that a file would not be given" if model.spec.takes_camera else ""
        raise ExportError(f"{model.spec.name} cannot be written for other runtimes{why}")
    if size is None and exporter.any_size and model.spec.exportable == "any size":
        return None
    if size is None:
        side = model.spec.native.size or 8 * multiple
        return model.spec.native.target(side, side)
    if any(side < multiple or side % multiple for side in size):
        raise ExportError(f"{model.spec.name} takes multiples of {multiple}, not {size[0]}x{size[1]}")
    return size


def _network(model: DepthModel, request: ExportRequest) -> nn.Module:
    network: nn.Module = model.deployable(request.size).cpu()
    multiple = model.spec.size_multiple
    mend(network, request.size or (3 * multiple, 4 * multiple))
    return (FromBytes(network) if request.input == "uint8" else network).eval()


class FromBytes(nn.Module):
    """A network that takes (B, H, W, 3) uint8, as cameras give it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 -> (B, 1, H, W)."""
        answer: Tensor = self.network(images.permute(0, 3, 1, 2).float() / 255)
        return answer


def _moved(folder: Path, path: Path) -> list[Path]:
    """Give the files of ``folder`` their final places beside ``path``, which comes last: with it all are there."""
    names = sorted((file.name for file in folder.iterdir()), key=lambda name: (name == path.name, name))
    taken = [path.with_name(name) for name in names if path.with_name(name).exists()]
    if taken:
        raise ExportError(f"{taken[0]} exists already; give another name, or remove it first")
    for name in names:
        if (folder / name).is_dir():  # some formats are folders, and a folder is renamed whole
            (folder / name).rename(path.with_name(name))
            continue
        with atomic_path(path.with_name(name)) as temporary:
            (folder / name).rename(temporary)
    return [path.with_name(name) for name in reversed(names)]


def megabytes(path: Path) -> float:
    """Returns the size of a file, or of a folder with all that is in it."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def _short(error: Exception) -> str:
    """Returns the first line of what a tracer says; the whole of it fills screens, and is the cause of the error."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"
