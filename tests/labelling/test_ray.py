"""Labels by actors on three nodes of a local cluster, while workers, a node and the driver are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dadkit.data.store import FolderStore
from dadkit.errors import DadkitError
from dadkit.labelling import Claims, Labeller, RayPool, finished_units, label_units, records, sweep, verify
from tests.labelling.conftest import Dim, contents, planned, run, work

pytestmark = pytest.mark.slow  # a cluster, whose actors load torch
ROOT = Path(__file__).parents[2]
PATH = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without work and three nodes of one CPU."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.workers = [made.add_node(num_cpus=1) for _ in range(3)]
    yield made
    made.shutdown()


def slow_work(root: str) -> Labeller:
    """What an actor does: half a second an image."""
    return work(root, Dim(pause=0.5))


def no_work() -> Labeller:
    """An actor that cannot start."""
    raise DadkitError("the weights are missing")


def drive(address: str, root: str) -> None:
    """The loop of `dadkit label --executor ray`."""
    store = FolderStore(root)
    todo = [unit for unit in range(work(root).plan.units) if unit not in finished_units(store)]
    pool = RayPool(partial(slow_work, root), 3, address=address, environment=PATH)
    with Claims(store, ttl=4) as claims:
        label_units(store, todo, pool, claims, patience=0.5)


def driver(address: str, root: Path) -> subprocess.Popen[bytes]:
    """:func:`drive` in a process of its own."""
    call = f"from tests.labelling.test_ray import drive; drive({address!r}, {str(root)!r})"
    return subprocess.Popen([sys.executable, "-c", call], cwd=ROOT)


def wait_until(reached: Callable[[], bool]) -> None:
    """Give the others time."""
    for _ in range(1200):
        if reached():
            return
        time.sleep(0.05)
    raise AssertionError("nothing happened for a minute")


def test_killed_worker_node_and_driver_lose_and_double_nothing(cluster, images, tmp_path):
    planned(tmp_path / "calm", images, unit=2)
    run(tmp_path / "calm")
    root = tmp_path / "out"
    store, plan = planned(root, images, unit=2)
    first = driver(cluster.address, root)
    wait_until(lambda: len(finished_units(store)) >= 1)
    os.kill(next(records(store))["pid"], signal.SIGKILL)
    wait_until(lambda: len(finished_units(store)) >= 3)
    cluster.remove_node(cluster.workers[0], allow_graceful=False)
    cluster.add_node(num_cpus=1)
    wait_until(lambda: len(finished_units(store)) >= 6)
    first.kill()
    first.wait()
    before = {record["unit"]: record["begun"] for record in records(store)}
    assert len(before) < plan.units
    assert driver(cluster.address, root).wait(120) == 0
    after = {record["unit"]: record["begun"] for record in records(store)}
    assert before.items() <= after.items()  # what was done is not done again
    assert contents(root) == contents(tmp_path / "calm")
    assert verify(store, plan) == []
    sweep(store, age=-1)
    assert len(store.names("data")) == 2 * plan.units


def test_actors_that_cannot_start_stop_the_job_with_the_reason(cluster, images, tmp_path):
    store, plan = planned(tmp_path / "out", images)
    pool = RayPool(no_work, 2, address=cluster.address, environment=PATH)
    with (
        Claims(store) as claims,
        pytest.raises(DadkitError, match=r"3 workers in a row did not start(?s:.*)the weights are missing"),
    ):
        label_units(store, range(plan.units), pool, claims)
