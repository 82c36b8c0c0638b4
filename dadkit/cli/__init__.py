"""The command line: one table of commands, one way of failing.

Each command is a function (or, for groups like ``dadkit config check``, a :class:`typer.Typer`) in a small module of this
package, named in :data:`COMMANDS` and imported only when it is called; the module imports torch and everything else
that is slow inside its functions. So ``dadkit --help`` answers at once and a command that cannot be imported harms no other.

To add a command, write ``dadkit/cli/NAME.py`` with a function whose docstring is the help text and ends with an example, and
one line in the table. A command raises :class:`dadkit.errors.DadkitError` for what the user can put right; everything else is
our bug and keeps its traceback.
"""

from __future__ import annotations

import errno
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from dadkit._version import __version__
from dadkit.cli.arguments import plugin_file
from dadkit.errors import DadkitError
from dadkit.kinds import KINDS
from dadkit.threads import bound_spinning

__all__ = ["COMMANDS", "Entry", "app", "main"]


@dataclass(frozen=True)
class Entry:
    """One row of the table of commands.

    Attributes:
        target: ``module:attribute`` of the function, or of the :class:`typer.Typer` of a group.
        summary: one line for ``dadkit --help``.
        panel: heading under which it is listed there.
    """

    target: str
    summary: str
    panel: str


_WORK, _LEAVE = "From photographs to a model", "Use a model elsewhere"
_COMPONENTS, _INSTALLATION = "What there is to choose from", "This installation"

COMMANDS: Mapping[str, Entry] = {
    "predict": Entry("dadkit.cli.predict:predict", "Predict depth for images and videos.", _WORK),
    "inspect": Entry("dadkit.cli.inspect:inspect", "Look at data before training.", _WORK),
    "train": Entry("dadkit.cli.train:train", "Distil teachers into a student, as YAML files say.", _WORK),
    "evaluate": Entry("dadkit.cli.evaluate:evaluate", "Measure models under a named protocol.", _WORK),
    "sweep": Entry("dadkit.cli.sweep:sweep", "Train many variants with several seeds: one table with mean and spread.", _WORK),
    "label": Entry("dadkit.cli.label:label", "Let teachers label images once, on one machine or many.", _WORK),
    "config": Entry("dadkit.cli.config:app", "Check, show or describe configurations.", _WORK),
    "export": Entry("dadkit.cli.export:export", "Write a model for another runtime, checked against the model.", _LEAVE),
    "bench": Entry("dadkit.cli.bench:bench", "Measure how fast models are, by several runtimes.", _LEAVE),
    "calibrate": Entry(
        "dadkit.cli.calibrate:calibrate", "Fit metres for a relative model, from known distances or a labelled set.", _LEAVE
    ),
    "demo": Entry("dadkit.cli.demo:demo", "Write or serve a page that runs a model in the visitor's browser.", _LEAVE),
    "convert": Entry("dadkit.cli.convert:convert", "Write a trained model as other programs read it.", _LEAVE),
    "card": Entry("dadkit.cli.push:card", "Print a model card, with the hub's metadata.", _LEAVE),
    "push": Entry("dadkit.cli.push:push", "Upload a model to the Hugging Face hub.", _LEAVE),
    **{row.command: Entry(f"dadkit.cli.components:{row.command}", row.summary, _COMPONENTS) for row in KINDS.values()},
    "protocols": Entry("dadkit.cli.components:protocols", "What an evaluation may measure, in every detail.", _COMPONENTS),
    "plugins": Entry("dadkit.cli.plugins:app", "Installed plugins and their states.", _INSTALLATION),
    "doctor": Entry("dadkit.cli.doctor:doctor", "Versions, devices, loss kernels: what this machine can do.", _INSTALLATION),
}
"""Name of each command -> where it is written. ``dadkit --help`` lists them in this order, without importing one."""


class _Commands(TyperGroup):
    """The table as a command group: rows are shown as they are, and replaced by the real command when one is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, entry in COMMANDS.items():
            self.add_command(TyperCommand(name, help=entry.summary, rich_help_panel=entry.panel))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, row, rest = super().resolve_command(ctx, args)
        command = row and _load(str(name))
        ctx.obj = command, tuple(rest)  # a copy: parsing consumes the list
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a :class:`DadkitError` becomes one message and its exit code, Ctrl-C becomes 130."""
        try:
            return super().invoke(ctx)
        except DadkitError as error:
            from dadkit.cli.output import print_error

            print_error(error)
            for hint in _meant(str(error), *ctx.obj):
                typer.echo(hint, err=True)
            raise typer.Exit(error.exit_code) from error
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            typer.echo(f"error: no file can have so long a name: {str(error.filename)[:60]}…", err=True)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from error


def _meant(message: str, command: Any, words: Sequence[str]) -> Iterator[str]:
    """Yields a hint for each ``KEY=VALUE`` that was refused as a key and is the name of an option of the command."""
    for key, _, value in (word.partition("=") for word in words):
        for option in command.params if f"{key}: unknown key" in message else ():
            if f"--{key}" in option.opts:
                yield f"did you mean --{key}{'' if option.is_flag else f' {value}'}?"


def _load(name: str) -> Any:
    module, _, attribute = COMMANDS[name].target.partition(":")
    found = getattr(import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        single = typer.Typer(add_completion=False)
        single.command(name)(found)
        found = single
    return _completed(typer.main.get_command(found))


def _completed(command: Any) -> Any:
    """Returns the command with what all have in common.

    Each paragraph of the help is on one line, so that the terminal's width alone breaks it, and ``--plugin`` is an option.
    """
    command.help = re.sub(r"(?<!\n)\n(?!\n)", " ", command.help or "")
    parts = getattr(command, "commands", {})
    for part in parts.values():
        _completed(part)
    if not parts:
        command.params.append(plugin_file())
    return command


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dadkit {__version__}")
        raise typer.Exit


app = typer.Typer(cls=_Commands, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback(epilog="Example: dadkit train configs/quickstart.yaml optim.lr=3e-4")
def _dadkit(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Distil any monocular depth model into any other."""


def main(arguments: list[str] | None = None) -> None:
    """The ``dadkit`` command.

    Args:
        arguments: what follows ``dadkit``; None takes the process's own.

    Raises:
        SystemExit: always: 0 if all went well, 2 for wrong usage, else the error's own code.
    """
    bound_spinning()  # before a command imports torch
    # Python hides deprecations from users; the former name of a component is in *their* YAML, so they must see it.
    warnings.filterwarnings("default", message=".* is a former name of ", category=DeprecationWarning)
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"  # the line of code that warns tells users nothing
    try:
        typer.main.get_command(app)(arguments, prog_name="dadkit")
    except KeyboardInterrupt:  # before or after the command itself
        sys.exit(130)
