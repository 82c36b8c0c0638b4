"""The page of results: each published figure and ordering beside what was measured here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dadkit.files import write_text

__all__ = ["page", "write_page"]

HEAD = Path(__file__).with_name("page.md")
"""How the page begins."""

SENTENCE = {
    "holds": "holds",
    "does not hold": "**does not hold**: the opposite was measured",
    "undecided": "undecided: the interval contains 0",
}


def write_page(path: Path, found: dict[str, Any]) -> None:
    """Write the page from what :func:`results.collect` found."""
    write_text(path, page(found))


def page(found: dict[str, Any]) -> str:
    """The page as text."""
    parts = [HEAD.read_text(), _about(found["about"])]
    parts += [_table(name, table) for name, table in found["tables"].items()]
    if missing := [*found["incomplete"], *found["not_run"]]:
        parts.append(_missing(found, missing))
    return "\n".join(parts)


def _about(about: dict[str, Any]) -> str:
    device = about["gpu"] or f"{about['machine']} CPU, {about['threads']} of {about['cores']} cores"
    lines = [f"Measured on {about['date']}: {device}, torch {about['torch']}, dadkit {about['dadkit']}."]
    for name, teacher in about["teachers"].items():
        errors = teacher["abs_rel"]
        others = ", ".join(f"{model} {value:.3f}" for model, value in errors.items() if model != "student")
        lines.append(f"Teacher `{name}`: AbsRel {errors['student']:.3f}" + (f" ({others})." if others else "."))
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
        f"{counts['undecided']} are undecided. {' to '.join(dict.fromkeys(seeds))} seeds a row, {table['images']} scenes, "
        f"protocol `{table['protocol']}`.",
        "",
        *_rows(table),
        "",
        *_orderings(table),
        "",
    ]
    return "\n".join(lines)


def _missing(found: dict[str, Any], names: list[str]) -> str:
    lines = ["## Not run here", ""]
    if found["incomplete"]:
        lines.append(f'- rows of table {", ".join(found["incomplete"])} that say "not run"')
    if found["not_run"]:
        lines.append(f"- tables {', '.join(found['not_run'])}")
    command = f"python benchmarks/reproduce/reproduce.py --tables {' '.join(names)}"
    return "\n".join([*lines, "", "This runs them and writes the page anew:", "", "```bash", command, "```", ""])


def _rows(table: dict[str, Any]) -> Iterator[str]:
    published = [f"published, {dataset}" for dataset in table["datasets"]]
    yield f"| row | {' | '.join(published)} | AbsRel here | δ1 here |"
    yield "|---|" + "---:|" * (len(published) + 2)
    for name, row in table["rows"].items():
        figures = [f"{value:g}" for value in row["published"]] or ["-"] * len(published)
        measured = [_interval(row[metric]) if metric in row else "not run" for metric in ("abs_rel", "delta1")]
        yield f"| {name} | {' | '.join([*figures, *measured])} |"


def _orderings(table: dict[str, Any]) -> Iterator[str]:
    yield "| the paper finds | published | difference here | seeds | here the ordering |"
    yield "|---|---|---:|---:|---|"
    for verdict in table["orderings"]:
        better, worse = verdict["better"], verdict["worse"]
        pairs = zip(table["rows"][better]["published"], table["rows"][worse]["published"], strict=True)
        figures = ", ".join(
            f"{first:g} < {second:g}" if first != second else f"{first:g} = {second:g}" for first, second in pairs
        )
        difference = verdict["difference"]
        interval = f"{difference['mean']:+.4f} [{difference['low']:+.4f}, {difference['high']:+.4f}]"
        answer = SENTENCE[verdict["answer"]]
        yield f"| {better} better than {worse} | {figures} | {interval} | {difference['seeds']} | {answer} |"


def _interval(estimate: dict[str, float]) -> str:
    if estimate["low"] == estimate["high"]:
        return f"{estimate['mean']:.4f}"
    return f"{estimate['mean']:.4f} ± {(estimate['high'] - estimate['low']) / 2:.4f}"
