"""The page of results: each published figure and ordering beside what was measured here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from table import SETTINGS, Setting

from dadkit.files import write_text

__all__ = ["page", "write_page"]

SENTENCE = {
    "holds": "holds",
    "does not hold": "**does not hold**: the opposite was measured",
    "undecided": "undecided: the interval contains 0",
}


def write_page(path: Path, found: dict[str, Any], setting: Setting) -> None:
    """Write the page from what :func:`results.collect` found."""
    write_text(path, page(found, setting))


def page(found: dict[str, Any], setting: Setting) -> str:
    """The page as text: the setting's ``page.md``, then what was found."""
    parts = [(setting.folder / "page.md").read_text(), _about(found["about"])]
    parts += [_table(name, table) for name, table in found["tables"].items()]
    if missing := [*found["incomplete"], *found["not_run"]]:
        parts.append(_missing(found, missing, setting))
    return "\n".join(parts)


def _about(about: dict[str, Any]) -> str:
    device = about["gpu"] or f"{about['machine']} CPU, {about['threads']} of {about['cores']} cores"
    lines = [f"Measured on {about['date']}: {device}, torch {about['torch']}, dadkit {about['dadkit']}."]
    for name, teacher in about["teachers"].items():
        errors = teacher["abs_rel"]
        others = ", ".join(f"{model} {value:.3f}" for model, value in errors.items() if model != "student")
        lines.append(f"Teacher `{name}`: AbsRel {errors['student']:.3f}" + (f" ({others})." if others else "."))
    for kind, errors in about.get("beside", {}).items():
        lines.append(f"AbsRel on {kind}: " + ", ".join(f"{line} {value:.3f}" for line, value in errors.items()) + ".")
    return "\n".join(lines) + "\n"


def _table(name: str, table: dict[str, Any]) -> str:
    counts = Counter(verdict["answer"] for verdict in table["orderings"])
    judged, published = len(table["orderings"]), table["published_orderings"]
    some = "" if judged == published else f"{judged} were measured, the rows of the others were not run: "
    numbers = [len(row["runs"]) for row in table["rows"].values() if row["runs"]]
    seeds = [str(min(numbers)), str(max(numbers))]
    lines = [
        f"## {table['title']}",
        "",
        f"Of {published} published orderings {some}{counts['holds']} hold here, {counts['does not hold']} do not, "
        f"{counts['undecided']} are undecided. {' to '.join(dict.fromkeys(seeds))} seeds a row, {_images(table)}, "
        f"protocol `{table['protocol']}`.",
        "",
        *_rows(table),
        "",
        *_orderings(table),
        "",
    ]
    return "\n".join(lines)


def _missing(found: dict[str, Any], names: list[str], setting: Setting) -> str:
    lines = ["## Not run here", ""]
    if found["incomplete"]:
        lines.append(f'- rows of table {", ".join(found["incomplete"])} that say "not run"')
    if found["not_run"]:
        lines.append(f"- tables {', '.join(found['not_run'])}")
    where = "" if setting.name == SETTINGS[0] else f"--setting {setting.name} "
    command = f"python benchmarks/reproduce/reproduce.py {where}--tables {' '.join(names)}"
    return "\n".join([*lines, "", "This runs them and writes the page anew:", "", "```bash", command, "```", ""])


def _images(table: dict[str, Any]) -> str:
    if "kinds" not in table:
        return f"{table['images']} scenes"
    kinds = []
    for kind, found in table["kinds"].items():
        mean = f", mean over {found['sets']} sets" if found["sets"] > 1 else ""
        kinds.append(f"{found['images']} images ({kind}{mean})")
    return " and ".join(kinds)


def _rows(table: dict[str, Any]) -> Iterator[str]:
    published = [f"published, {dataset}" for dataset in table["datasets"]]
    also = list(table.get("also", {}))
    columns = [*published, "AbsRel here", "δ1 here", *(f"AbsRel, {kind}" for kind in also)]
    yield f"| row | {' | '.join(columns)} |"
    yield "|---|" + "---:|" * len(columns)
    for name, row in table["rows"].items():
        figures = [f"{value:g}" for value in row["published"]] or ["-"] * len(published)
        measured = [_interval(row[metric]) if metric in row else "not run" for metric in ("abs_rel", "delta1")]
        measured += [_interval(row["also"][kind]) if "also" in row else "not run" for kind in also]
        yield f"| {name} | {' | '.join([*figures, *measured])} |"


def _orderings(table: dict[str, Any]) -> Iterator[str]:
    also = {kind: {(v["better"], v["worse"]): v for v in found} for kind, found in table.get("also", {}).items()}
    columns = [
        "the paper finds",
        "published",
        "difference here",
        "seeds",
        "here the ordering",
        *(f"on {kind}" for kind in also),
    ]
    yield f"| {' | '.join(columns)} |"
    yield "|---|---|---:|---:|---|" + "---|" * len(also)
    for verdict in table["orderings"]:
        better, worse = verdict["better"], verdict["worse"]
        pairs = zip(table["rows"][better]["published"], table["rows"][worse]["published"], strict=True)
        figures = ", ".join(
            f"{first:g} < {second:g}" if first != second else f"{first:g} = {second:g}" for first, second in pairs
        )
        cells = [f"{better} better than {worse}", figures, _difference(verdict), str(verdict["difference"]["seeds"])]
        cells.append(SENTENCE[verdict["answer"]])
        for found in also.values():
            other = found[better, worse]
            cells.append(f"{other['answer']}, {_difference(other)}")
        yield f"| {' | '.join(cells)} |"


def _difference(verdict: dict[str, Any]) -> str:
    difference = verdict["difference"]
    return f"{difference['mean']:+.4f} [{difference['low']:+.4f}, {difference['high']:+.4f}]"


def _interval(estimate: dict[str, float]) -> str:
    if estimate["low"] == estimate["high"]:
        return f"{estimate['mean']:.4f}"
    return f"{estimate['mean']:.4f} ± {(estimate['high'] - estimate['low']) / 2:.4f}"
