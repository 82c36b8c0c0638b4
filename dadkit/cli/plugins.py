"""`dadkit plugins`: what is installed, in which state; new packages, switches, requirement lines, conformance checks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dadkit.cli.output import note, print_facts, print_json, print_table

if TYPE_CHECKING:
    from dadkit.plugin import Component, PluginRecord
    from dadkit.testing import Result

__all__ = ["check"]

_STYLES = {"passed": "green", "failed": "red", "skipped": "dim"}


def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME... [KEY=VALUE]...", help="Plugins, PLUGIN/NAME or PLUGIN/*; options for those that have them."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every result as JSON.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also list what passed and what was skipped, and why.")
    ] = False,
    conformance_version: Annotated[
        int | None, typer.Option("--version", help="Leave out checks that were added after this version of the suite.")
    ] = None,
) -> None:
    """Check that plugins keep their contract: the package, and each component, built with its default options.

    No pytest is needed, and nothing is downloaded. Give options that keep models small (weights=none). Exits with 1 if a check
    fails.

    Examples: dadkit plugins check acme; dadkit plugins check acme/small weights=none --json
    """
    from dadkit.config.stages import parse_assignments, split_arguments
    from dadkit.errors import UsageError
    from dadkit.plugin import get_registry
    from dadkit.testing import CONFORMANCE_VERSION

    subjects, assignments = split_arguments(names or [])
    options = parse_assignments(assignments)
    if not subjects and get_registry().file is not None:
        subjects = ["local"]
    if not subjects:
        raise UsageError("nothing to check; give the name of a plugin, or PLUGIN/NAME; `dadkit plugins` lists them")
    results: list[Result] = []
    for subject in subjects:
        results += _check(subject, options, conformance_version or CONFORMANCE_VERSION)
    if as_json:
        print_json([asdict(result) for result in results])
    else:
        _print(results, verbose)
    if any(result.outcome == "failed" for result in results):
        raise typer.Exit(1)


def _check(name: str, options: Mapping[str, Any], version: int) -> list[Result]:
    """Returns all results of a plugin and its components, or of the components that ``name`` matches."""
    from dadkit.plugin import PluginError, get_registry
    from dadkit.testing import check_component, check_plugin

    registry = get_registry()
    results: list[Result] = []
    is_plugin = "/" not in name and any(record.name == name for record in registry.plugins())
    if is_plugin:
        results += check_plugin(name, conformance_version=version, registry=registry)
        components = list(registry.plugin(name).components)
    else:
        components = _matching(name)
        if not components:
            hint = registry.plugin(name.partition("/")[0]).title if "/" in name else "it is neither a plugin nor the core's"
            raise PluginError(f"nothing is called '{name}' ({hint}); `dadkit plugins --load` lists what there is")
    for component in components:
        fitting = _fitting(component, options)
        results += check_component(component.kind, component.name, fitting, conformance_version=version, registry=registry)
    return results


def _matching(pattern: str) -> list[Component]:
    from dadkit.kinds import KINDS
    from dadkit.plugin import get_registry

    return [component for kind in KINDS for component in get_registry().components(kind, pattern)]


def _fitting(component: Component, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those options that the component has."""
    if not options:
        return {}
    from dadkit.config.components import options_model
    from dadkit.plugin import PluginError

    try:
        fields = options_model(component).model_fields
    except PluginError:  # its code cannot be imported; the checks say so
        return {}
    known = {info.alias or name for name, info in fields.items()}
    return {name: value for name, value in options.items() if name in known}


def _print(results: list[Result], verbose: bool) -> None:
    tally: dict[tuple[str, str], dict[str, int]] = {}
    for result in results:
        counts = tally.setdefault((result.kind, result.subject), {"passed": 0, "failed": 0, "skipped": 0})
        counts[result.outcome] = counts.get(result.outcome, 0) + 1
    rows = [
        (kind, name, *(str(counts[key]) for key in ("passed", "failed", "skipped"))) for (kind, name), counts in tally.items()
    ]
    print_table(("kind", "name", "passed", "failed", "skipped"), rows)
    shown = [result for result in results if verbose or result.outcome == "failed"]
    if shown:
        typer.echo()
        print_table(
            ("kind", "name", "check", "outcome", "contract"),
            [(result.kind, result.subject, result.check, str(result.outcome), result.contract) for result in shown],
            styles=_STYLES,
        )
    for result in shown:
        if result.message:
            typer.echo(f"\n{result.kind} {result.subject}, {result.check}: {result.message}")
    if not any(result.outcome == "failed" for result in results):
        note("all checks passed; -v lists them")


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_STYLES = {
    "ok": "green",
    "disabled": "dim",
    "incompatible": "red",
    "conflict": "red",
    "import-error": "red",
    "hook-error": "red",
}
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback(invoke_without_command=True)
def plugins(
    ctx: typer.Context,
    as_json: _Json = False,
    load: Annotated[bool, typer.Option("--load", help="Import each plugin, and say what it offers or why it fails.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Load, and exit with 1 if one is broken (for continuous integration).")
    ] = False,
) -> None:
    """List the installed plugins and their states.

    Without --load no plugin is imported: `found` means installed, and not needed so far. A broken plugin harms no other.

    Example: dadkit plugins --load
    """
    if ctx.invoked_subcommand is not None:
        return
    from dadkit.plugin import get_registry

    records = get_registry().plugins(load=load or strict)
    if as_json:
        print_json([_plain(record) for record in records])
    else:
        print_table(("plugin", "state", "package", "components or reason"), _rows(records), styles=_STYLES)
        if not records:
            note("no plugin is installed")
        if any(record.state == "found" for record in records):
            note("found = installed, not imported so far; `dadkit plugins --load` imports each")
    if strict and any(record.state.is_failure for record in records):
        raise typer.Exit(1)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of the plugin, the part before the slash.")], as_json: _Json = False
) -> None:
    """Show everything about one plugin, which is imported for it: package, state, components, full traceback.

    Example: dadkit plugins show dav2
    """
    from dadkit.plugin import get_registry

    record = get_registry().plugin(name)
    if as_json:
        print_json({**_plain(record), "traceback": record.traceback})
        return
    facts = {
        "state": str(record.state),
        "reason": record.reason,
        "what to do": record.remedy,
        "distribution": f"{record.distribution} {record.version}",
        "requires": ", ".join(record.requires),
        "entry point": record.target,
        "location": record.location,
        "claimed by": list(record.claims),
    }
    print_facts(f"plugin {record.name}", facts)
    if record.components:
        typer.echo()
        rows = [
            (component.kind, component.name, component.target, component.space or "", component.summary)
            for component in record.components
        ]
        print_table(("kind", "name", "target", "space", "summary"), rows)
    if record.traceback:
        typer.echo()
        typer.echo(record.traceback.rstrip())


