"""Where the time of a training step goes, and how long training waits for data.

    python benchmarks/step_profile.py                     # framework share of a step (models in the loop)
    python benchmarks/step_profile.py --photos FOLDER     # and the wait for 2 loader processes that read real photographs

The step is the engine's own (a hook calls `trainer.iterate`); the forward passes of teacher and student, the loss terms, the
backward pass and the optimiser are timed by wrapping them. What is left is the framework: micro-batches, seeds, guards, draws.
Without a folder, photographs of the size of the public collections (2048 x 1536 JPEG) are made from rendered scenes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console

from dadkit.config import RunConfig, parse_run
from dadkit.data import Images, ProceduralScenes
from dadkit.training import Hook, train

RUN = """
batch_size: {batch}
teachers: [{{name: dav2/{teacher}, options: {{weights: none}}}}]
student: {{name: {student}}}
data: {{root: {photos}, workers: {workers}}}
contexts: {{name: local-global, options: {{view_size: {view}, patch_size: {view}, n: {patches}}}}}
precision: {precision}
iterations: 1000000
log_every: 20
sample_every: 1000000
checkpoint_every: 1000000
output: {output}
report: false
"""


class Timer:
    """Seconds spent in wrapped calls, nested ones counted once."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inside = False

    def wrap(self, owner: Any, name: str, label: str) -> None:
        """Time ``owner.name``."""
        inner: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            if self._inside:
                return inner(*args, **options)
            self._inside = True
            begun = time.perf_counter()
            try:
                return inner(*args, **options)
            finally:
                self.seconds[label] += time.perf_counter() - begun
                self._inside = False

        (setattr if isinstance(owner, type) else object.__setattr__)(owner, name, timed)


def main() -> None:
    """Measure and print one JSON object."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as scratch:
        photos = Path(arguments.photos) if arguments.photos else make_photos(Path(scratch) / "photos")
        text = RUN.format(**{**vars(arguments), "photos": photos, "output": scratch})
        run = parse_run(text)
        result = {
            "torch": torch.__version__,
            "threads": arguments.threads,
            **{name: getattr(arguments, name) for name in ("batch", "view", "teacher", "student", "patches", "precision")},
            "step": at_start(run, lambda trainer: step_shares(trainer, arguments.steps)),
            "data": {
                **at_start(run, lambda trainer: data_wait(trainer.stage.data, arguments)),
                **at_start(parse_run(text, ["data.workers=0"]), lambda trainer: read_costs(trainer.stage.data, photos)),
            },
        }
    print(json.dumps(result, indent=2))


class MeasuredError(Exception):
    """The measurement is over, and the rest of the run is not needed."""


def at_start(run: RunConfig, measure: Callable[[Any], dict[str, float]]) -> dict[str, float]:
    """What ``measure`` returns of the trainer, at the start of the run's stage; the run then ends."""
    found: dict[str, float] = {}

    class Look(Hook):
        def on_stage_start(self, trainer: Any) -> None:
            found.update(measure(trainer))
            raise MeasuredError

    with suppress(MeasuredError):
        train(run, console=Console(quiet=True), hooks=[Look()])
    return found


def step_shares(trainer: Any, steps: int) -> dict[str, float]:
    """Milliseconds a step, and shares of it in percent (medians over the steps)."""
    timer = Timer()
    # The innermost calls; everything that is not in one of them is the framework's.
    for labeller in trainer.step.teachers:
        timer.wrap(labeller.model, "forward", "teacher")
    timer.wrap(trainer.student, "forward", "student")
    timer.wrap(torch.Tensor, "backward", "backward")
    for _, _, term, _ in trainer.step.terms:
        timer.wrap(term, "forward", "loss")
    timer.wrap(trainer.optimizer, "step", "optimiser")
    with closing(trainer.stage.data.whole()) as data:
        iteration = next(data.iterations(0))
    rows: list[dict[str, float]] = []
    for index in range(steps + 2):
        timer.seconds.clear()
        begun = time.perf_counter()
        trainer.iterate(index, iteration)
        total = time.perf_counter() - begun
        rows.append({"total": total, **timer.seconds})
    rows = rows[2:]
    shares = {name: statistics.median(100 * row[name] / row["total"] for row in rows) for name in rows[0] if name != "total"}
    framework = statistics.median(100 * (1 - sum(v for k, v in row.items() if k != "total") / row["total"]) for row in rows)
    total = statistics.median(1000 * row["total"] for row in rows)
    return {name: round(value, 2) for name, value in {"ms": total, **shares, "framework": framework}.items()}


def data_wait(stream: Any, arguments: argparse.Namespace) -> dict[str, float]:
    """The share of the time that training waits for its loader processes, and what a photograph costs them."""
    with closing(stream.whole()) as data:
        batches = data.iterations(0)
        next(batches)
        waits: list[float] = []
        for _ in range(arguments.batches):
            time.sleep(arguments.device_ms / 1000)  # what the device computes while the loader processes read
            begun = time.perf_counter()
            next(batches)
            waits.append(time.perf_counter() - begun)
    waited = sum(waits[2:])
    share = 100 * waited / (waited + len(waits[2:]) * arguments.device_ms / 1000)
    return {"workers": arguments.workers, "device_ms": arguments.device_ms, "wait": round(share, 2)}


def read_costs(stream: Any, photos: Path) -> dict[str, float]:
    """Milliseconds of one core a photograph: decoding it, and all of its views. ``stream`` has no processes of its own."""
    with closing(stream.whole()) as data:
        batches = data.iterations(0)
        next(batches)
        begun = time.process_time()
        whole = sum(next(batches).counts)
        whole_ms = 1000 * (time.process_time() - begun) / whole
    dataset = Images(photos)
    begun = time.process_time()
    for index in range(4):
        dataset[index]
    return {"ms_per_photo": round(whole_ms, 1), "of_it_decoding": round(1000 * (time.process_time() - begun) / 4, 1)}


def make_photos(folder: Path, count: int = 12) -> Path:
    """JPEG files of 2048 x 1536 pixels with the detail of photographs."""
    folder.mkdir()
    for index, picture in enumerate(_pictures(count)):
        picture.save(folder / f"{index:03d}.jpg", quality=90)
    return folder


def _pictures(count: int) -> Iterator[Image.Image]:
    scenes = ProceduralScenes(count=count, size=(384, 512))
    for index in range(count):
        small = Image.fromarray(scenes[index].image.permute(1, 2, 0).numpy())
        grain = Image.effect_noise((2048, 1536), 40).convert("RGB")
        yield Image.blend(small.resize((2048, 1536), Image.Resampling.BICUBIC), grain, 0.15)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", help="a folder of photographs; none: some are made")
    parser.add_argument("--teacher", default="small", help="tiny, small, base, large")
    parser.add_argument("--student", default="topformer/base")
    parser.add_argument("--view", type=int, default=560)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patches", type=int, default=2)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--device-ms", type=float, default=400.0, help="milliseconds that a step takes on the device")
    return parser.parse_args()


if __name__ == "__main__":
    main()
