"""What `dadkit label` and training from its labels cost at 62 million images, without a teacher, and what kills do to it.

Everything that grows with the number of images or units is made here at full size with made-up names: the plan, 62,000 records,
the manifest, a bucket of 62,000 objects (moto). A label itself costs the same whatever their number.

    python benchmarks/labelling_scale.py --output benchmarks/results/labelling_scale.json
    python benchmarks/labelling_scale.py --only chaos --kills 300
    python benchmarks/labelling_scale.py --only chaos --kills 60 --every 5
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dadkit.data import Labels
from dadkit.data.label_set import Index, Manifest, Unit, data_name, read_plan, record_name, write_units
from dadkit.data.sampling import Windows, nth_in_order
from dadkit.data.store import BucketStore, FolderStore, open_store
from dadkit.interfaces import Prediction
from dadkit.labelling import (
    Claims,
    InlinePool,
    Labeller,
    Plan,
    Pool,
    RayPool,
    Settings,
    compact,
    finished_units,
    label_units,
    make_plan,
    open_plan,
    records,
    verify,
)
from dadkit.spaces import Space

SIZE = 1000
HASH = "0123456789ab"
ABOUT = {"name": "none", "space": "disparity", "license": "CC0-1.0", "sha256": "0" * 64}
Row = dict[str, Any]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--units", type=int, default=62_000, help="units of 1,000 images")
    arguments.add_argument("--kills", type=int, default=300)
    arguments.add_argument("--every", type=float, default=0, help="seconds between kills; 0: random instants, many a second")
    arguments.add_argument("--scheduled", type=int, default=4_000, help="units that workers without a teacher are given")
    arguments.add_argument("--only", nargs="*", default=["folder", "bucket", "order", "schedule", "chaos"])
    arguments.add_argument("--output", type=Path)
    given = arguments.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        parts: Mapping[str, Callable[[], Iterator[Row]]] = {
            "folder": lambda: on_disk(Path(folder) / "labels", given.units),
            "bucket": lambda: in_a_bucket(given.units),
            "order": lambda: orders(given.units),
            "schedule": lambda: schedules(Path(folder), given.scheduled),
            "chaos": lambda: chaos(Path(folder) / "chaos", given.kills, given.every),
        }
        for name in given.only:
            for row in parts[name]():
                rows.append(row)
                print("  ".join(f"{key}: {value}" for key, value in row.items()), flush=True)
    if given.output:
        given.output.write_text(json.dumps(rows, indent=1) + "\n")
    if any(row.get("holds") is False for row in rows):
        sys.exit("a limit does not hold")


def row(what: str, value: float, unit: str, limit: float | None = None, *, least: bool = False, **more: object) -> Row:
    """One line of the table; ``limit`` is the most that ``value`` may be, or the least."""
    holds = {} if limit is None else {"limit": limit, "holds": value >= limit if least else value <= limit}
    return {"what": what, "value": float(f"{value:.3g}"), "unit": unit, **holds, **more}


def memory() -> float:
    """Resident memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def apart(function: Callable[[], list[Row]]) -> list[Row]:
    """Call a function in a fresh process, so that its memory is its own."""
    context = get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(function)


# a folder of full size


def made_up(units: int) -> Iterator[Unit]:
    """Units as those of photographs in tar shards of 10,000."""
    for number in range(units):
        shard, first = f"shards/{number // 10:05d}.tar", SIZE * (number % 10)
        keys = [f"{shard[:-4]}/{first + index:04d}_{(number * SIZE + index) * 2654435761 % 2**32:08x}" for index in range(SIZE)]
        offsets = [512 + 181_000 * (first + index) + index * 7919 % 512 * 512 for index in range(SIZE)]
        yield Unit(number, keys, shard=shard, offsets=offsets, sizes=[180_000 + index % 97 for index in range(SIZE)], stamp="-")


def record(unit: int, plan: str) -> bytes:
    """A record as a labeller writes it."""
    told = {"unit": unit, "plan": plan, "labels": SIZE, "errors": [], "bytes": 272_000_000, "hash": HASH, "attempt": 1}
    told |= {"tar_sha256": "0" * 64, "index_sha256": "1" * 64, "teachers": [ABOUT], "host": "node-17", "seconds": 46.5}
    return json.dumps(told).encode()


