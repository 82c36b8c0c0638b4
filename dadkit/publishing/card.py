"""What a model is, how it was trained, what it is worth and how to use it: Markdown with the hub's metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dadkit._version import __version__
from dadkit.interfaces import DeployedModel, DepthModel
from dadkit.loading import LoadError, ModelCard, read_card, result_path
from dadkit.spaces import Space

__all__ = ["model_card"]

_MEANING = {
    Space.DISPARITY: "relative disparity, larger = nearer; scale and shift are unknown",
    Space.DEPTH: "relative depth, larger = farther; scale and shift are unknown",
    Space.SCALE: "depth up to one factor, larger = farther",
    Space.METRIC: "metres along the optical axis",
}
_SPDX = {"Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-SA-4.0", "CC-BY-NC-SA-4.0", "GPL-3.0"}
_METRICS = {"abs_rel": "AbsRel", "delta1": "delta1", "rmse": "RMSE"}


def model_card(model: DepthModel, source: str, *, repository: str = "ORG/NAME", files: tuple[str, ...] = ()) -> str:
    """Returns the card's text.

    Args:
        model: the loaded model.
        source: as it was named: a run's folder, a file, or a registered name. Of a run the card says how it was trained and
            what its evaluation found.
        repository: on the hub, for the code that it shows.
        files: what lies beside the card: ``model.onnx`` and ``modeling_dadkit.py`` add how to use them.
    """
    from huggingface_hub import EvalResult, ModelCardData

    trained, run, evaluation = _records(source)
    licenses = list(trained.licenses) if trained else [model.spec.license]
    name = repository.rpartition("/")[2] if repository != "ORG/NAME" else model.spec.name
    rows = [] if evaluation is None else _own_rows(evaluation)
    results = [
        EvalResult(
            task_type="depth-estimation",
            dataset_type=evaluation["dataset"]["name"],
            dataset_name=evaluation["dataset"]["name"],
            dataset_config=evaluation["protocol"]["name"],
            metric_type=metric,
            metric_name=f"{_METRICS[metric]} ({evaluation['protocol']['name']})",
            metric_value=round(row["mean"][metric], 4),
        )
        for row in rows
        for metric in _METRICS
        if evaluation is not None and metric in row["mean"]
    ]
    fields: Any = _license_fields(licenses)
    data = ModelCardData(
        **fields,
        library_name="transformers" if "config.json" in files else "dadkit",
        pipeline_tag="depth-estimation",
        tags=["depth-estimation", "monocular-depth", "knowledge-distillation", "dadkit"],
        base_model=_base_models(source) or None,
        model_name=name,
        eval_results=results or None,
    )
    parts = [
        f"---\n{data.to_yaml()}\n---\n\n# {name}",
        _what(model, trained),
        _how(trained, run),
        _worth(evaluation),
        _limits(model),
        _use(model, source, repository, files),
        "## Licence\n\nThe licences of all weights that went into this model, its teachers' included; all of them hold:\n\n"
        + "\n".join(f"- {text}" for text in licenses),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _records(source: str) -> tuple[ModelCard | None, Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """Of a trained result its metadata, ``run.json`` and ``evaluation.json``, where they are."""
    path = Path(source).expanduser()
    if not path.exists():
        return None, None, None
    try:
        file = result_path(path)
        trained = read_card(file)
    except LoadError:
        return None, None, None
    folder = _run_folder(file)
    return trained, _json(folder / "run.json"), _json(folder / "evaluation.json")


def _run_folder(file: Path) -> Path:
    """Returns the folder of the run that a stage's result belongs to: RUN/stages/STAGE/model.safetensors."""
    return file.parents[2] if file.parent.parent.name == "stages" else file.parent


def _json(file: Path) -> Mapping[str, Any] | None:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _license_fields(licenses: list[str]) -> dict[str, str]:
    """The hub knows one licence; of several, or of one that it does not know, it is told where they are."""
    if len(licenses) == 1 and licenses[0] in _SPDX:
        return {"license": licenses[0].lower()}
    return {"license": "other", "license_name": " AND ".join(licenses), "license_link": "LICENSES.md"}


def _base_models(source: str) -> list[str]:
    """Repositories of the hub that the run's configuration names as weights."""
    path = Path(source).expanduser()
    if not path.exists():
        return []
    try:
        config = _run_folder(result_path(path)) / "config.yaml"
    except LoadError:
        return []
    text = config.read_text(encoding="utf-8") if config.is_file() else ""
    return sorted(set(re.findall(r"hf:/{1,2}([\w.-]+/[\w.-]+)", text)))


