"""The losses need torch alone: what importing them loads, and the example project with everything else out of reach."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "losses_alone"
IMPORTED_AS = {"pillow": "PIL", "pyyaml": "yaml"}


def others() -> list[str]:
    """Modules of everything that dadkit requires, and of what plugins and tests bring along.

    torch stays, and packaging, which torch's own compiler imports (through setuptools).
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.match(r"[\w-]+", text)[0] for text in project["dependencies"]]
    found = [IMPORTED_AS.get(name, name) for name in names if name not in {"torch", "packaging"}]
    assert {"timm", "pydantic", "pluggy", "numpy"} <= set(found)
    return [*found, "torchvision", "transformers", "diffusers", "pytest", "hypothesis"]


def run(code: str) -> subprocess.CompletedProcess[str]:
    """A new process in which importing anything of :func:`others` fails."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({others()!r}))\n"  # None in sys.modules: importing it fails
    return subprocess.run([sys.executable, "-c", blocked + code], capture_output=True, text=True, check=False)


def test_importing_them_loads_torch_and_the_operators_alone():
    done = run(
        "import torch; before = set(sys.modules)\n"
        "import dadkit.losses\n"
        "loaded = {name for name in set(sys.modules) - before if not name.startswith('torch')}\n"
        "foreign = {name for name in loaded if name.partition('.')[0] not in sys.stdlib_module_names and name != 'dadkit'}\n"
        "rooms = {'.'.join(name.split('.')[:2]) for name in foreign}\n"
        "assert rooms <= {'dadkit.losses', 'dadkit.ops', 'dadkit._lazy'}, rooms\n"
        "assert 'dadkit.losses' in rooms\n"
    )
    assert done.returncode == 0, done.stderr


def train(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = str(EXAMPLE / "train.py")
    return run(f"import runpy\nsys.argv[1:] = {list(arguments)!r}\nrunpy.run_path({script!r}, run_name='__main__')\n")


def test_the_example_imports_torch_and_the_losses_alone():
    source = (EXAMPLE / "train.py").read_text()
    imported = set(re.findall(r"^(?:from|import) ([\w.]+)", source, re.MULTILINE))
    assert imported == {"__future__", "argparse", "torch", "torch.nn", "dadkit.losses"}
    assert [line.split(">")[0] for line in (EXAMPLE / "requirements.txt").read_text().split()] == ["torch"]


def test_the_example_learns():
    done = train("--steps", "40", "--batch", "4", "--compiler", "aot_eager")
    assert done.returncode == 0, done.stderr
    first, last = map(float, re.findall(r"\d+\.\d+", done.stdout))
    assert last < 0.7 * first


@pytest.mark.slow
def test_the_example_is_compiled():
    done = train("--steps", "3", "--batch", "2")
    assert done.returncode == 0, done.stderr
    assert "at last" in done.stdout


def test_the_readmes_calls_run():
    (code,) = re.findall(r"```python\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
    done = run(code)
    assert done.returncode == 0, done.stderr