def plan_of(units: int, table: str) -> Plan:
    """A plan that names a table of units."""
    settings = Settings({"root": "/images", "min_size": 1}, [{"name": "none", "options": {}}])
    return Plan(settings, [ABOUT], "/images", table, units, units * SIZE, "f" * 64)


def on_disk(root: Path, units: int) -> Iterator[Row]:
    """Plan, records, resume, manifest and the start of training."""
    root.mkdir()
    begun, before = time.perf_counter(), memory()
    _, images = write_units(root / "plan-x.units", made_up(units))
    yield row(f"plan of {images:,} images written", time.perf_counter() - begun, "s")
    yield row("plan, memory", memory() - before, "MB", 2000)
    yield row("plan, size", (root / "plan-x.units").stat().st_size / images, "bytes an image")
    plan, store = plan_of(units, "plan-x.units"), FolderStore(root)
    (root / "plan.json").write_bytes(plan.to_json())
    for name in ("units", "data"):
        (root / name).mkdir()
    begun = time.perf_counter()
    synced = min(1000, units - 1)
    for unit in range(synced):
        store.create(record_name(unit), record(unit, plan.hash))
    yield row("records created exclusively and synced", synced / (time.perf_counter() - begun), "a second")
    for unit in range(synced, units - 1):
        (root / record_name(unit)).write_bytes(record(unit, plan.hash))
    yield row(f"resume: first unit given with {units - 1:,} of {units:,} done", resumed(str(root)), "s", 5)
    begun = time.perf_counter()
    compact(store, plan)
    yield row("manifest of all records", time.perf_counter() - begun, "s")
    scores = {name: np.random.default_rng(0).random(SIZE).astype(np.float16) for name in ("range", "tv", "sharpness")}
    places = np.arange(SIZE, dtype=np.int64)[:, None] * np.array([272_000, 0])
    index = Index(np.arange(SIZE, dtype=np.int32), places, np.tile(np.int32([271_000, 0]), (SIZE, 1)), scores).to_bytes()
    yield row("side index, size", len(index) / SIZE, "bytes an image")
    (root / "index").write_bytes(index)
    for unit in range(units):
        (root / data_name(unit, HASH, ".idx")).symlink_to(root / "index")
    yield from apart(partial(started, root))


def resumed(root: str) -> float:
    """Seconds until a worker that does nothing has its first unit."""
    begun, given = time.perf_counter(), [0.0]

    def work(unit: int, attempt: int) -> Row:
        given[0] = time.perf_counter()
        return {"labels": SIZE, "errors": []}

    store = open_store(root)
    plan = open_plan(store)
    assert plan is not None
    done = finished_units(store, plan.units)
    with Claims(store) as claims:
        label_units(store, [unit for unit in range(plan.units) if unit not in done], InlinePool(lambda: work), claims)
    return given[0] - begun


def started(root: Path) -> list[Row]:
    """What a process that trains pays before its first batch, and for each position."""
    before, begun = memory(), time.perf_counter()
    labels = Labels(root, window=16)
    keys = [labels.key(labels.order(number, 0, 0)) for number in range(64)]
    seconds = time.perf_counter() - begun
    assert len(set(keys)) == 64
    found = [row(f"training: opened {len(labels):,} labels and found 64", seconds, "s", 10)]
    found.append(row("training: memory of that", memory() - before, "MB", 1000))
    begun = time.perf_counter()
    drawn = [labels.order(number, 0, 0) for number in range(10_000)]
    assert len(set(drawn)) == 10_000
    found.append(row("training: a position drawn", 1e6 * (time.perf_counter() - begun) / 10_000, "us"))
    begun = time.perf_counter()
    for index in drawn[:2_000]:
        labels.key(index)
    return [*found, row("training: a label found, 16 units at a time", 1e3 * (time.perf_counter() - begun) / 2_000, "ms")]


