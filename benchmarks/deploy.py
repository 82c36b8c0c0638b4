"""Exported files beside the model in torch: size, latency, differences, errors against true depth, the gate's verdict.

    python benchmarks/deploy.py                                       # the bars: ONNX beside torch, 256 px
    python benchmarks/deploy.py starter/small runs/mine --formats onnx,openvino,ncnn --photos photos/ --size 192x256 \
        --json rows.json                                              # every precision of every format
    python benchmarks/deploy.py --table rows.json                     # what was measured, as Markdown
    python benchmarks/deploy.py topformer/tiny dav2/tiny --agreement --photos photos/    # differences alone, at three sizes

One thread, one image; all files and torch compute in turns, so that other programs weigh on all alike. The files are fixed
at the size, as for a device. Static int8 measures its ranges on every second photograph; all files are compared with the model
on the others. True depth is that of the quickstart's held-out scenes, where int8 may lose at most 2 % of AbsRel. Weights are
random where a model brings none. A format whose packages do not fit beside dadkit's is measured from an environment of its own,
which adds its rows to the file. For ``--agreement`` the norms of random weights have seen 40 photographs first: without, some
networks' activations grow to thousands, and torch itself is 1e-4 from its answers in float64.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dadkit.config import load_run
from dadkit.errors import DadkitError
from dadkit.evaluation import EvaluationPlan
from dadkit.export import export_model
from dadkit.export.check import check_sizes, compare
from dadkit.export.gate import judge
from dadkit.export.photographs import cropped, photographs
from dadkit.export.writing import megabytes
from dadkit.files import write_text
from dadkit.interfaces import DepthModel, Exporter, nearest_multiple
from dadkit.loading import load_model, load_student
from dadkit.plugin import get_registry

BARS = {"topformer/tiny": 2.0, "topformer/small": 2.0, "topformer/base": 2.0, "midas/v21-small-256": 2.0, "dav2/small": 1.0}
PACKAGES = {"onnx": "onnxruntime", "litert": "ai-edge-litert", "coreml": "coremltools"}
MOST_LOST = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(BARS))
    parser.add_argument("--formats", help="names of exporters; without it the bars are measured")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--size", default="256x256", help="HEIGHTxWIDTH; the nearest legal one is taken")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--json", type=Path, help="rows go here, in place of those of the same model and format")
    parser.add_argument("--table", type=Path)
    parser.add_argument("--agreement", action="store_true")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.table.read_text())))
        return
    torch.set_num_threads(1)
    height, width = (int(side) for side in arguments.size.split("x"))
    for name in arguments.models:
        torch.manual_seed(0)
        model = loaded(name)
        multiple = model.spec.size_multiple
        if arguments.agreement:
            print(agreement(name, model, [arguments.photos] if arguments.photos else []), flush=True)
            continue
        size = (nearest_multiple(height, multiple), nearest_multiple(width, multiple))
        if arguments.formats is None:
            bar(name, model, size, arguments.rounds)
            continue
        pictures = photographs([arguments.photos] if arguments.photos else [])
        rows = measure(name, model, arguments.formats.split(","), size, pictures, arguments.photos, arguments.rounds)
        if arguments.json:
            add(rows, arguments.json)
        print(table(rows), flush=True)


def loaded(name: str) -> DepthModel:
    """Returns a student with the weights that it brings, or random ones; or a run's result."""
    return (load_model(name) if name.startswith("starter/") or Path(name).exists() else load_student(name)).eval()


def agreement(name: str, model: DepthModel, files: list[Path]) -> str:
    """A line of the table of largest differences."""
    pictures = photographs(files)
    side = nearest_multiple(256, model.spec.size_multiple)
    if not name.startswith("starter/") and not Path(name).exists():
        model.train()
        with torch.no_grad():
            for turn in range(10):
                chosen = [cropped(pictures[(4 * turn + i) % len(pictures)], (side, side)) for i in range(4)]
                model(torch.cat(chosen).float() / 255)
    with tempfile.TemporaryDirectory() as folder:
        found = export_model(model.eval(), Path(folder) / "file.onnx", pictures=files).agreement
    assert found is not None
    return f"| `{name}` | {found.worst:.1e} |"


def bar(name: str, model: DepthModel, size: tuple[int, int], rounds: int) -> None:
    """Prints how many times as fast as torch the ONNX file is: as dadkit lays out images, and with each channel by itself."""
    image = torch.rand(1, 3, *size)
    apart = copy.deepcopy(model)
    apart.channels_last = False
    with tempfile.TemporaryDirectory() as folder:
        file = export_model(model, Path(folder) / "file.onnx", size=size, check=False).files[0]
        other = load_model(file)
        calls = {"torch": lambda: model(image), "apart": lambda: apart(image), "file": lambda: other(image)}
        times = {key: statistics.median(values) for key, values in in_turns(calls, rounds).items()}
    ratio = times["torch"] / times["file"]
    wanted = BARS.get(name)
    verdict = "" if wanted is None else f"; bar {wanted:.1f} {'met' if ratio >= wanted else 'missed'}"
    print(
        f"{name} at {size[0]}x{size[1]}, {rounds} rounds: torch {times['torch']:.1f} ms (channels apart {times['apart']:.1f}), "
        f"file {times['file']:.1f} ms: {ratio:.2f} times ({times['apart'] / times['file']:.2f}){verdict}",
        flush=True,
    )


