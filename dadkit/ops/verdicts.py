"""Whether the compiled operators have shown on this GPU that they are right: the self-check's verdicts, in the user's cache.

Broken kernels end the CUDA context of the process that launches them, so :mod:`dadkit.ops.selfcheck` tries them in another
one. Here its verdict is read, which launches nothing and is safe while a graph is captured or a program is compiled.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dadkit.ops.library import driver, library_path

__all__ = ["SWITCH", "Verdict", "allowed", "forget", "machine", "place", "read", "switch"]

SWITCH = "DADKIT_CUDA_KERNELS"
"""Environment variable: ``on`` and ``off`` decide for ``backend="auto"`` on CUDA; ``auto``, the default, asks the verdict."""


class Verdict(NamedTuple):
    """What the self-check found.

    Attributes:
        passed: True if every operator was right, repeatable, and faster than the reference.
        message: why not, or a summary.
        machine: what it holds for, as :func:`machine` says.
        measured: largest errors and times in milliseconds, by name.
    """

    passed: bool
    message: str
    machine: dict[str, str]
    measured: dict[str, float]


def allowed(index: int) -> bool:
    """Returns True if ``backend="auto"`` may take the compiled operators on CUDA device ``index``.

    Raises:
        ValueError: the environment variable has another value than ``on``, ``off`` or ``auto``.
    """
    chosen = switch()
    if chosen != "auto":
        return chosen == "on"
    verdict = known(index)
    return verdict is not None and verdict.passed


# What torch.compiler.assume_constant_result does, without loading the compiler: files are read once, when a program is traced.
allowed._dynamo_marked_constant = True  # type: ignore[attr-defined]


def switch() -> str:
    """Returns the environment variable's value."""
    chosen = os.environ.get(SWITCH, "auto")
    if chosen not in ("on", "off", "auto"):
        raise ValueError(f"{SWITCH} must be on, off or auto, got {chosen!r}")
    return chosen


@functools.cache
def known(index: int) -> Verdict | None:
    """Returns the verdict for CUDA device ``index``, and says once where there is none."""
    verdict = read(machine(torch.device("cuda", index)))
    if verdict is None:
        warnings.warn(
            f"the CUDA operators have not been checked on device {index}, so the losses run in PyTorch; "
            "`dadkit doctor --gpu` checks and enables them",
            stacklevel=2,
        )
    return verdict


def forget() -> None:
    """Lets the next call look at the files again."""
    known.cache_clear()
    machine.cache_clear()


@functools.cache
def machine(device: torch.device) -> dict[str, str]:
    """Returns what a verdict holds for: the compiled library, the processor and its driver, and PyTorch."""
    path = library_path()
    facts = {
        "library": "none" if path is None else hashlib.sha256(path.read_bytes()).hexdigest(),
        "torch": torch.__version__,
        "device": platform.processor() or platform.machine(),
        "capability": "",
        "driver": "",
    }
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        found = {"device": torch.cuda.get_device_name(device), "capability": f"{major}.{minor}", "driver": str(driver())}
        facts.update(found)
    return facts


def place(facts: dict[str, str]) -> Path:
    """Returns the file of the verdict for a machine."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return cache / "dadkit" / "kernels" / f"{digest[:32]}.json"


def read(facts: dict[str, str]) -> Verdict | None:
    """Returns the verdict for a machine; None where there is no readable one."""
    try:
        found: dict[str, Any] = json.loads(place(facts).read_text())
        return Verdict(bool(found["passed"]), str(found["message"]), dict(found["machine"]), dict(found["measured"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