def _what(model: DepthModel, trained: ModelCard | None) -> str:
    spec = model.spec
    network = f"`{trained.component}`" if trained else f"`{spec.name}`"
    count = sum(parameter.numel() for parameter in model.parameters())
    size = f", {count / 1e6:.1f} M parameters" if count else ""
    seen = f"about {spec.native.size} pixels ({spec.native.mode.replace('_', ' ')})" if spec.native.size else "its own size"
    return (
        f"Monocular depth: one RGB picture in, a map of its size out. Network: {network}{size}; it sees a picture at {seen}, "
        f"sides in multiples of {spec.size_multiple}.\n\n"
        f"**Answers:** {_MEANING[Space(spec.space)]}. Made with dadkit {__version__}."
    )


def _how(trained: ModelCard | None, run: Mapping[str, Any] | None) -> str:
    if trained is None:
        return ""
    lines = [
        "## Training",
        "",
        f"Stage `{trained.stage}` of the run `{Path(trained.run).name}`, {trained.step} optimiser steps, "
        f"configuration `{trained.config_hash}`.",
    ]
    rows = [part for part in (run or {}).get("components", []) if part.get("kind") == "teacher"]
    if rows:
        lines += ["", "| teacher | licence |", "|---|---|"]
        lines += [f"| `{row['name']}` | {row.get('license') or 'unknown'} |" for row in rows]
    lines += ["", ", ".join(f"{name} {version}" for name, version in trained.versions.items()) + "."]
    if trained.unsound:
        lines += ["", "Trained although it was known to be unsound:", "", *(f"- {doubt}" for doubt in trained.unsound)]
    return "\n".join(lines)


def _own_rows(evaluation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns the rows of the model itself: neither teachers nor trivial answers."""
    return [row for row in evaluation["models"] if row["model"].startswith("student")] or evaluation["models"][:1]


def _worth(evaluation: Mapping[str, Any] | None) -> str:
    if evaluation is None:
        return "## Results\n\nNot evaluated here. `dadkit evaluate` measures it under a named protocol."
    metrics = [metric for metric in _METRICS if metric in evaluation["models"][0]["mean"]] or list(
        evaluation["models"][0]["mean"]
    )
    first = metrics[0]
    heads = ["model", *(_METRICS.get(metric, metric) for metric in metrics), f"{_METRICS.get(first, first)}, 95 %", "images"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in evaluation["models"]:
        interval = row["interval"][first]
        cells = [row["model"], *(f"{row['mean'][metric]:.4f}" for metric in metrics)]
        cells += [f"{interval['low']:.4f} to {interval['high']:.4f}", str(row["images"])]
        lines.append("| " + " | ".join(cells) + " |")
    name = evaluation["dataset"]["name"]
    rendered = " Its pictures are rendered scenes, not photographs." if name == "procedural" else ""
    protocol = f"Protocol `{evaluation['protocol']['name']}` on `{name}`: {evaluation['protocol_in_words']}"
    return "\n".join(["## Results", "", f"{protocol}.{rendered}".replace("..", "."), "", *lines])


def _limits(model: DepthModel) -> str:
    space = Space(model.spec.space)
    lines = ["## Limits", ""]
    if space is not Space.METRIC:
        lines.append(
            "- No metres: every picture has a scale of its own"
            + (" and a shift" if space is not Space.SCALE else "")
            + ". `dadkit calibrate` fits them to known distances in one scene."
        )
    lines += [
        "- Not for decisions that safety depends on: glass, mirrors, sky and thin things are often wrong.",
        "- Trained pictures decide what it knows; measure it on your own before you rely on it.",
    ]
    return "\n".join(lines)


def _use(model: DepthModel, source: str, repository: str, files: tuple[str, ...]) -> str:
    if isinstance(model, DeployedModel):
        named = Path(source).name
        call = f'model = dadkit.load_model("{named}")'
    elif Path(source).expanduser().exists():
        call = (
            "from huggingface_hub import snapshot_download\n\n"
            f'model = dadkit.load_model(snapshot_download("{repository}") + "/dadkit/model.safetensors")'
        )
    else:
        call = f'model = dadkit.load_model("{source}")'
    blocks = [f'## Use\n\n```python\nimport dadkit\n\n{call}\ndepth = model.predict("photo.jpg").depth  # (1, 1, H, W)\n```']
    if "config.json" in files:
        trust = ", trust_remote_code=True" if "modeling_dadkit.py" in files else ""
        blocks.append(
            "```python\nfrom transformers import pipeline\n\n"
            f'estimate = pipeline("depth-estimation", model="{repository}"{trust})\n'
            'depth = estimate("photo.jpg")["predicted_depth"]\n```'
        )
    if "model.onnx" in files:
        blocks.append(
            '```python\nimport numpy, onnxruntime\n\nsession = onnxruntime.InferenceSession("model.onnx")\n'
            f"image = numpy.zeros((1, 3, {4 * model.spec.size_multiple}, {6 * model.spec.size_multiple}), numpy.float32)  "
            '# RGB in [0, 1]\n(depth,) = session.run(["depth"], {"image": image})\n```'
        )
    return "\n\n".join(blocks)
