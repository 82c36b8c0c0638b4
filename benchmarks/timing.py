"""Paired timing: in every round all contenders run once, in turn, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["Contender", "graphed_times", "measure", "ratio"]

SWEEP = 80_000_000
"""float32 values that are rewritten before a cold run: 320 MB."""


@dataclass
class Contender:
    """One way to compute a loss. ``isa`` holds the fused operators to an instruction set."""

    step: Callable[[], Tensor]
    pred: Tensor
    isa: str | None = None
    times: dict[str, list[float]] = field(default_factory=lambda: {"forward": [], "backward": [], "both": []})

    def value(self) -> float:
        """The loss itself."""
        with _held_to(self.isa):
            return float(self.step().detach())

    def run(self) -> None:
        """One forward and backward, timed in milliseconds."""
        self.pred.grad = None
        with _held_to(self.isa):
            marks = [_mark(self.pred)]
            loss = self.step()
            marks.append(_mark(self.pred))
            loss.backward()
            marks.append(_mark(self.pred))
        forward, backward = (_between(a, b) for a, b in pairwise(marks))
        for name, value in (("forward", forward), ("backward", backward), ("both", forward + backward)):
            self.times[name].append(value)

    def median(self, part: str = "both") -> float:
        """Milliseconds of a part."""
        return statistics.median(self.times[part])


def measure(contenders: dict[str, Contender], rounds: int, cold: bool) -> None:
    """Run ``rounds`` rounds after one that warms up, each in an order drawn anew: nobody always follows the same one."""
    names, device = list(contenders), next(iter(contenders.values())).pred.device
    sweep = torch.zeros(SWEEP if cold else 1, device=device)
    draw = random.Random(0)
    for _ in range(rounds + 1):
        for name in draw.sample(names, len(names)):
            sweep.add_(1)
            contenders[name].run()
    for contender in contenders.values():
        for times in contender.times.values():
            del times[0]


def ratio(slow: Contender, fast: Contender, part: str = "both") -> float:
    """Median over the rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(slow.times[part], fast.times[part], strict=True))


def graphed_times(contender: Contender, rounds: int) -> list[float]:
    """Microseconds of a CUDA graph of one forward and backward, replayed ``rounds`` times."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            torch.autograd.grad(contender.step(), contender.pred)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        torch.autograd.grad(contender.step(), contender.pred)
    times = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(1e3 * start.elapsed_time(end))
    return times


@contextmanager
def _held_to(isa: str | None) -> Iterator[None]:
    before = os.environ.get("DADKIT_ISA")
    if isa is not None:
        os.environ["DADKIT_ISA"] = isa
    yield
    if isa is not None:
        os.environ.pop("DADKIT_ISA") if before is None else os.environ.update(DADKIT_ISA=before)


def _mark(pred: Tensor) -> float:
    if pred.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


def _between(a: float, b: float) -> float:
    return 1e3 * (b - a)
