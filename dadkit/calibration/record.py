"""A pair that makes maps metric, in a file beside the weights that it belongs to."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dadkit._version import __version__
from dadkit.alignment.few import CalibrationError
from dadkit.files import write_text
from dadkit.interfaces import CalibratedModel, DepthModel, Metres, Space
from dadkit.loading import result_path

__all__ = ["Calibration", "beside", "calibrated", "digest", "of_model", "read_calibration", "write_calibration"]

FORMATS = ("dadkit calibration 1", "dadkit calibration 2", "dadkit calibration 3")
"""The second has a power, the third bends."""


@dataclass(frozen=True)
class Calibration:
    """A pair that makes a model's maps metric, and what is known about it.

    Attributes:
        metres: the pair.
        form: ``scale``, ``affine``, ``power`` or ``curve``.
        expected: relative error that other pixels will have: the median error of points that were left out of the fit, or the
            mean AbsRel of pictures that were left out; None for two points.
        facts: where it comes from, for the file.
        rows: of points, one row each: picture, x, y, metres along the axis, what the fit answers, errors with and
            without the point in the fit.
        notes: what a user must know, a sentence each.
    """

    metres: Metres
    form: str
    expected: float | None
    facts: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()

    def plain(self) -> dict[str, Any]:
        """As the file stores it."""
        return {
            "format": FORMATS[2 if self.metres.bends else int(self.metres.power != 1)],
            "writer": f"dadkit {__version__}",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            **asdict(self.metres),
            "form": self.form,
            "expected_error": self.expected,
            **self.facts,
            "points": [dict(row) for row in self.rows],
            "notes": list(self.notes),
        }


def beside(model: str) -> Path | None:
    """Returns where a model's calibration is stored: ``calibration.json`` beside a result's weights, ``NAME.calibration.json``
    beside another file; None for a registered model, which has no folder.
    """
    path = Path(model).expanduser()
    if not path.exists():
        return None
    if path.is_file() and path.suffix != ".safetensors":
        return path.with_name(f"{path.stem}.calibration.json")
    return result_path(path).with_name("calibration.json")


def of_model(model: str) -> dict[str, str]:
    """Returns what tells a model from others: the SHA-256 of its file, or its registered name with options."""
    path = Path(model).expanduser()
    if not path.exists():
        return {"component": model}
    file = path if path.is_file() else result_path(path)
    return {"file": file.name, "sha256": digest(file)}


def digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_calibration(calibration: Calibration, file: Path, model: str) -> None:
    """Store a calibration of ``model``, over an earlier calibration but over nothing else.

    Raises:
        CalibrationError: the file exists and is no calibration.
    """
    if file.exists():
        _read(file)
    write_text(file, json.dumps({**calibration.plain(), "model": of_model(model)}, indent=1) + "\n")


def read_calibration(file: Path, model: str, space: Space) -> Metres:
    """Returns the pair in a file.

    Args:
        file: written by :func:`write_calibration`.
        model: the model that it shall be used with, as it was named.
        space: of the model's maps.

    Raises:
        CalibrationError: the file cannot be read, or belongs to another model or to other weights.
    """
    found = _read(file)
    if found["model"] != of_model(model) or found["space"] != space:
        was = found["model"].get("component") or f"another {found['model'].get('file')}"
        raise CalibrationError(
            f"{file} was made for {was} with maps of space {found['space']}, not for {model} as it is now: calibrate it anew"
        )
    numbers = {key: float(found[key]) for key in ("scale", "shift", "nearest", "farthest")}
    bends = tuple((float(low), float(high), float(more)) for low, high, more in found.get("bends", []))
    return Metres(Space(found["space"]), **numbers, power=float(found.get("power", 1.0)), bends=bends)


def calibrated(model: DepthModel, name: str, file: str | Path | None = None) -> tuple[DepthModel, Path | None]:
    """Returns a model with its calibration.

    Args:
        model: the loaded model.
        name: as it was named.
        file: the calibration; None: the one that is stored beside the weights, if there is one; ``"none"``: no calibration.

    Returns:
        The model, in metres if there is a calibration, and the calibration's file.

    Raises:
        CalibrationError: as :func:`read_calibration`.
    """
    if file is None:
        stored = beside(name)
        file = stored if stored is not None and stored.is_file() else "none"
    if file == "none":
        return model, None
    path = Path(file).expanduser()
    return CalibratedModel(model, read_calibration(path, name, model.spec.space)).eval(), path


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CalibrationError(f"cannot read {file}: {error.strerror or error}") from error
    except ValueError as error:
        raise CalibrationError(f"{file} is no calibration: {error}") from error
    if not isinstance(found, dict) or found.get("format") not in FORMATS:
        raise CalibrationError(f"{file} is no calibration that this dadkit reads; `dadkit calibrate` writes them")
    return found
