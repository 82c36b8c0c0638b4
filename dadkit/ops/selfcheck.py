"""The self-check of the compiled operators: ``python -m dadkit.ops.selfcheck --device cuda:0``.

Every operator is held to the reference, computed in float64 on the same device, in value and gradient, and must give the same
bits twice. On a GPU it must do so on a side stream and in a CUDA graph too. It must be faster than the reference. The process
prints a line of JSON per step and at last its verdict; whoever started it reads them, so that a crash and a hang have names.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dadkit.ops import fused, reference
from dadkit.ops.reference import NormOptions
from dadkit.ops.verdicts import Verdict, forget, machine, place, read, switch

__all__ = ["CheckFailedError", "check", "ensure", "run", "settle"]

SHAPES = ((2, 13, 29), (1, 97, 100), (3, 64, 64), (2, 560, 560))
LIMIT = 60.0
_PAD, _CANARY = 64, 12345.0


class CheckFailedError(Exception):
    """An operator is not what the reference says."""


class Inputs(NamedTuple):
    """Maps (B, H, W), their mask, and patches (B, 2, h, w) with their boxes (B, 2, 4)."""

    pred: Tensor
    target: Tensor
    mask: Tensor
    patches: Tensor
    boxes: Tensor


def _every(module: object) -> dict[str, Callable[[Inputs], Tensor]]:
    """Returns all operations of ``dadkit.ops.fused`` or ``reference`` as functions of the inputs; by name."""
    m = fused if module is fused else reference
    grid, hdn = NormOptions((1, 2, 4, 8), "grid"), NormOptions(partition="quantile", variant="hdn")
    return {
        "hybrid": lambda x: m.hybrid_norm_loss(x.pred, x.target, x.mask),
        "hybrid without mask": lambda x: m.hybrid_norm_loss(x.pred, x.target),
        "hybrid per pixel": lambda x: m.hybrid_norm_loss(x.pred, x.target, None, reduction="none"),
        "grid": lambda x: m.hybrid_norm_loss(x.pred, x.target, x.mask, grid, reduction="image"),
        "hdn": lambda x: m.hybrid_norm_loss(x.pred, x.target, x.mask, hdn, reduction="pixel"),
        "cached statistics": lambda x: m.hybrid_norm_loss(
            x.pred, x.target, x.mask, target_stats=m.target_statistics(x.target, x.mask)
        ),
        "local-global": lambda x: m.local_global_loss(x.pred, x.patches, x.boxes, pred_mask=x.mask, reduction="image"),
        "gradient matching": lambda x: m.gradient_matching_loss(x.pred, x.target, x.mask),
        "normalize": lambda x: m.normalize(x.pred, x.mask, NormOptions(), reference=x.target),
        "median": lambda x: torch.stack(m.median_mad(x.pred, x.mask)),
    }


def check(
    device: torch.device,
    shapes: Sequence[tuple[int, int, int]] = SHAPES,
    say: Callable[[str], None] = lambda step: None,
    *,
    half: bool | None = None,
) -> dict[str, float]:
    """Checks all operators on ``device``.

    Args:
        device: where.
        shapes: of the maps; the last one is timed.
        say: called with the name of each step before it begins.
        half: whether the operators read half precision there; None = where the device is a GPU.

    Returns:
        Largest relative errors, and milliseconds of the hybrid loss, fused and reference, forward and backward.

    Raises:
        CheckFailedError: the message names the operator, the shape and what is wrong.
    """
    measured: dict[str, float] = {}
    for shape in shapes:
        for dtype in (torch.float32, torch.float64):
            x, intact = _inputs(shape, dtype, device)
            exact = Inputs(*(y.double() if y.is_floating_point() else y for y in x))
            for name, function in _every(fused).items():
                what = f"{name} of {shape} in {str(dtype).removeprefix('torch.')}"
                say(what)
                got = _run(function, x)
                error = _compare(what, got, _run(_every(reference)[name], exact), dtype)
                measured[f"error {name} {dtype}"] = max(error, measured.get(f"error {name} {dtype}", 0.0))
                _repeat(what, function, x, got)
            if dtype == torch.float32 and (device.type == "cuda" if half is None else half):
                say(f"half precision of {shape}")
                _half(shape, x)
            if not intact():
                raise CheckFailedError(f"an operator wrote beside its inputs of {shape}")
    say("speed")
    x, _ = _inputs(shapes[-1], torch.float32, device)
    ours, theirs = (_milliseconds(_every(module)["hybrid"], x) for module in (fused, reference))
    measured |= {"fused ms": ours, "reference ms": theirs}
    if ours >= theirs:
        raise CheckFailedError(f"the operators are slower than the reference: {ours:.3g} ms against {theirs:.3g} ms")
    return measured


def _inputs(shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> tuple[Inputs, Callable[[], bool]]:
    """Returns inputs inside larger buffers, and what says whether the buffers' rims are intact."""
    generator = torch.Generator().manual_seed(0)
    batch, height, width = shape
    target = torch.randn(shape, generator=generator, dtype=torch.float64)
    pred = 2 * target + torch.randn(shape, generator=generator, dtype=torch.float64)
    mask = torch.rand(shape, generator=generator) < 0.9
    patches = torch.randn(batch, 2, height, width, generator=generator, dtype=torch.float64)
    unit = torch.tensor([[0.05, 0.1, 0.7, 0.8], [0.3, 0.2, 1.0, 0.9]], dtype=torch.float64)
    boxes = (unit * torch.tensor([width, height, width, height])).expand(batch, 2, 4)
    buffers = []

    def guarded(x: Tensor) -> Tensor:
        buffer = torch.full((x.numel() + 2 * _PAD,), _CANARY, dtype=dtype, device=device)
        buffers.append(buffer)
        inside = buffer[_PAD : _PAD + x.numel()].view(x.shape)
        return inside.copy_(x)

    def intact() -> bool:
        rims = [part for buffer in buffers for part in (buffer[:_PAD], buffer[-_PAD:])]
        return all(bool((rim == _CANARY).all()) for rim in rims)

    found = Inputs(guarded(pred), guarded(target), mask.to(device), guarded(patches), guarded(boxes))
    return found, intact


