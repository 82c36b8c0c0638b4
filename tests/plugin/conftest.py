from __future__ import annotations

import os
import re
import subprocess
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest


class Environment:
    """A virtual environment that also sees every package of the one the tests run in, so that nothing is downloaded."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.work = work
        venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
        (site_packages,) = folder.glob("lib/python*/site-packages")
        parents = dict.fromkeys(sysconfig.get_paths()[key] for key in ("purelib", "platlib"))
        (site_packages / "parent.pth").write_text("".join(f"import site; site.addsitedir({parent!r})\n" for parent in parents))
        for name in ("dadkit", "pip"):
            script = folder / "bin" / name
            script.write_text(f'#!/bin/sh\nexec "{folder}/bin/python" -P -m {name} "$@"\n')
            script.chmod(0o755)
        dropped = {"PYTHONPATH", "PYTHONHOME", "FORCE_COLOR", "DADKIT_DISABLE_PLUGINS", "DADKIT_STRICT_PLUGINS"}
        self._variables = {key: value for key, value in os.environ.items() if key not in dropped}
        self._variables |= {
            "PATH": f"{folder}/bin{os.pathsep}{os.environ['PATH']}",
            "VIRTUAL_ENV": str(folder),
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # pip reads the value of --no-xxx options the other way round: 0 is "no isolation"
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "DADKIT_HOME": str(work.parent / "settings"),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }

    def run(self, command: str) -> tuple[int, str]:
        """Run a shell command in the work folder; (exit code, output and errors together)."""
        result = subprocess.run(
            command, shell=True, cwd=self.work, env=self._variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return result.returncode, result.stdout


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    work = tmp_path / "work"
    work.mkdir()
    return Environment(tmp_path / "environment", work)


_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


@pytest.fixture
def execute_page(environment: Environment) -> Callable[[Path], None]:
    """Execute a page of documentation in a fresh environment and folder, block after block.

    A block whose opening line names a file (```` ```toml pyproject.toml ````) is that file. A ``python`` block without a name
    is a script. A ``console`` block holds commands after ``$ `` and what they print, where ``…`` stands for anything; they must
    succeed, unless what they print is shown as an ``Error: `` or ``error: ``. Other blocks are only shown.
    """

    def execute(page: Path) -> None:
        text = page.read_text()
        blocks = _BLOCK.findall(text)
        assert text.count("\n```") == 2 * len(blocks), "a block of the page cannot be read"
        for language, file, body in blocks:
            if file:
                (environment.work / file).parent.mkdir(parents=True, exist_ok=True)
                (environment.work / file).write_text(body)
            elif language == "python":
                (environment.work / "script.py").write_text(body)
                code, output = environment.run("python script.py")
                assert code == 0, output
            elif language == "console":
                for command, expected in _COMMAND.findall(body):
                    code, output = environment.run(command)
                    assert (code != 0) == bool(re.search("[Ee]rror: ", expected)), f"$ {command} -> {code}\n{output}"
                    pattern = ".*".join(re.escape(part) for part in expected.strip().split("…"))
                    assert re.fullmatch(pattern, output.strip(), re.DOTALL), f"$ {command}\n{output}"

    return execute
