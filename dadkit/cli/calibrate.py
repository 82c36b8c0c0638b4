"""`dadkit calibrate`: metres for a relative model, from known distances or a labelled set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from dadkit.cli.arguments import MODEL

if TYPE_CHECKING:
    from dadkit.calibration import Calibration
    from dadkit.interfaces import DepthModel


def calibrate(
    model: Annotated[str, typer.Argument(help=f"{MODEL}.")],
    rest: Annotated[
        list[str] | None, typer.Argument(metavar="[PICTURE] [KEY=VALUE]...", help="A picture; or options of the dataset.")
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option("--at", metavar="X,Y=METRES", help="A known distance at a pixel of PICTURE; may be repeated."),
    ] = None,
    points: Annotated[
        Path | None, typer.Option(help="A CSV file with the columns image,x,y,metres; without image where PICTURE is given.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="A labelled set with metres instead of points.")
    ] = None,
    root: Annotated[str | None, typer.Option("--root", help="The dataset's folder; the same as root=….")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the set's first so many pictures.")] = None,
    focal: Annotated[float | None, typer.Option(help="Focal length of PICTURE in pixels. Default: of its EXIF data.")] = None,
    fov: Annotated[float | None, typer.Option(help="Horizontal field of view in degrees, instead of --focal.")] = None,
    along_axis: Annotated[
        bool, typer.Option("--along-axis", help="Distances are along the optical axis, not to the lens as a tape gives them.")
    ] = False,
    form: Annotated[str, typer.Option(help="auto, scale, affine (with a shift), power or curve.")] = "auto",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to store it. Default: beside the model's weights.")
    ] = None,
) -> None:
    """Fit the pair of numbers that brings a relative model's maps to metres, and store it beside the weights.

    Without distances it names the places in PICTURE where measuring helps most. `dadkit predict` and `dadkit export` use the
    stored pair, or that of --align FILE. It holds for one camera and scene: a relative model has no global calibration.

    Example: dadkit calibrate runs/mine hall.jpg --at 812,440=2.35 --at 310,600=1.2 --at 500,210=6.8
    """
    from dadkit.alignment.few import CalibrationError, Form
    from dadkit.calibration import beside, calibrate_points, calibrate_set, parse_point, read_points, write_calibration
    from dadkit.cli.arguments import split_model
    from dadkit.cli.output import note
    from dadkit.loading import load_model
    from dadkit.prediction import Lens

    if form not in get_args(Form):
        raise CalibrationError(f"--form is one of {', '.join(get_args(Form))}; got '{form}'")
    pictures = [Path(word) for word in rest or [] if "=" not in word or os.path.exists(word)]
    if len(pictures) > 1 or (at and not pictures):
        raise CalibrationError("--at belongs to one PICTURE; several pictures take --points FILE with image,x,y,metres")
    if dataset is not None and (at or points or pictures):
        raise CalibrationError("give known distances or a labelled set, not both")
    name, options = split_model(model)
    loaded = load_model(name, **options)
    lens = None if focal is None and fov is None else Lens(focal, fov)
    known = [parse_point(text, pictures[0]) for text in at or []]
    if points is not None:
        known += read_points(points, pictures[0] if pictures else None)
    if dataset is not None:
        assignments = [word for word in rest or [] if "=" in word]
        found = calibrate_set(loaded, _dataset(dataset, assignments, root), name=dataset, limit=limit, form=form)  # type: ignore[arg-type]
    elif known:
        found = calibrate_points(loaded, known, lens=lens, along_axis=along_axis, form=form)  # type: ignore[arg-type]
    elif pictures:
        _suggest(loaded, model, pictures[0])
        return
    else:
        raise CalibrationError("nothing to fit: give a PICTURE (for advice), --at, --points or --dataset")
    _report(found)
    target = output or beside(model) or Path(f"{name.replace('/', '-')}.calibration.json")
    write_calibration(found, target, model)
    use = "" if target == beside(model) else f" --align {target}"
    note(f"wrote {target}; in use with: dadkit predict PHOTOS --model {model}{use}")


def _dataset(name: str, options: list[str], root: str | None) -> Any:
    from dadkit.config.components import build
    from dadkit.config.stages import parse_assignments

    return build("dataset", name, parse_assignments(options) | ({} if root is None else {"root": root}))


def _suggest(model: DepthModel, name: str, picture: Path) -> None:
    from dadkit.calibration import suggest_points
    from dadkit.cli.output import note

    places = suggest_points(model, picture)
    note("measure the distance from the lens to these places, or to even faces near them, from near to far, and give them:")
    typer.echo(f"dadkit calibrate {name} {picture} " + " ".join(f"--at {x},{y}=METRES" for x, y in places))


def _report(found: Calibration) -> None:
    from dadkit.cli.output import note, print_table

    if found.rows:
        rows = [
            [
                f"{row['picture']} {row['x']:g},{row['y']:g}",
                f"{row['metres']:.2f}",
                f"{row['fitted']:.2f}",
                f"{row['error']:+.1%}",
                "" if row["left_out"] is None else f"{row['left_out']:+.1%}",
                "disagrees" if row["disagrees"] else "",
            ]
            for row in found.rows
        ]
        print_table(("point", "metres", "fitted", "error", "if left out", ""), rows)
    pair = found.metres
    fitted = f"{pair.scale:.6g} * value" + (f" ** {pair.power:.6g}" if pair.power != 1 else f" + {pair.shift:.6g}")
    formula = f"1 / ({fitted})" if pair.space == "disparity" else fitted
    if pair.bends:
        formula += f", bent at {len(pair.bends) - 1} values between the points"
    note(f"metres = {formula}, from {pair.nearest:.2f} to {pair.farthest:.2f} m")
    if "abs_rel" in found.facts:
        row = found.facts["abs_rel"]
        note(
            f"AbsRel of pictures that were left out: {row['expected']:.3f} ({row['low']:.3f} to {row['high']:.3f}); "
            f"with a pair for each picture: {row['own_pair']:.3f}; {found.facts['pictures']} pictures"
        )
    elif found.expected is not None:
        note(f"expected error of other pixels: {found.expected:.1%} (median of the points, each left out of the fit)")
    for text in found.notes:
        note(f"careful: {text}")
