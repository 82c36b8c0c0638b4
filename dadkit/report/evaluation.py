"""The page of an evaluation: protocol in words, tables with intervals, best and worst images, histograms, figures, failures."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from dadkit.data.sample import Dataset, Sample
from dadkit.errors import DadkitError
from dadkit.evaluation.plan import EvaluationPlan
from dadkit.evaluation.protocol import Protocol, cut_frame
from dadkit.evaluation.strips import find_samples, strip
from dadkit.interfaces import DepthModel, convert
from dadkit.pictures import grid
from dadkit.report import figures as draw
from dadkit.report.page import (
    Picture,
    comparison_table,
    heading,
    higher_is_better,
    picture,
    plot,
    read_json,
    scores_table,
    write_page,
)
from dadkit.spaces import Space

__all__ = ["FIGURES", "check_figures", "write_evaluation_report"]

FIGURES = {
    "alignment": "local against global alignment on the central region",
    "crops": "the whole image against the central region alone",
    "normalisation": "none, global, hybrid and local normalisation of one map",
}
"""Name of an optional figure -> what it shows."""


def check_figures(names: Sequence[str], protocol: Protocol) -> None:
    """Refuse figures that the protocol cannot have, before anything is measured.

    Raises:
        DadkitError: the figure needs dense truth, or an alignment.
    """
    if names and protocol.task == "ordinal":
        raise DadkitError(f"the figures need dense depth, but '{protocol.name}' measures pairs of points; leave out --figure")
    if names and protocol.labels == "relative":
        raise DadkitError(f"the figures need metric depth, but '{protocol.name}' measures relative labels; leave out --figure")
    if "alignment" in names and protocol.alignment == "none":
        raise DadkitError(f"--figure alignment compares alignments, but '{protocol.name}' aligns nothing")


def write_evaluation_report(
    folder: Path,
    plan: EvaluationPlan,
    models: Mapping[str, DepthModel],
    *,
    figures: Sequence[str] = (),
    qualitative: Path | None = None,
) -> Path:
    """Write ``evaluation.html`` beside the ``evaluation.json`` and ``evaluation.csv`` of an evaluation.

    Args:
        folder: the folder of those files.
        plan: what was measured.
        models: row name -> model, for the pictures.
        figures: out of :data:`FIGURES`.
        qualitative: a folder of images on which all models are shown.

    Returns:
        The path of the page. It refers to no other file and loads nothing from the network.
    """
    results = read_json(folder / "evaluation.json")
    protocol = plan.protocol
    scores = _scores(folder / "evaluation.csv", protocol)
    strips: list[Picture] = []
    drawn: dict[str, Any] | None = None
    if protocol.task == "depth":
        dataset = plan.open()
        shown = {name: model for name, model in models.items() if name in scores}
        strips = _strips(dataset, shown, scores, protocol)
        drawn = _figures(figures, dataset, shown, scores, protocol) if figures else None
    counts = f"{len(results['models'])} model{'s' if len(results['models']) != 1 else ''}"
    others = None
    if qualitative is not None:
        caption = f"Images of {qualitative.name}; each map on its own limits."
        others = picture(draw.qualitative_figure(qualitative, models), caption)
    return write_page(
        folder / "evaluation.html",
        "evaluation.html",
        title=f"dadkit evaluation: {plan.dataset}, {protocol.name}",
        subtitle=f"{counts}; means are over images, each counting once",
        protocol=protocol,
        results=results,
        scores=scores_table(results, detailed=True),
        comparisons=comparison_table(results),
        failures=_failures(results),
        strips=strips,
        figures=drawn,
        histogram=_histograms(scores, protocol),
        qualitative=others,
        about={key: results[key] for key in ("dataset", "spaces", "licenses", "versions") if key in results},
    )


def _failures(results: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Model -> what was left out of its means, with the keys of the first images."""
    return {
        model["model"]: {
            kind: ", ".join(model[kind][:20]) + (f" and {len(model[kind]) - 20} more" if len(model[kind]) > 20 else "")
            for kind in ("skipped", "failed")
            if model[kind]
        }
        for model in results["models"]
        if model["skipped"] or model["failed"]
    }