def in_a_bucket(units: int) -> Iterator[Row]:
    """The same resume through a server that speaks S3, in a process of its own."""
    context = get_context("spawn")
    here, there = context.Pipe()
    plan = plan_of(units, "plan-x.units")
    context.Process(target=serve_bucket, args=(there, units - 1, plan), daemon=True).start()
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ["AWS_ENDPOINT_URL"] = here.recv()
    # The manifest that the job that was killed has written last.
    held = range((units - 1) // 1000 * 1000)
    manifest = Manifest.from_records(1, ({"unit": unit, "labels": SIZE, "hash": HASH} for unit in held))
    root = "s3://labels/set"
    store = open_store(root, probe=True)
    assert isinstance(store, BucketStore)
    assert read_plan(store) is not None
    yield row("bucket: resume without a manifest, first unit given", resumed(root), "s", 20)
    store.write("manifests/000001.npz", manifest.to_bytes())
    yield row("bucket: resume, first unit given", resumed(root), "s", 20)


def serve_bucket(connection: Any, count: int, plan: Plan) -> None:
    """Answer with the address of a bucket that holds a plan and so many records, and serve it until the parent ends."""
    from moto.backends import get_backend
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    backend = get_backend("s3")["123456789012"]["aws"]
    backend.create_bucket("labels", "us-east-1")
    backend.put_object("labels", "set/plan.json", plan.to_json())
    for unit in range(count):
        backend.put_object("labels", f"set/{record_name(unit)}", record(unit, plan.hash))
    host, port = server.get_host_and_port()
    connection.send(f"http://{host}:{port}")
    connection.poll(None)  # until the parent is gone


def orders(units: int) -> Iterator[Row]:
    """A draw of one of 62 million positions; an epoch has each once."""
    size, windows = units * SIZE, Windows(np.arange(1, units + 1, dtype=np.int64) * SIZE, window=16)
    draws: Mapping[str, Callable[[int], int]] = {
        "all images": lambda number: nth_in_order(number, size, 0),
        "16 units at a time": lambda number: windows(number, 0),
    }
    for name, draw in draws.items():
        draw(0)
        begun = time.perf_counter()
        found = [draw(number) for number in range(32_000)]
        seconds = time.perf_counter() - begun
        assert len(set(found)) == 32_000
        more = {"units touched": len({index // SIZE for index in found})}
        yield row(f"order, {name}: one of {size:,}", 1e6 * seconds / 32_000, "us", **more)


# scheduling


class Nothing:
    """A labeller that commits a record and labels nothing."""

    def __init__(self, root: str) -> None:
        self._store = FolderStore(root)

    def __call__(self, unit: int, attempt: int) -> Row:
        """Commit."""
        told = {"unit": unit, "labels": SIZE, "errors": [], "hash": HASH}
        self._store.create(record_name(unit), json.dumps(told).encode())
        return told


def schedules(folder: Path, units: int) -> Iterator[Row]:
    """Units a second where a unit costs nothing, and the driver's memory."""
    from dadkit.labelling import ProcessPool

    made: Mapping[str, Callable[[Callable[[], Nothing]], Pool]] = {
        "processes": lambda make: ProcessPool(make, 2),
        "ray": lambda make: RayPool(make, 2, address="local"),
    }
    for name, pool in made.items():
        store = FolderStore(folder / name)
        workers = pool(partial(Nothing, store.root))
        seen: list[tuple[float, float]] = []
        note = partial(_note, seen)
        with Claims(store) as claims:
            label_units(store, range(units), workers, claims, finished=note)
        assert len(finished_units(store)) == units
        first = len(seen) // 10
        speed = (len(seen) - first) / (seen[-1][0] - seen[first][0])
        grown = f"{seen[-1][1] - seen[first][1]:.1f} MB over {len(seen) - first} units"
        yield row(f"scheduling, 2 workers: {name}", speed, "units a second", 200, least=True, **{"memory grew": grown})


def _note(seen: list[tuple[float, float]], _: object) -> None:
    seen.append((time.perf_counter(), memory()))


# kills


class Rounded:
    """A teacher whose last bits differ between machines.

    Args:
        bit: what is added to its answers.
        pause: seconds an image.
    """

    about = ABOUT
    takes_camera = needs_camera = False

    def __init__(self, bit: float, pause: float) -> None:
        self._bit, self._pause = bit, pause

    def sees(self, height: int, width: int) -> None:
        """Every pixel."""

    def prepare(self, key: str, image: torch.Tensor) -> torch.Tensor:
        """The picture in [0, 1]."""
        return image.float() / 255

    def ask(self, prepared: torch.Tensor, cameras: torch.Tensor) -> Prediction:
        """Brightness."""
        time.sleep(self._pause * len(prepared))
        return Prediction(prepared.mean(1, keepdim=True) * (1 + self._bit), Space.DISPARITY)


def job(root: str, bit: float, pause: float) -> None:
    """What one of several machines does on a shared folder."""
    store = open_store(root)

    def make() -> Labeller:
        return Labeller(root, batch_size=4, threads=1, teachers=[Rounded(bit, pause)])

    todo = [unit for unit in range(make().plan.units) if unit not in finished_units(store)]
    random.shuffle(todo)
    with Claims(store, ttl=0.4) as claims:
        label_units(store, todo, InlinePool(make), claims, patience=0.05)


def chaos(root: Path, kills: int, every: float) -> Iterator[Row]:
    """Three machines that label one folder, each differing in a bit; one after the other is killed, or stopped and continued.

    The time between two kills is ``every`` seconds, or random if that is 0: then the teachers are fast.

    Every folder is checked byte by byte when it is finished, and a new one is begun until all kills are spent.
    """
    torch.set_num_threads(1)
    images = root / "images"
    images.mkdir(parents=True)
    noise = np.random.default_rng(0)
    for number in range(120):
        Image.fromarray(noise.integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(images / f"{number:03}.png")
    settings = Settings({"root": str(images), "min_size": 1}, [{"name": "none", "options": {}}], unit=5)
    context, chance = get_context("fork"), random.Random(0)
    pause = 0.2 if every else 0.002
    killed = stopped = folders = missing = twice = other = leftovers = 0
    begun = time.perf_counter()
    while killed < kills:
        place = root / f"set-{folders}"
        store = FolderStore(place)
        plan = make_plan(store, settings, [ABOUT])
        machines = [context.Process(target=job, args=(str(place), bit, pause)) for bit in (0.0, 0.25, 0.5)]
        for machine in machines:
            machine.start()
        while len(finished_units(store)) < plan.units:
            time.sleep(every or chance.uniform(0.01, 0.15))
            which = chance.randrange(3)
            machine = machines[which]
            if not machine.is_alive():
                pass
            elif chance.random() < 0.1:
                os.kill(machine.pid or 0, signal.SIGSTOP)
                time.sleep(0.6)  # longer than its claims hold
                os.kill(machine.pid or 0, signal.SIGCONT)
                stopped += 1
                continue
            else:
                os.kill(machine.pid or 0, signal.SIGKILL)
                killed += 1
            machine.join()
            machines[which] = context.Process(target=job, args=(str(place), which * 0.25, pause))
            machines[which].start()
        for machine in machines:
            machine.join()
        compact(store, plan)
        labels = Labels(place)
        found = [labels[index].key for index in range(len(labels))]
        missing += 120 - len(set(found))
        twice += len(found) - len(set(found))
        other += len(verify(store, plan))
        leftovers += len(store.names("data")) - 2 * sum(1 for _ in records(store))
        folders += 1
        shutil.rmtree(place)
    counts = {"duplicate": twice, "records whose bytes are others": other, "labels checked": 120 * folders}
    more = {"stopped and continued": stopped, "folders": folders, "leftover files, swept later": leftovers}
    seconds = round(time.perf_counter() - begun)
    yield row(f"{killed} kills: labels missing", missing, "labels", 0, **counts, **more, seconds=seconds)
    yield row(f"{killed} kills: duplicates and damage", twice + other, "labels", 0)


if __name__ == "__main__":
    main()
