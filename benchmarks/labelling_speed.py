"""`dadkit label` against its teacher alone: python benchmarks/labelling_speed.py [--runs 3] [--workers 2]

The teacher alone is asked about pictures that are decoded, resized and stacked already, in as many processes as there are
workers, with the batch that is fastest. "Teacher and bits" decodes the JPEGs at an eighth of their size besides, which is
little more than the entropy decoding that no size avoids: with a core for each process, no job is faster. The plain loop, in
as many processes, decodes, asks, encodes and writes one picture at a time. Each is run with the channels apart, as models
come; with the channels of a pixel together (`channels_last`), which `dadkit label` lays them out in on a CPU; and with the
file that `dadkit export` writes, which `dadkit label` takes as well. All take turns. Processes are ready before the clock
starts.

Two ratios are printed: of wall time, and of processor time. A worker whose core has nothing to do but its teacher cannot be
faster than the second, however well the rest is hidden; with cores to spare it is as fast as its teacher.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dadkit import load_model
from dadkit.data.images import decode
from dadkit.data.label_codec import encode_map
from dadkit.data.store import open_store
from dadkit.interfaces import resize
from dadkit.labelling import Claims, ProcessPool, Settings, label_units
from dadkit.labelling.job import Executor, open_or_make
from dadkit.labelling.pools import Event

BATCHES = (1, 2, 4, 8)
FORMS = ("as it comes", "channels_last", "exported")
OTHERS = [(method, form) for method in ("teacher alone", "teacher and bits", "plain loop") for form in FORMS]
JOBS = ("as it comes", "exported")


def make(folder: Path, count: int, megapixels: float) -> None:
    """JPEGs with edges, gradients and noise."""
    folder.mkdir()
    height, width = int((megapixels * 75e4) ** 0.5), int((megapixels * 4e6 / 3) ** 0.5)
    for index in range(count):
        rng = np.random.default_rng(index)
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((width, height))
        noisy = np.asarray(coarse, np.int16) + rng.integers(-9, 10, (height, width, 1), dtype=np.int16)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(folder / f"{index:04d}.jpg", quality=92)


class Contender:
    """What a process does without dadkit's job.

    Args:
        name: the teacher's, or its exported file.
        layout: of its weights and pictures.
    """

    def __init__(self, name: str, layout: torch.memory_format) -> None:
        torch.set_num_threads(1)
        self.teacher = load_model(name).to(memory_format=layout)
        self.layout = layout

    def seen(self, file: Path) -> torch.Tensor:
        """The picture as the teacher sees it, (1, 3, h, w)."""
        image, policy = decode(file), self.teacher.spec.native
        small = resize(image[None].float() / 255, policy.target(*image.shape[-2:]), policy)
        return small.contiguous(memory_format=self.layout)

    def ready(self, files: list[Path]) -> None:
        """Prepare pictures for :meth:`alone`, and choose its batch."""
        self.pictures = self.seen(files[0]).repeat(max(BATCHES), 1, 1, 1).contiguous(memory_format=self.layout)
        with torch.inference_mode():
            times = {batch: min(self._clock(self.pictures[:batch]) / batch for _ in range(4)) for batch in BATCHES}
        self.batch = min(times, key=lambda batch: times[batch])

    def alone(self, files: list[Path]) -> None:
        """The teacher, and nothing else."""
        with torch.inference_mode():
            for _ in range(len(files) // self.batch):
                self.teacher(self.pictures[: self.batch])

    def bits(self, files: list[Path]) -> None:
        """The teacher, and what decoding costs at any size."""
        self.alone(files)
        for file in files:
            with Image.open(file) as picture:
                picture.draft("RGB", (1, 1))
                picture.load()

    def _clock(self, pictures: torch.Tensor) -> float:
        begun = time.thread_time()
        self.teacher(pictures)
        return time.thread_time() - begun

    def plain(self, files: list[Path]) -> None:
        """One picture after the other."""
        for file in files:
            with torch.inference_mode():
                answer = self.teacher(self.seen(file))
            data = encode_map(answer.depth[0, 0].numpy(), "png12", space=answer.space, model="plain")
            file.with_suffix(".png").write_bytes(data)
            file.with_suffix(".png").unlink()


def serve(connection: Any, names: dict[str, str]) -> None:
    """Answer (method, form, files) with the seconds of a processor that it took."""
    layouts = {"channels_last": torch.channels_last}
    contenders = {form: Contender(names[form], layouts.get(form, torch.contiguous_format)) for form in FORMS}
    connection.send(0.0)
    while True:
        try:
            method, form, files = connection.recv()
        except EOFError:
            return
        before = time.process_time()
        contender = contenders[form]
        known = {"ready": contender.ready, "teacher alone": contender.alone, "teacher and bits": contender.bits}
        (known | {"plain loop": contender.plain})[method](files)
        connection.send(time.process_time() - before)


class Started:
    """A pool whose workers are ready, and have labelled a unit each: a network's first passes cost more than the others.

    Args:
        pool: the pool.
    """

    def __init__(self, pool: ProcessPool) -> None:
        self._pool, self.size = pool, pool.size
        self._events: list[Event] = []
        for _ in range(pool.size):
            pool.start()
        while len(self._events) < pool.size:
            self._events += pool.wait(60)
        assert all(event.kind == "ready" for event in self._events)
        for unit, event in enumerate(self._events):
            pool.submit(event.worker, unit, 1)
        done: list[Event] = []
        while len(done) < pool.size:
            done += pool.wait(60)
        assert all(event.kind == "done" for event in done)
        self.submit, self.close, self.used = pool.submit, lambda: None, 0.0

    def start(self) -> None:
        """They are started."""

    def wait(self, timeout: float) -> list[Event]:
        """What happened."""
        events, self._events = self._events, []
        return events or self._pool.wait(timeout)

    def processor(self) -> float:
        """Seconds that the workers have had of a processor."""
        told = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self._pool.pids())
        return sum(int(fields[11]) + int(fields[12]) for fields in told) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--teacher", default="starter/small")
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--count", type=int, default=96, help="pictures a worker; a quarter of them at 12 megapixels")
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--megapixels", type=float, nargs="*", default=[0.2, 12])
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "teacher.onnx"
        subprocess.run(["dadkit", "export", given.teacher, "-o", file], check=True, stdout=subprocess.DEVNULL)
        compare(given, dict.fromkeys(FORMS, given.teacher) | {"exported": str(file)})


def compare(given: argparse.Namespace, names: dict[str, str]) -> None:
    """Measure and print, with the teacher's name in each form."""
    context, pipes = get_context("spawn"), []
    for _ in range(given.workers):
        here, there = context.Pipe()
        context.Process(target=serve, args=(there, names), daemon=True).start()
        pipes.append(here)
    for pipe in pipes:
        pipe.recv()

    def others(method: str, form: str, files: list[Path]) -> np.ndarray:
        begun = time.perf_counter()
        for number, pipe in enumerate(pipes):
            pipe.send((method, form, files[number :: len(pipes)]))
        used = sum(pipe.recv() for pipe in pipes)
        return np.array([time.perf_counter() - begun, used]) / len(files)

    for megapixels in given.megapixels:
        with tempfile.TemporaryDirectory() as name:
            folder, each = Path(name), given.count if megapixels < 5 else given.count // 4
            make(folder / "images", each * given.workers, megapixels)
            files = sorted((folder / "images").iterdir())
            for form in FORMS:
                others("ready", form, files)
            turns = []
            for run in range(given.runs):
                jobs = [labelled(folder, names[form], f"{run}-{form}", each, given.workers) for form in JOBS]
                turns.append([*(others(method, form, files) for method, form in OTHERS), *jobs])
        print(f"{megapixels} megapixels, {len(files)} pictures, {given.workers} workers; wall and processor, ms a picture")
        who = [f"{method} {form}" for method, form in (*OTHERS, *(("dadkit label", form) for form in JOBS))]
        for one, measured in zip(who, zip(*turns, strict=True), strict=True):
            print(f"  {one}: " + ", ".join(f"{1e3 * wall:.1f} {1e3 * used:.1f}" for wall, used in measured))
        for job in range(-len(JOBS), 0):
            for which, clock in enumerate(("wall", "processor")):
                ratios = [statistics.median(turn[k][which] / turn[job][which] for turn in turns) for k in range(len(OTHERS))]
                told = ", ".join(f"{ratio:.2f} of the {one}" for ratio, one in zip(ratios, who, strict=False))
                print(f"  by {clock} time {who[job]} does {told}")


def labelled(folder: Path, teacher: str, run: str, each: int, workers: int) -> np.ndarray:
    """Seconds a picture of `dadkit label`, one unit a worker: wall, processor."""
    root = str(folder / f"labels-{run}")
    again = folder / "again"  # the first unit of each worker is not counted
    if not again.exists():
        again.mkdir()
        for file in (folder / "images").glob("*.jpg"):
            (again / file.name).hardlink_to(file)
    settings = Settings({"root": [str(again), str(folder / "images")]}, [{"name": teacher, "options": {}}], unit=each)
    plan = open_or_make(root, settings)
    workers_of = Executor(workers=workers, device="cpu").open(root)
    assert isinstance(workers_of, ProcessPool)
    pool = Started(workers_of)
    before, begun = pool.processor(), time.perf_counter()
    with Claims(open_store(root)) as claims:
        outcome = label_units(open_store(root), range(workers, plan.units), pool, claims)
    wall, used = time.perf_counter() - begun, pool.processor() - before
    workers_of.close()
    return np.array([wall, used]) / outcome.labels


if __name__ == "__main__":
    main()