def _strips(
    dataset: Dataset, models: Mapping[str, DepthModel], scores: Mapping[str, dict[str, float]], protocol: Protocol
) -> list[Picture]:
    """Best, median and worst image of each model, all models beside each other."""
    metric = protocol.metrics[0]
    wanted = {name: _ranked(scores[name], metric) for name in models}
    samples = find_samples(dataset, {key for keys in wanted.values() for key in keys.values()})
    parts = []
    titles = ["image", "truth"] + [title for name in models for title in (name, "error")]
    for name, keys in wanted.items():
        for place, key in keys.items():
            pixels = grid([strip(samples[key], models, protocol)], titles=titles)
            value = scores[name][key]
            parts.append(picture(pixels, f"{name}, {place}: {key}, {heading(metric).split(' ')[0]} {value:.4f}"))
    return parts


def _ranked(scores: Mapping[str, float], metric: str) -> dict[str, str]:
    order = sorted(scores, key=lambda key: scores[key], reverse=higher_is_better(metric))
    places = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    return {place: key for place, key in places.items() if key not in list(places.values())[: list(places).index(place)]}


def _figures(
    names: Sequence[str],
    dataset: Dataset,
    models: Mapping[str, DepthModel],
    scores: Mapping[str, dict[str, float]],
    protocol: Protocol,
) -> dict[str, Any]:
    """Returns the figures that were asked for, and what they were drawn for."""
    metric = protocol.metrics[0]
    last = list(models)[-1]
    key = _ranked(scores[last], metric).get("median") or _ranked(scores[last], metric)["best"]
    sample = cut_frame(find_samples(dataset, {key})[key], protocol.frame)
    pictures, segments = [], Markup()
    if "alignment" in names:
        pixels, values = draw.alignment_figure(sample, models, protocol)
        title = heading(metric).split(" ")[0]
        told = "; ".join(f"{name}: {title} {a:.4f} aligned globally, {b:.4f} locally" for name, (a, b) in values.items())
        pictures.append(picture(pixels, f"Local against global alignment. Rows: {', '.join(models)}. {told}"))
    if "crops" in names:
        caption = (
            f"Whole image against central region. Rows: {', '.join(models)}. The whole image's map is aligned to the region's."
        )
        pictures.append(picture(draw.crops_figure(sample, models), caption))
    if "normalisation" in names:
        normalised, segments = _normalisation(sample)
        pictures.append(normalised)
    return {"key": key, "model": last, "pictures": pictures, "segments": segments}


def _normalisation(sample: Sample) -> tuple[Picture, Markup]:
    assert sample.depth is not None
    disparity, valid = convert(sample.depth, sample.valid, Space.METRIC, Space.DISPARITY)
    low = disparity[valid].min() if valid is not None and bool(valid.any()) else disparity.min()
    disparity = disparity if valid is None else disparity.where(valid, low)
    caption = (
        "Normalisation of the true disparity; unknown pixels count as farthest. The borders of the finest segments are white; "
        "hybrid is the mean of its levels."
    )
    return picture(draw.normalisation_figure(disparity, sample.image), caption), draw.segments_plot(disparity[0])


def _histograms(scores: Mapping[str, dict[str, float]], protocol: Protocol) -> Markup:
    """Returns the first metric over images, all models on the same bins."""
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    axis = figure.subplots()
    every = np.concatenate([list(values.values()) for values in scores.values()])
    top = float(np.quantile(every, 0.99)) if len(every) > 1 else float(every.max())
    bins = np.linspace(min(0.0, float(every.min())), top if top > 0 else 1.0, 41).tolist()
    for name, values in scores.items():
        axis.hist(np.clip(list(values.values()), bins[0], bins[-1]), bins=bins, histtype="step", linewidth=1.5, label=name)
    axis.set_xlabel(f"{heading(protocol.metrics[0])} (the last bin holds everything beyond)", fontsize=9)
    axis.set_ylabel("images", fontsize=9)
    axis.legend(fontsize=8)
    return plot(figure)


def _scores(path: Path, protocol: Protocol) -> dict[str, dict[str, float]]:
    """model -> key -> first metric, from the CSV."""
    found: dict[str, dict[str, float]] = {}
    with path.open(newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            found.setdefault(row["model"], {})[row["key"]] = float(row[protocol.metrics[0]])
    return found