def measure(
    name: str,
    model: DepthModel,
    formats: list[str],
    size: tuple[int, int],
    pictures: list[torch.Tensor],
    photos: Path | None,
    rounds: int,
) -> list[dict[str, Any]]:
    """Returns a row for each precision of each format."""
    plan = scenes()
    others = [cropped(picture, size) for picture in pictures[1::2] or pictures]
    title = Path(name).name if Path(name).exists() else name
    rows: list[dict[str, Any]] = []
    calls: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in formats:
            registry = get_registry()
            exporter: Exporter = registry.load(registry.resolve("exporter", kind))()
            package = PACKAGES.get(kind, kind)
            for precision in exporter.precisions:
                row: dict[str, Any] = {"model": title, "format": kind, "precision": precision}
                row |= {"size": size, "runtime": f"{package} {importlib.metadata.version(package)}"}
                rows.append(row)
                file = Path(folder) / f"{kind}-{precision}{exporter.suffix}"
                try:
                    done = export_model(
                        model, file, to=kind, size=size, precision=precision, pictures=[photos] if photos else [],
                        truth=plan, max_drop=MOST_LOST if precision == "int8" else math.inf,
                    )  # fmt: skip
                except DadkitError as error:
                    row["verdict"] = f"refused: {error}"
                    continue
                row["megabytes"] = sum(map(megabytes, done.files))
                row["verdict"] = "converted, not run" if exporter.runs_here else "passes"
                row["variant"] = done.verdicts[-1].variant if done.verdicts else ""
                if exporter.runs_here:
                    continue
                run = exporter.open(file, threads=1)
                row["worst"] = compare(model, run, pictures, check_sizes(model, size)).worst
                found = judge(model, run, others, variant="", megabytes=0.0)
                row |= {"abs_rel": found.abs_rel, "delta1": found.delta1}
                assert done.drop is not None
                drop = done.drop
                row["truth"] = {
                    "abs_rel": drop.abs_rel, "change": drop.abs_rel_change, "low": drop.low, "high": drop.high
                }  # fmt: skip
                image = torch.rand(1, 3, *size).numpy()
                calls[f"{kind} {precision}"] = lambda run=run, image=image: run(image)
        image = torch.rand(1, 3, *size)
        times = in_turns({"torch": lambda: model(image), **calls}, rounds)
    for row in rows:
        if (key := f"{row['format']} {row['precision']}") in times:
            row |= {"ms": statistics.median(times[key]), "torch_ms": statistics.median(times["torch"])}
    return rows


def scenes() -> EvaluationPlan:
    """Returns what the quickstart evaluates on."""
    run = load_run(Path(__file__).parents[1] / "configs" / "quickstart.yaml", [])
    assert run.evaluation is not None
    return EvaluationPlan.resolve(run.evaluation)


def in_turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Returns the milliseconds of each call in each round: of the second of two, which finds its own data in the caches."""
    times: dict[str, list[float]] = {key: [] for key in calls}
    with torch.inference_mode():
        for call in calls.values():
            for _ in range(3):
                call()
        for _ in range(rounds):
            for key, call in calls.items():
                call()
                begun = time.perf_counter()
                call()
                times[key].append(1e3 * (time.perf_counter() - begun))
    return times


def add(rows: list[dict[str, Any]], file: Path) -> None:
    """Stores the rows beside those of other models and formats."""
    new = {(row["model"], row["format"]) for row in rows}
    kept = json.loads(file.read_text()) if file.exists() else []
    rows = [row for row in kept if (row["model"], row["format"]) not in new] + rows
    write_text(file, "[\n" + ",\n".join(json.dumps(row) for row in sorted(rows, key=lambda row: row["model"])) + "\n]\n")


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the rows as Markdown."""
    lines = [
        "| model | file | MB | × torch | largest difference | AbsRel, δ1 to the model | AbsRel to true depth | verdict |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        speed = f"{row['torch_ms'] / row['ms']:.2f}" if "ms" in row else ""
        size = f"{row['megabytes']:.2f}" if "megabytes" in row else ""
        worst, own, true = "", "", ""
        if "worst" in row:
            worst, own = f"{row['worst']:.1e}", f"{row['abs_rel']:.4f}, {row['delta1']:.3f}"
            drop = row["truth"]
            true = f"{drop['abs_rel']:.4f} {drop['change'] / drop['abs_rel']:+.1%}"
        verdict = ", ".join(filter(None, (row["verdict"].partition(":")[0], row.get("variant"))))
        file = f"`{row['model']}` | {row['format']} {row['precision']}"
        lines.append(f"| {file} | {size} | {speed} | {worst} | {own} | {true} | {verdict} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
