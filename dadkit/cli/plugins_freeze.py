"""`dadkit plugins freeze`: requirement lines for the plugins that are installed, or that a run was made with."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["freeze"]


def freeze(
    run: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="A run's folder: the versions it was made with.")] = None,
) -> None:
    """Print requirement lines of dadkit and its plugins, for `pip install -r`. Imports no plugin.

    Example: dadkit plugins freeze runs/quickstart > requirements.txt
    """
    versions = _of_run(run) if run is not None else _installed()
    for name, version in versions.items():
        typer.echo(_line(name, version))


def _installed() -> dict[str, str]:
    from dadkit._version import __version__
    from dadkit.plugin import get_registry

    records = [record for record in get_registry().plugins() if record.state == "found" or record.state == "ok"]
    found = {record.distribution: record.version for record in records}
    return {"dadkit": __version__, **{name: found[name] for name in sorted(found)}}


def _of_run(run: Path) -> dict[str, str]:
    from dadkit.errors import DadkitError

    path = run / "run.json"
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        versions: dict[str, str] = described["versions"]
        taking_part = ["dadkit", *(component["distribution"] for component in described["components"])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DadkitError(
            f"{path} cannot be read: {error!r}; give the folder of a run, runs/quickstart for instance"
        ) from error
    return {name: versions[name] for name in sorted(set(taking_part), key=lambda name: (name != "dadkit", name))}


def _line(name: str, version: str) -> str:
    """``name==version``, or a remark where no index has it."""
    if version.startswith("sha256:"):
        return f"# {name} {version}: a local file, given with --plugin"
    try:
        origin = metadata.distribution(name).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        origin = None
    where = json.loads(origin) if origin else {}
    if "vcs_info" in where:
        return f"{name} @ {where['vcs_info']['vcs']}+{where['url']}@{where['vcs_info']['commit_id']}"
    remark = f"  # installed from {where['url']}" if where else ""
    return f"{name}=={version}{remark}"
