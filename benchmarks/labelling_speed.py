"""`dadkit label` against its teacher alone: python benchmarks/labelling_speed.py [--runs 3] [--workers 1]

The teacher alone is asked about pictures that are decoded, resized and stacked already: what no job can be faster than. The
plain loop decodes, asks, encodes and writes one picture after the other. The three take turns; the ratios of each turn are
printed, and the medians. Workers are ready before the clock starts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dadkit.data.label_codec import encode_map
from dadkit.data.store import open_store
from dadkit.labelling import Claims, Settings, label_units, make_plan
from dadkit.labelling.answers import TeacherAnswers, read_image
from dadkit.labelling.job import Executor
from dadkit.labelling.pools import Event, Pool


def make(folder: Path, count: int, megapixels: float) -> None:
    """JPEGs with edges, gradients and noise."""
    height, width = int((megapixels * 75e4) ** 0.5), int((megapixels * 4e6 / 3) ** 0.5)
    for index in range(count):
        rng = np.random.default_rng(index)
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((width, height))
        noisy = np.asarray(coarse, np.int16) + rng.integers(-9, 10, (height, width, 1), dtype=np.int16)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(folder / f"{index:04d}.jpg", quality=92)


class Started:
    """A pool whose workers are ready already.

    Args:
        pool: the pool.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool, self.size = pool, pool.size
        self._events: list[Event] = []
        for _ in range(pool.size):
            pool.start()
        while len(self._events) < pool.size:
            self._events += pool.wait(60)
        assert all(event.kind == "ready" for event in self._events)
        self.submit, self.close = pool.submit, pool.close

    def start(self) -> None:
        """They are started."""

    def wait(self, timeout: float) -> list[Event]:
        """What happened."""
        events, self._events = self._events, []
        return events or self._pool.wait(timeout)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--teacher", default="starter/small")
    arguments.add_argument("--workers", type=int, default=1)
    arguments.add_argument("--batch-size", type=int, default=8)
    arguments.add_argument("--count", type=int, default=64)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--megapixels", type=float, nargs="*", default=[0.2, 12])
    given = arguments.parse_args()
    torch.set_num_threads(1)
    teacher = TeacherAnswers(given.teacher, {}, None, "fp32", "cpu")
    for megapixels in given.megapixels:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "images").mkdir()
            count = given.count if megapixels < 5 else given.count // 4
            make(folder / "images", count, megapixels)
            files = sorted((folder / "images").iterdir())
            turns = [turn(folder, files, teacher, given.batch_size, given.workers, number) for number in range(given.runs)]
        print(f"{megapixels} megapixels, {count} pictures, {given.workers} workers")
        for alone, plain, ours in turns:
            print(f"  teacher alone {alone:.2f}, plain loop {plain:.2f}, dadkit label {ours:.2f} images a second")
        of_teacher = statistics.median(ours / alone / given.workers for alone, _, ours in turns)
        of_loop = statistics.median(ours / plain for _, plain, ours in turns)
        print(f"  dadkit label: {of_teacher:.2f} of the teacher alone, a worker; {of_loop:.2f} of the plain loop", flush=True)


def turn(folder: Path, files: list[Path], teacher: TeacherAnswers, batch: int, workers: int, number: int) -> list[float]:
    """Images a second of the teacher alone, of the plain loop, of `dadkit label`."""
    speeds = []
    prepared = torch.stack([teacher.prepare(file.stem, read_image(file, {})) for file in files[:batch]])
    teacher.ask(prepared)
    begun = time.perf_counter()
    rounds = max(1, len(files) // batch)
    for _ in range(rounds):
        teacher.ask(prepared)
    speeds.append(rounds * batch / (time.perf_counter() - begun))
    begun = time.perf_counter()
    for file in files:
        answer = teacher.ask(teacher.prepare(file.stem, read_image(file, {}))[None])
        values = answer.depth[0, 0].numpy()
        (folder / f"{file.stem}.png").write_bytes(encode_map(values, "png12", space=answer.space, model="plain"))
    speeds.append(len(files) / (time.perf_counter() - begun))
    root = str(folder / f"labels-{number}")
    settings = Settings({"root": str(files[0].parent)}, [{"name": teacher.about["name"], "options": {}}], unit=2 * batch)
    plan = make_plan(open_store(root), settings, [teacher.about])
    pool = Started(Executor(workers=workers, device="cpu", batch_size=batch, threads=2).open(root))
    begun = time.perf_counter()
    with Claims(open_store(root)) as claims:
        outcome = label_units(open_store(root), range(plan.units), pool, claims)
    speeds.append(outcome.labels / (time.perf_counter() - begun))
    return speeds


if __name__ == "__main__":
    main()
