"""How the command line starts, finds its commands, and fails."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import typer

from dadkit import __version__
from dadkit.cli import COMMANDS, Entry, main
from dadkit.errors import DadkitError, DataError

# Slow to import, and never needed to find a command or to print help.
HEAVY = {"torch", "torchvision", "timm", "numpy", "PIL", "matplotlib", "tensorboard", "safetensors", "einops"}
PLUGINS = {"dadkit_dav2", "dadkit_topformer"}


@pytest.fixture
def command(monkeypatch):
    """Put a function into the table as the command ``trial``."""

    def put(function):
        monkeypatch.setitem(sys.modules, "trial_module", SimpleNamespace(trial=function))
        monkeypatch.setitem(COMMANDS, "trial", Entry("trial_module:trial", "Just a test.", "Work"))

    return put


def imported_after(code):
    """Top-level names in sys.modules of a fresh process that ran ``code``."""
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
    script += "import json\nsys.stderr.write(json.dumps([m.partition('.')[0] for m in sys.modules]))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(result.stderr.splitlines()[-1]))


def test_help_imports_nothing_heavy_and_no_plugin():
    names = imported_after("from dadkit.cli import main; main(['--help'])")
    assert "typer" in names
    assert not names & (HEAVY | PLUGINS)


def test_no_command_module_imports_anything_heavy():
    modules = sorted({entry.target.partition(":")[0] for entry in COMMANDS.values()})
    names = imported_after(f"import {', '.join(modules)}")
    assert not names & (HEAVY | PLUGINS)


def test_listing_the_builtin_plugins_imports_no_torch():
    names = imported_after("from dadkit.cli import main; main(['plugins', '--load', '--strict'])")
    assert names >= PLUGINS
    assert "torch" not in names


def test_help_lists_the_table_in_order(dadkit):
    code, out, _ = dadkit("--help")
    assert code == 0
    found = re.findall(r"^│ (\w+) ", out, flags=re.MULTILINE)
    assert [name for name in found if name in COMMANDS] == list(COMMANDS)
    for entry in COMMANDS.values():
        assert entry.summary in out


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_and_subcommand_has_help_with_an_example(dadkit, name):
    code, out, _ = dadkit(name, "--help")
    assert code == 0
    assert f"dadkit {name}" in out.partition("Example")[2]
    assert "--install-completion" not in out
    subcommands = out.partition("─ Commands")[2]
    for subcommand in re.findall(r"^│ (\w+) ", subcommands, flags=re.MULTILINE):
        assert f"dadkit {name} {subcommand}" in dadkit(name, subcommand, "--help")[1].partition("Example")[2]


def test_version(dadkit):
    assert dadkit("--version") == (0, f"dadkit {__version__}\n", "")


def test_python_dash_m():
    result = subprocess.run([sys.executable, "-m", "dadkit", "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == f"dadkit {__version__}\n"


def test_without_arguments_help_is_printed(dadkit):
    _, out, err = dadkit()
    assert "Usage: dadkit" in out + err


def test_a_misspelt_command_is_wrong_usage(dadkit):
    code, _, err = dadkit("trian")
    assert code == 2
    assert "No such command 'trian'" in err


@pytest.mark.parametrize(
    ("error", "code"),
    [(DadkitError("the file is gone\nlook elsewhere"), 1), (DataError("no images"), 3)],
)
def test_errors_that_the_user_can_mend_are_one_message(dadkit, command, error, code):
    def trial() -> None:
        raise error

    command(trial)
    assert dadkit("trial") == (code, "", f"error: {error}\n")


def test_ctrl_c_is_130(dadkit, command):
    def trial() -> None:
        raise KeyboardInterrupt

    command(trial)
    code, _, err = dadkit("trial")
    assert (code, err) == (130, "interrupted\n")


def test_other_errors_keep_their_traceback(command):
    def trial() -> None:
        raise ZeroDivisionError("ours")

    command(trial)
    with pytest.raises(ZeroDivisionError, match="ours"):
        main(["trial"])


def test_exit_codes_of_commands_pass(dadkit, command):
    def trial() -> None:
        raise typer.Exit(7)

    command(trial)
    assert dadkit("trial")[0] == 7


def test_a_command_that_cannot_be_imported_harms_no_other(dadkit, monkeypatch):
    monkeypatch.setitem(COMMANDS, "gone", Entry("dadkit.cli.no_such_module:gone", "Broken.", "Work"))
    assert "Broken." in dadkit("--help")[1]
    assert dadkit("plugins")[0] == 0
    with pytest.raises(ModuleNotFoundError):
        main(["gone"])


def test_a_former_name_of_a_component_is_shown_to_users(command):
    code = """
import sys, types, warnings
from dadkit.cli import COMMANDS, Entry, main
def trial() -> None:
    warnings.warn("'acme/old' is a former name of teacher 'acme/new'; write 'acme/new'", DeprecationWarning, stacklevel=2)
sys.modules["trial_module"] = types.SimpleNamespace(trial=trial)
COMMANDS["trial"] = Entry("trial_module:trial", "Just a test.", "Work")
main(["trial"])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'acme/old' is a former name" in result.stderr
