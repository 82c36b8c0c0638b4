"""`dadkit plugins check`: the conformance checks, without pytest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dadkit.cli.arguments import PluginFile
from dadkit.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from dadkit.plugin import Component
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
    plugin: PluginFile = None,
) -> None:
    """Check that plugins keep their contract: the package, and each component, built with its default options.

    No pytest is needed, and nothing is downloaded. Give options that keep models small (weights=none). Exits with 1 if a check
    fails.

    Examples: dadkit plugins check acme; dadkit plugins check acme/small weights=none --json
    """
    from dadkit.config.overrides import parse_assignments, split_arguments
    from dadkit.errors import DadkitError
    from dadkit.testing import CONFORMANCE_VERSION

    subjects, assignments = split_arguments(names or [])
    options = parse_assignments(assignments)
    if not subjects and plugin is not None:
        subjects = ["local"]
    if not subjects:
        raise DadkitError("nothing to check; give the name of a plugin, or PLUGIN/NAME; `dadkit plugins` lists them")
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
