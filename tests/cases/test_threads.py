"""How long waiting threads spin, and what is said about shared cores."""

import contextlib
import os
import platform
import subprocess
import sys
import threading

import pytest

from dadkit import threads

CODE = """
import os, sys
from dadkit.cli import main
try:
    main(["--version"])
except SystemExit:
    pass
print(os.environ.get("GOMP_SPINCOUNT"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("given", "found"),
    [({}, str(threads.SPIN_ROUNDS)), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "None")],
)
def test_60_the_command_bounds_spinning_before_torch_loads_unless_the_user_did(given, found):
    clean = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    result = subprocess.run([sys.executable, "-c", CODE], env=clean | given, capture_output=True, text=True, check=True)
    assert result.stdout.split()[-2:] == [found, "False"]


def test_60_nothing_is_changed_once_torch_is_loaded(monkeypatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setitem(sys.modules, "torch", object())
    assert not threads.bound_spinning()
    assert "GOMP_SPINCOUNT" not in os.environ


def test_60_what_is_in_force_in_words(monkeypatch):
    monkeypatch.setattr(threads, "available_cores", lambda: 4)
    monkeypatch.setenv("GOMP_SPINCOUNT", "10000")
    assert threads.in_force(1) == "1 thread on 4 cores, spinning for 10000 rounds"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    assert threads.in_force(4).endswith("for 1000 rounds, in training for 100 while other processes want the cores")
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    assert threads.in_force(4) == "4 threads on 4 cores, spinning by passive"


def test_60_shared_cores_are_said(monkeypatch):
    monkeypatch.setattr(threads, "available_cores", lambda: 4)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (2.1, 0.0, 0.0))
    assert threads.shared_cores(4) == (
        "other processes keep 2.1 of 4 cores busy, and 4 threads wait for each other; OMP_NUM_THREADS=2 may be faster"
    )
    assert threads.shared_cores(2) is threads.shared_cores(1) is None
    assert "OMP_NUM_THREADS=4" in threads.shared_cores(64)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert threads.shared_cores(4) is None  # a quota: the load of the other 60 cores is not ours


def test_60_waiting_threads_spin_less_while_others_want_the_cores(monkeypatch):
    """The threads waited for half a second between two looks, then for a thousandth of one."""
    waits, seen, over = iter([0.0, 0.0, 0.5, 0.501]), [], threading.Event()

    @contextlib.contextmanager
    def crowd():
        seen.append("crowd")
        yield
        seen.append("alone")
        over.set()

    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", str(threads.SPIN_ROUNDS))
    monkeypatch.setattr(threads, "_crowd", crowd)
    monkeypatch.setattr(threads, "_waited", lambda: next(waits, 0.501))
    with threads.yielding(period=0.05):
        assert over.wait(10)
    assert seen == ["crowd", "alone"]
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")  # chosen by the user
    monkeypatch.setattr(threads, "_watch", None)
    with threads.yielding():
        pass


SPUN = """
import time, torch
from dadkit.threads import _crowd

def spun():
    x.add_(0)
    begun = time.process_time()
    for _ in range(10):
        x.add_(0)
        time.sleep(0.02)
    return time.process_time() - begun

def gradient():
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(8, 16, 3)
    layer(torch.randn(4, 8, 64, 64)).square().mean().backward()
    return layer.weight.grad

x = torch.ones(1 << 17)
before, usual = spun(), gradient()
with _crowd():
    crowded = spun()
    assert torch.equal(gradient(), usual)
time.sleep(0.1)
print(before, crowded, spun())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PyTorch for Linux has GNU's OpenMP")
def test_60_a_crowd_stops_spinning_and_leaves():
    clean = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    result = subprocess.run(
        [sys.executable, "-c", SPUN],
        env=clean | {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "300000"},
        capture_output=True,
        text=True,
        check=True,
    )
    before, crowded, after = map(float, result.stdout.split())
    assert crowded < 0.5 * min(before, after)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
@pytest.mark.parametrize(
    ("command", "keeps"), [("train no.yaml", True), ("sweep no.yaml", True), ("evaluate", True), ("predict no.jpg", False)]
)
def test_63_commands_that_compute_for_long_keep_the_memory_of_large_maps(command, keeps):
    code = """
import resource, sys, torch
from dadkit.cli import main

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = min(faults() for _ in range(3))
try:
    main(sys.argv[1:])
except SystemExit:
    pass
for _ in range(12):  # small objects between two maps may keep the first few from fitting again
    faults()
print(given_back, max(faults() for _ in range(3)))
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    answer = subprocess.run(
        [sys.executable, "-c", code, *command.split()], capture_output=True, text=True, check=True, env=environment
    )
    given_back, kept = map(int, answer.stdout.split()[-2:])
    assert keeps == (10 * kept < given_back)
