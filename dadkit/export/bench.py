"""How fast a model is, by each runtime: one process a row, so that memory and first calls are its own."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dadkit.errors import DadkitError
from dadkit.evaluation import EvaluationPlan, bootstrap_mean
from dadkit.export.photographs import cropped, photographs
from dadkit.export.writing import export_model, megabytes
from dadkit.files import atomic_path
from dadkit.interfaces import DeployedModel, DepthModel
from dadkit.loading import load_model
from dadkit.plugin import get_registry

__all__ = ["BACKENDS", "Timing", "bench", "pareto"]

BACKENDS: Mapping[str, str] = {"eager": "", "compile": "", "onnx": ".onnx", "openvino": ".xml"}
"""Name of a backend -> suffix of the file that it runs; none: it runs in torch."""

_WARM_UP = 3


@dataclass(frozen=True)
class Timing:
    """One row.

    Attributes:
        model, backend: what ran.
        size: (height, width) that the network saw.
        threads: of the processor.
        first_ms: from the loaded model to the end of its first call: compilers do their work there.
        p50_ms, p90_ms, p99_ms: percentiles of the calls' wall times, after the warm-up; one image each.
        cpu_ms: least processor time of a call. On a busy machine wall times grow and this does not.
        busy: wall times are more than 15 % above what the processor worked: the machine had other work.
        pipeline_per_s: images a second from a JPEG's bytes to a map of the image's size.
        peak_mb: most memory of the process, torch included.
        megabytes: size of the file that the backend runs; None in torch.
        parameters: of the network; None of a file.
        multiply_adds: of one image at ``size``, as torch counts them (convolutions, products of matrices, attention); None of a
            file.
        abs_rel: mean AbsRel of what ran here on images with true depth; None where there were none.
        abs_rel_low, abs_rel_high: its 95 % interval, by resampling images.
    """

    model: str
    backend: str
    size: tuple[int, int]
    threads: int
    first_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    cpu_ms: float
    busy: bool
    pipeline_per_s: float
    peak_mb: float
    megabytes: float | None
    parameters: int | None
    multiply_adds: int | None
    abs_rel: float | None = None
    abs_rel_low: float | None = None
    abs_rel_high: float | None = None


def bench(
    model: str,
    options: Mapping[str, Any],
    *,
    backend: str = "eager",
    size: tuple[int, int] | None = None,
    threads: int = 1,
    runs: int = 20,
    truth: EvaluationPlan | None = None,
) -> Timing:
    """Measure one model by one backend, on the processor, in a process of its own.

    Args:
        model: as for ``load_model``; an exported file is run by its own runtime, and its backend is ``eager`` here.
        options: of a registered model.
        backend: a key of :data:`BACKENDS`. ``onnx`` and ``openvino`` export the model to a temporary file first.
        size: (height, width) that the network sees; None: the model's own for a picture of 3 : 4.
        threads: of the processor.
        runs: how many calls are measured, after a warm-up.
        truth: images with true depth and a protocol that has ``abs_rel``: what ran is evaluated on them, at its own sizes.

    Raises:
        DadkitError: no such backend, or the row's process failed; the message has its reason.
    """
    if backend not in BACKENDS:
        raise DadkitError(f"--backend must be one of {', '.join(BACKENDS)}; got '{backend}'")
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    plugin = get_registry().file
    process = context.Process(target=_row, args=(send, plugin, model, dict(options), backend, size, threads, runs, truth))
    process.start()
    send.close()
    try:
        answer = receive.recv()
    except EOFError:
        answer = "its process ended without an answer, perhaps for want of memory"
    process.join()
    if isinstance(answer, str):
        raise DadkitError(f"{model} by {backend}: {answer}")
    assert isinstance(answer, Timing)
    return answer


def _row(send: Any, plugin: Path | None, *arguments: Any) -> None:
    try:
        if plugin is not None:
            get_registry().use_file(plugin)
        send.send(_measure(*arguments))
    except Exception as error:  # told to the other process, which raises it
        send.send(f"{type(error).__name__}: {error}")


def _measure(
    name: str,
    options: dict[str, Any],
    backend: str,
    size: tuple[int, int] | None,
    threads: int,
    runs: int,
    truth: EvaluationPlan | None,
) -> Timing:
    import io
    import resource

    from PIL import Image
    from torch.utils.flop_counter import FlopCounterMode

    from dadkit.data.images import decode

    torch.set_num_threads(threads)
    model = load_model(name, **options).eval()
    parameters = sum(parameter.numel() for parameter in model.parameters()) or None
    own = model.spec.native.size or 256
    height, width = size or model.spec.native.target(round(0.75 * own), own)
    picture = photographs()[0]
    images = cropped(picture, (height, width)).float() / 255
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False), torch.no_grad():
        deployed, megabytes = _by(model, backend, Path(folder))
        call = torch.compile(deployed) if backend == "compile" else deployed
        begun = time.perf_counter()
        call(images)
        first = time.perf_counter() - begun
        for _ in range(_WARM_UP):
            call(images)
        wall, work = [], []
        for _ in range(runs):
            begun, worked = time.perf_counter(), time.process_time()
            call(images)
            work.append(time.process_time() - worked)
            wall.append(time.perf_counter() - begun)
        buffer = io.BytesIO()
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=90)
        begun = time.perf_counter()
        for _ in range(max(runs // 4, 1)):
            deployed.predict(decode(buffer.getvalue()).float() / 255)
        pipeline = max(runs // 4, 1) / (time.perf_counter() - begun)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # before the images of an evaluation come
        errors = _errors(deployed, truth) if truth is not None else {}
    with FlopCounterMode(display=False) as counter, torch.no_grad():  # last: a first call is measured above
        model(images)
    multiply_adds = counter.get_total_flops() // 2 if parameters else None
    wall.sort()
    cpu = min(work)
    return Timing(
        model=name,
        backend=backend,
        size=(height, width),
        threads=threads,
        first_ms=1e3 * first,
        p50_ms=1e3 * _percentile(wall, 0.5),
        p90_ms=1e3 * _percentile(wall, 0.9),
        p99_ms=1e3 * _percentile(wall, 0.99),
        cpu_ms=1e3 * cpu,
        busy=_percentile(wall, 0.5) > 1.15 * cpu / threads,
        pipeline_per_s=pipeline,
        peak_mb=peak,
        megabytes=megabytes,
        parameters=parameters,
        multiply_adds=multiply_adds,
        **errors,
    )


def _errors(model: DepthModel, truth: EvaluationPlan) -> dict[str, float]:
    from dadkit.evaluation.evaluate import evaluate

    rows = evaluate(model, truth.open(), truth.protocol, name="row", batch_size=truth.batch_size, limit=truth.limit).images
    values = [row.metrics["abs_rel"] for row in rows]
    interval = bootstrap_mean(values)
    return {"abs_rel": sum(values) / len(values), "abs_rel_low": interval.low, "abs_rel_high": interval.high}


def _by(model: DepthModel, backend: str, folder: Path) -> tuple[DepthModel, float | None]:
    if isinstance(model, DeployedModel):
        return model, sum(map(megabytes, [model.path, *model.exporter.companions(model.path)]))
    suffix = BACKENDS[backend]
    if not suffix:
        return model, None
    files = export_model(model, folder / f"bench{suffix}", to=backend, check=False).files
    return load_model(files[0]), sum(map(megabytes, files))


def pareto(rows: Sequence[Timing], path: Path) -> None:
    """Draw latency against accuracy: rows that no other beats in both are coloured and joined, the others are grey.

    Args:
        rows: with ``abs_rel``; those without are left out.
        path: an .svg, .png or .pdf file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter

    shown = sorted((row for row in rows if row.abs_rel is not None), key=lambda row: row.p50_ms)
    best = [row for row in shown if not any(_beats(other, row) for other in shown)]
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for row in shown:
        assert row.abs_rel is not None
        assert row.abs_rel_low is not None
        assert row.abs_rel_high is not None
        colour = "C0" if row in best else "0.6"
        reach = [[row.abs_rel - row.abs_rel_low], [row.abs_rel_high - row.abs_rel]]
        axes.errorbar(row.p50_ms, row.abs_rel, yerr=reach, fmt="o", color=colour, ecolor=colour, elinewidth=0.8, capsize=2)
        height, width = row.size
        label = f"{row.model}\n{row.backend}, {height}×{width}"
        axes.annotate(label, (row.p50_ms, row.abs_rel), (6, 4), textcoords="offset points", fontsize=8, color=colour)
    axes.plot([row.p50_ms for row in best], [row.abs_rel or 0.0 for row in best], color="C0", linewidth=1)
    axes.set_xscale("log")
    axes.margins(x=0.25, y=0.15)
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(LogFormatter(minor_thresholds=(2, 0.6)))
    axes.set_xlabel(f"milliseconds an image, median, {rows[0].threads} thread{'s' if rows[0].threads > 1 else ''}")
    axes.set_ylabel("AbsRel, with its 95 % interval")
    axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _beats(one: Timing, other: Timing) -> bool:
    """True if ``one`` is at least as good in both, and better in one."""
    pair = (one.p50_ms, one.abs_rel or 0.0), (other.p50_ms, other.abs_rel or 0.0)
    return pair[0] != pair[1] and all(x <= y for x, y in zip(*pair, strict=True))


def _percentile(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, round(part * (len(ordered) - 1)))]
