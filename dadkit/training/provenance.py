"""``run.json``: with what, where and how a run was made, so that somebody else can make it again."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import torch

from dadkit._version import __version__
from dadkit.config.schema import RunConfig
from dadkit.config.section import find_slots
from dadkit.plugin import Component, get_registry
from dadkit.training.record import StageRecord

__all__ = ["component_versions", "describe_run", "run_components"]

REPORTED = ("numpy", "timm", "safetensors", "pillow")


def run_components(run: RunConfig) -> list[Component]:
    """Every registered component that the run names, each once."""
    registry = get_registry()
    found: dict[tuple[str, str], Component] = {}
    for slot in find_slots(RunConfig, run.model_dump()):
        name = slot.value.get("name")
        if name is not None:
            component = registry.resolve_first(slot.kinds, name)
            found[component.kind, component.name] = component
    return list(found.values())


def component_versions(components: Sequence[Component]) -> dict[str, str]:
    """Distribution -> version of dadkit and of every plugin that takes part."""
    return {"dadkit": __version__, **{c.distribution: c.version for c in components}}


def describe_run(
    run: RunConfig, components: Sequence[Component], stages: Sequence[StageRecord], *, device: torch.device, processes: int = 1
) -> dict[str, Any]:
    """Plain data for ``run.json``.

    Args:
        run: the configuration.
        components: from :func:`run_components`.
        stages: the records of the finished stages, in order.
        device: where it is trained.
        processes: that train it together.
    """
    return {
        "name": run.name,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
        "versions": {
            **component_versions(components),
            "python": platform.python_version(),
            "torch": torch.__version__,
            **{name: metadata.version(name) for name in REPORTED},
        },
        "environment": {**_environment(device), "processes": processes},
        "licenses": list(dict.fromkeys(name for stage in stages for name in stage.licenses)),
        "components": [component.provenance() for component in components],
        "stages": [stage.plain() for stage in stages],
    }


def _environment(device: torch.device) -> Mapping[str, Any]:
    found: dict[str, Any] = {
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
    }
    if device.type == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return found
