"""`dadkit config`: check files, show what a run resolves to, describe the keys."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback(epilog="Example: dadkit config check configs/*.yaml")
def config() -> None:
    """Check, show or describe configurations."""


@app.command(epilog="Example: dadkit config check configs/*.yaml")
def check(
    arguments: Annotated[
        list[str], typer.Argument(metavar="FILE... [KEY=VALUE]...", help="YAML files, and overrides for all of them.")
    ],
) -> None:
    """Check files without training: every mistake of every file, each with its place. Exits with 2 if there is one."""
    from dadkit.config import ConfigError, load_run

    files, overrides = _split(arguments)
    wrong = 0
    for file in files:
        try:
            run = load_run(file, overrides)
        except ConfigError as error:
            wrong += 1
            for problem in error.problems:
                typer.echo(str(problem), err=True)
        else:
            stages = ", ".join(stage.name for stage in run.stages)
            typer.echo(f"{file}: ok ({'stage' if len(run.stages) == 1 else 'stages'} {stages})")
    if wrong:
        raise typer.Exit(ConfigError.exit_code)


@app.command(epilog="Example: dadkit config show configs/from_scratch.yaml stages.student.iterations=50")
def show(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE] [KEY=VALUE]...", help="A YAML file and overrides; without a file: every default."),
    ] = None,
) -> None:
    """Print a run with its stages merged and every key and option with its value, as YAML that trains unchanged."""
    from dadkit.config import default_text, dump, load_run
    from dadkit.errors import UsageError

    if not arguments:
        typer.echo(default_text(), nl=False)
        return
    files, overrides = _split(arguments)
    if len(files) > 1:
        raise UsageError(f"show takes one file, got {', '.join(files)}")
    typer.echo(dump(load_run(files[0], overrides)), nl=False)


@app.command(epilog="Examples: dadkit config schema optim.lr; dadkit config schema dav2/small; dadkit config schema > run.json")
def schema(
    name: Annotated[
        str | None, typer.Argument(metavar="[KEY | COMPONENT]", help="A dotted key, or the name of a component.")
    ] = None,
) -> None:
    """Print JSON Schema: of the whole file with all installed components, of one key, or of a component's options."""
    import json

    from dadkit.config import json_schema
    from dadkit.config.schema import RunFile

    is_key = name is not None and name.partition(".")[0] in RunFile.model_fields
    found = json_schema(name) if is_key else json_schema(component=name)
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False))


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    from dadkit.config.stages import split_arguments
    from dadkit.errors import UsageError

    files, overrides = split_arguments(arguments)
    if not files:
        raise UsageError(f"no file is given, only {', '.join(overrides)}")
    return files, overrides
