"""`dadkit doctor`: what this machine and this installation can do, to look at first and to paste into a bug report."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from dadkit._version import __version__
from dadkit.cli.output import print_facts, print_json, print_table
from dadkit.plugin.host import installed_version
from dadkit.threads import in_force, shared_cores

__all__ = ["doctor"]

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pydantic", "pluggy", "safetensors", "pillow", "transformers")


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    load: Annotated[bool, typer.Option("--load", help="Also import each plugin, as `dadkit plugins --load` does.")] = False,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Also check the loss kernels on each GPU, which enables them there if they pass.")
    ] = False,
) -> None:
    """Say what this installation can do: versions, devices, threads, loss kernels, plugins, and what is wrong.

    Exits with 1 if something is wrong. No plugin is imported without --load.

    Example: dadkit doctor --json
    """
    problems: list[str] = []
    report: dict[str, Any] = {
        "dadkit": {"version": __version__, "location": str(Path(__file__).parents[1])},
        "python": {"version": platform.python_version(), "executable": sys.executable, "platform": platform.platform()},
        "packages": {name: installed_version(name) or "not installed" for name in _PACKAGES},
        "torch": _torch(problems),
        "losses": _losses(problems) | (_check_gpus(problems) if gpu else {}),
        "plugins": _plugins(load, problems),
        "problems": problems,
    }
    if as_json:
        print_json(report)
    else:
        _print(report)
    if problems:
        raise typer.Exit(1)


def _torch(problems: list[str]) -> dict[str, Any]:
    try:
        import torch
    except Exception as error:  # a broken installation raises OSError, ImportError, RuntimeError, …
        problems.append(f"torch cannot be imported: {_line(error)}; install it anew, see https://pytorch.org/get-started")
        return {}
    shared = shared_cores(torch.get_num_threads())
    gpus = [
        f"{index}: {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, sm_{gpu.major}{gpu.minor}"
        for index, gpu in enumerate(map(torch.cuda.get_device_properties, range(torch.cuda.device_count())))
    ]
    return {
        "version": torch.__version__,
        "built for": f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only",
        "GPUs": gpus or ["none"],
        "CPU instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": in_force(torch.get_num_threads()) + (f"; warning: {shared}" if shared else ""),
        "torchvision": _torchvision(torch.__version__, problems),
    }


def _torchvision(torch_version: str, problems: list[str]) -> str:
    """Import it, since its compiled operators load only beside the torch build they were made for; versions do not tell."""
    if installed_version("torchvision") is None:
        problems.append(f"torchvision is not installed, timm needs it: `pip install torchvision` beside torch {torch_version}")
        return "not installed"
    try:
        import_module("torchvision")
    except Exception as error:  # RuntimeError for missing operators, OSError for missing libraries, …
        problems.append(
            f"torchvision {installed_version('torchvision')} does not fit torch {torch_version}: {_line(error)}; "
            "install both from the same index, in builds for the same CUDA (or both for the CPU)"
        )
        return f"{installed_version('torchvision')} does not fit"
    return f"{installed_version('torchvision')} fits"


def _check_gpus(problems: list[str]) -> dict[str, str]:
    """Runs the self-check of the fused operators on each GPU; a failed check is a problem."""
    import torch

    from dadkit.ops.selfcheck import settle

    verdicts = {}
    for index in range(torch.cuda.device_count()):
        verdict = settle(torch.device("cuda", index))
        verdicts[f"check of GPU {index}"] = ("passed: " if verdict.passed else "FAILED: ") + verdict.message
        if not verdict.passed:
            problems.append(
                f"the fused operators failed their check on GPU {index}, and PyTorch runs instead: {verdict.message}"
            )
    return verdicts or {"check of GPUs": "there is no CUDA device"}


def _losses(problems: list[str]) -> dict[str, Any]:
    """Returns which implementation ``backend="auto"`` takes, why, and how the compiled operators were built."""
    try:
        from dadkit.ops import dispatch
        from dadkit.ops.build_info import describe

        return {"backend": dispatch.resolve("auto"), **describe()}
    except Exception as error:  # an installation can be broken in any way, and this command reports it
        problems.append(f"dadkit.ops cannot be used: {_line(error)}")
        return {}


def _plugins(load: bool, problems: list[str]) -> list[dict[str, str]]:
    from dadkit.plugin import get_registry
    from dadkit.plugin.messages import failure

    records = get_registry().plugins(load=load)
    problems += [failure(record) for record in records if record.state.is_failure]
    return [
        {
            "name": record.name,
            "state": str(record.state),
            "package": f"{record.distribution} {record.version}",
            "reason": record.reason,
        }
        for record in records
    ]


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _print(report: Mapping[str, Any]) -> None:
    for section in ("dadkit", "python", "packages", "torch", "losses"):
        print_facts(section, report[section])
    typer.secho("plugins" if report["plugins"] else "plugins: none", bold=True)
    print_table(("name", "state", "package", "reason"), [tuple(plugin.values()) for plugin in report["plugins"]])
    if not report["problems"]:
        typer.secho("no problem found", fg=typer.colors.GREEN)
    for problem in report["problems"]:
        typer.secho(f"problem: {problem}", fg=typer.colors.RED)