def _run(function: Callable[[Inputs], Tensor], x: Inputs) -> tuple[Tensor, Tensor]:
    """Returns value and gradient."""
    pred = x.pred.detach().requires_grad_()
    value = function(x._replace(pred=pred))
    weight = torch.linspace(0.5, 2, value.numel(), dtype=value.dtype, device=value.device).view(value.shape)
    return value.detach(), torch.autograd.grad((value * weight).sum(), pred)[0]


def _compare(what: str, got: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], dtype: torch.dtype) -> float:
    """Returns the value's relative error.

    Where both normalised values of a pixel agree up to rounding, the sign of their difference may be either: a few pixels may
    have another gradient.
    """
    (value, slope), (exact, true) = (tuple(y.double() for y in pair) for pair in (got, expected))
    scale = exact.abs().max().clamp(min=1e-30)
    error = float((value - exact).abs().max() / scale)
    if not error <= (1e-5 if dtype == torch.float32 else 1e-9):
        raise CheckFailedError(f"{what}: the value is wrong by {error:.2g}, relative to the largest")
    difference, largest = (slope - true).abs(), true.abs().max().clamp(min=1e-30)
    flipped = ~(difference <= 1e-3 * largest)
    rest = float(difference[~flipped].norm() / true.norm().clamp(min=1e-30))
    if int(flipped.sum()) > 2 + slope.numel() // 2000 or not rest <= (2e-3 if dtype == torch.float32 else 1e-7):
        raise CheckFailedError(f"{what}: the gradient is wrong at {int(flipped.sum())} pixels and by {rest:.2g} elsewhere")
    return error


def _half(shape: tuple[int, int, int], x: Inputs) -> None:
    """Runs the losses on maps of half precision: as on the same values in float32, with the gradient rounded."""
    stored = x._replace(pred=x.pred.bfloat16(), target=x.target.half(), patches=x.patches.half())
    full = stored._replace(pred=stored.pred.float(), target=stored.target.float(), patches=stored.patches.float())
    for name in ("hybrid", "hybrid without mask", "local-global", "gradient matching"):
        function = _every(fused)[name]
        (value, slope), (wanted, exact) = _run(function, stored), _run(function, full)
        if not (torch.equal(value, wanted) and torch.equal(slope, exact.bfloat16())):
            raise CheckFailedError(f"{name} of {shape}: half precision gives other bits than the same values in float32")