class Kind(StrEnum):
    """What a new package can offer; a test holds it to the scaffolds."""

    TEACHER = "teacher"
    STUDENT = "student"
    ENCODER = "encoder"
    NORMALIZER = "normalizer"
    SAMPLER = "sampler"
    LOSS = "loss"
    TERM = "term"
    HOOK = "hook"
    DATASET = "dataset"
    COMPLETER = "completer"
    EXPORTER = "exporter"


class License(StrEnum):
    """Under what; a test holds it to the scaffolds."""

    APACHE = "Apache-2.0"
    MIT = "MIT"
    BSD = "BSD-3-Clause"
    PROPRIETARY = "proprietary"


def new(
    name: Annotated[str, typer.Argument(help="Name of the plugin, the part before the slash: acme.")],
    kind: Annotated[Kind, typer.Option("--kind", "-k", help="What it offers.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write; by default dadkit-NAME.", show_default=False)
    ] = None,
    license: Annotated[License, typer.Option("--license", help="Of its code and weights.")] = License.APACHE,
    author: Annotated[str, typer.Option("--author", help="For the licence.", show_default=False)] = "",
) -> None:
    """Write a small plugin package that works: a toy without weights, its tests, README, licence, CI file, training in small.

    Example: dadkit plugins new acme --kind teacher
    """
    from dadkit.plugin.scaffold import use, write_package

    folder = output or Path(f"dadkit-{name}")
    for file in write_package(name, str(kind), folder, license=str(license), author=author):
        typer.echo(f"wrote {folder / file}")
    typer.echo(f"next: cd {folder} && pip install -e . && dadkit plugins check {name} && {use(str(kind), name)}")


_Name = Annotated[str, typer.Argument(help="Name of the plugin, the part before the slash.")]


def disable(name: _Name) -> None:
    """Switch a plugin off until it is enabled again; it is never imported, so a plugin that breaks everything can be left out.

    Example: dadkit plugins disable acme
    """
    from dadkit.plugin import get_registry
    from dadkit.plugin.discovery import disabled_file, switch_off

    get_registry().plugin(name, load=False)  # an unknown name is told with near misses
    done = switch_off(name)
    typer.echo(f"{name} is off{'' if done else ' already'} ({disabled_file()}); `dadkit plugins enable {name}` switches it on")


def enable(name: _Name) -> None:
    """Switch a plugin on again.

    Example: dadkit plugins enable acme
    """
    from dadkit.plugin.discovery import disabled_file, switch_on, switched_off
    from dadkit.plugin.records import DISABLE_VARIABLE

    done = switch_on(name)
    where = switched_off().get(name)
    if where == DISABLE_VARIABLE:
        typer.echo(f"{name} stays off as long as the environment variable {DISABLE_VARIABLE} names it")
    elif done:
        typer.echo(f"{name} is on")
    else:
        from dadkit.plugin import get_registry

        get_registry().plugin(name, load=False)
        typer.echo(f"{name} was not switched off in {disabled_file()}")


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


for _command in (new, check, disable, enable, freeze):
    app.command()(_command)


def _rows(records: list[PluginRecord]) -> list[tuple[str, str, str, str]]:
    """Returns one row a plugin: name, state, package, and what it offers or why it does not."""
    return [
        (
            record.name,
            str(record.state),
            f"{record.distribution} {record.version}",
            record.reason or _offer(record),
        )
        for record in records
    ]


def _offer(record: PluginRecord) -> str:
    """``"teacher: small, large; student: small"``."""
    names: dict[str, list[str]] = {}
    for component in record.components:
        names.setdefault(component.kind, []).append(component.name.rpartition("/")[2])
    return "; ".join(f"{kind}: {', '.join(of_kind)}" for kind, of_kind in names.items())


def _plain(record: PluginRecord) -> dict[str, Any]:
    """Returns a record as plain data, without the traceback."""
    return {key: value for key, value in asdict(record).items() if key != "traceback"}