def _repeat(what: str, function: Callable[[Inputs], Tensor], x: Inputs, first: tuple[Tensor, Tensor]) -> None:
    """Runs it again: as it was, and on a GPU on a side stream and in a graph, for the same bits."""

    def same(how: str, again: tuple[Tensor, Tensor]) -> None:
        if not all(torch.equal(a, b) for a, b in zip(first, again, strict=True)):
            raise CheckFailedError(f"{what}: {how} does not give the same bits")

    same("a second run", _run(function, x))
    if x.pred.device.type != "cuda":
        return
    stream = torch.cuda.Stream(x.pred.device)
    stream.wait_stream(torch.cuda.current_stream(x.pred.device))
    with torch.cuda.stream(stream):
        _run(function, x)  # allocates and warms up, which a capture must not do
        again = _run(function, x)
    torch.cuda.current_stream(x.pred.device).wait_stream(stream)
    same("a side stream", again)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = _run(function, x)
    for _ in range(2):
        graph.replay()
        torch.cuda.synchronize(x.pred.device)
        same("a CUDA graph", captured)


def _milliseconds(function: Callable[[Inputs], Tensor], x: Inputs) -> float:
    """Returns the shortest of three runs, forward and backward."""
    times = []
    for _ in range(4):
        if x.pred.device.type == "cuda":
            torch.cuda.synchronize(x.pred.device)
        begin = time.perf_counter()
        _run(function, x)
        if x.pred.device.type == "cuda":
            torch.cuda.synchronize(x.pred.device)
        times.append(1e3 * (time.perf_counter() - begin))
    return min(times[1:])


def run(device: torch.device, command: Sequence[str] | None = None, limit: float = LIMIT) -> Verdict:
    """Returns the verdict of a check in a process of its own.

    Args:
        device: what is checked.
        command: the process; None: this module.
        limit: seconds after which it is killed.
    """
    command = command or [sys.executable, "-m", "dadkit.ops.selfcheck", "--device", str(device)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        output, errors = process.communicate(timeout=limit)
        ended = True
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        ended = False
    step, facts = "start", machine(device)
    for line in output.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        step = said.get("step", step)
        if ended and "passed" in said:
            return Verdict(said["passed"], said["message"], facts, said["measured"])
    if not ended:
        return Verdict(False, f"it did not end within {limit:g} s; its last step was '{step}'", facts, {})
    last = (errors.strip().splitlines() or ["it said nothing"])[-1]
    return Verdict(False, f"the process ended with {_status(process.returncode)} in step '{step}': {last}", facts, {})


def settle(device: torch.device, command: Sequence[str] | None = None, limit: float = LIMIT) -> Verdict:
    """Runs the check and keeps its verdict in the user's cache, where ``backend="auto"`` finds it."""
    from dadkit.files import write_text

    verdict = run(device, command, limit)
    path = place(verdict.machine)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(verdict._asdict(), indent=2) + "\n")
    except OSError as error:
        verdict = verdict._replace(message=f"{verdict.message} (the verdict cannot be kept in {path}: {error.strerror})")
    forget()
    return verdict


def ensure(device: torch.device) -> Verdict | None:
    """Settles a GPU that has no verdict yet. Returns the new verdict; None where nothing was to be done."""
    if device.type != "cuda" or switch() != "auto" or fused.why_not(torch.empty(0, device=device)) is not None:
        return None
    return settle(device) if read(machine(device)) is None else None


def _status(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks one device, and prints the steps and the verdict as JSON, a line each."""
    parser = argparse.ArgumentParser(prog="python -m dadkit.ops.selfcheck", description="Checks the compiled operators.")
    parser.add_argument("--device", default="cuda:0")
    device = torch.device(parser.parse_args(arguments).device)

    def say(**facts: object) -> None:
        print(json.dumps(facts), flush=True)

    reason = fused.why_not(torch.empty(0, device=device))
    if reason is not None:
        say(passed=False, message=f"the operators cannot run: {reason}", measured={})
        return 1
    try:
        measured = check(device, say=lambda step: say(step=step))
    except CheckFailedError as error:
        say(passed=False, message=str(error), measured={})
        return 1
    ratio = measured["reference ms"] / measured["fused ms"]
    say(passed=True, message=f"all operators are right, and {ratio:.0f} times as fast as the reference", measured=measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
