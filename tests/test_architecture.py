"""The house rules about imports: arrows between rooms point one way, and what must be light is light.

``ROOMS`` is the drawing, ordered from the ground up; the first test checks the drawing, the second the code. Imports for types
only (under ``TYPE_CHECKING``) are free; imports inside functions count like all others.
"""

from __future__ import annotations

import ast
import json
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

GROUND = {"_lazy", "_version", "errors", "spaces", "kinds", "files", "results"}
"""Small rooms without dependencies, which every other may use (except those that must be usable with only torch installed)."""

ROOMS: dict[str, set[str]] = {
    "_lazy": set(),
    "_version": set(),
    "errors": set(),
    "spaces": {"errors"},
    "kinds": set(),
    "files": {"errors"},
    "results": {"errors"},
    "threads": set(),
    "options": set(),
    "ops": set(),
    "losses": {"ops"},
    "interfaces": {"spaces", "errors", "ops"},
    "weights": GROUND,
    "alignment": GROUND,
    "pictures": GROUND,
    "normalizers": GROUND | {"ops", "losses", "interfaces"},
    "contexts": GROUND | {"ops", "losses", "interfaces"},
    "plugin": GROUND,
    "config": GROUND | {"plugin"},
    "data": GROUND | {"interfaces"},
    "loading": GROUND | {"interfaces", "weights", "plugin", "config"},
    "completion": GROUND | {"alignment", "interfaces", "weights", "loading"},
    "conversion": GROUND | {"interfaces", "loading"},
    "prediction": GROUND | {"alignment", "interfaces", "data", "pictures", "loading"},
    "labelling": GROUND | {"threads", "alignment", "interfaces", "data", "pictures", "plugin", "weights", "loading"},
    "evaluation": GROUND | {"alignment", "interfaces", "data", "pictures", "plugin", "config", "loading"},
    "export": GROUND | {"interfaces", "data", "plugin", "config", "loading", "evaluation"},
    "report": GROUND | {"alignment", "interfaces", "losses", "data", "pictures", "config", "evaluation"},
    "publishing": GROUND | {"interfaces", "plugin", "loading", "conversion", "export"},
    "calibration": GROUND | {"alignment", "interfaces", "data", "loading", "prediction", "evaluation"},
}
_BELOW_TRAINING = set(ROOMS)
ROOMS["training"] = _BELOW_TRAINING
ROOMS["testing"] = GROUND | {
    "ops",
    "losses",
    "interfaces",
    "normalizers",
    "contexts",
    "plugin",
    "config",
    "data",
    "loading",
    "training",
}
ROOMS["cli"] = set(ROOMS)
ROOMS["__main__"] = {"cli"}

EXCEPTIONS = {
    # (file, room): why. Only inside functions.
    ("dadkit/interfaces/model.py", "data"): "predict() takes paths and pictures; the decoder is imported when it is called",
    ("dadkit/ops/selfcheck.py", "files"): "the verdict is written by the program that checks a GPU, never by a loss",
}

THIRD_PARTY: dict[str, set[str]] = {
    **{key: set() for key in ("_lazy", "_version", "errors", "spaces", "kinds", "files", "results", "threads")},
    **{key: {"torch"} for key in ("ops", "losses", "alignment", "interfaces", "normalizers", "contexts")},
    "options": {"pydantic"},
    "plugin": {"pluggy", "packaging"},
}
"""Rooms that may import only these packages besides the standard library."""

MOST_SINGLE_IMPORTERS = 87
"""How many files may have exactly one importer. Lower it whenever ``python scripts/count_rooms.py`` prints less."""

PUBLIC_TO_PLUGINS = set(json.loads((ROOT / "tests" / "api_surface.json").read_text()))
"""The one list of public modules; see ``test_api_surface.py``."""

PLUGIN_PACKAGES = sorted(path.parent for path in ROOT.glob("plugins/*/dadkit_*/__init__.py"))


PAGE = ROOT / "docs" / "architecture.md"


def may_import(room: str) -> str:
    """The last column of the page's table: what ``ROOMS`` lets a room import."""
    allowed, above = ROOMS[room], [name for name in ROOMS if list(ROOMS).index(name) < list(ROOMS).index(room)]
    others = [name for name in above if name in allowed - GROUND]
    missing = [name for name in above if name not in allowed | GROUND]
    if allowed >= GROUND and len(missing) < len(others) and len(missing) < 5:
        return "all above" + (f" but {', '.join(missing)}" if missing else "")
    ground = ["the ground"] if allowed >= GROUND else [name for name in above if name in allowed & GROUND]
    return ", ".join([*ground, *others, *sorted(THIRD_PARTY.get(room, ()))]) or "–"


def room_table(page: str) -> str:
    """The page with the last column of its table of rooms written anew from ``ROOMS``."""
    lines = page.splitlines(keepends=True)
    for number, line in enumerate(lines):
        names = re.findall(r"`(?:dadkit/)?(\w+)(?:\.py|/)`", line.partition(" | ")[0])
        if line.startswith("| `") and names and names[0] in ROOMS:
            room, what, _ = line[2:].split(" | ", 2)
            lines[number] = f"| {room} | {what} | {may_import(names[0])} |\n"
    return "".join(lines)


def imports(path: Path) -> Iterator[tuple[str, list[str], bool]]:
    """(module, imported names, at top level) of every import statement that runs."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for child in ast.walk(statement)
    }
    in_functions = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, [], id(node) not in in_functions
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the whole name"
            assert node.module
            names = [alias.name for alias in node.names]
            if node.module == "dadkit":  # `from dadkit import ops` names a room, `from dadkit import hookimpl` does not
                for name in names:
                    yield (f"dadkit.{name}" if name in ROOMS else "dadkit"), [name], id(node) not in in_functions
            else:
                yield node.module, names, id(node) not in in_functions


def modules(room: str) -> list[Path]:
    folder, file = ROOT / "dadkit" / room, ROOT / "dadkit" / f"{room}.py"
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [file]


def test_the_drawing_is_complete_and_has_no_arrow_upwards():
    drawn = [*ROOMS, "__init__"]
    built = {path.stem if path.suffix == ".py" else path.name for path in (ROOT / "dadkit").iterdir() if path.name[:2] != "__"}
    built = {name for name in built if (ROOT / "dadkit" / name).is_dir() or (ROOT / "dadkit" / f"{name}.py").exists()}
    assert built <= set(drawn), "a new room: give it a place in ROOMS and in the architecture page"
    for index, (room, below) in enumerate(ROOMS.items()):
        assert below <= set(list(ROOMS)[:index]), room


def test_the_page_has_a_row_for_every_room_and_says_what_it_may_import():
    page = PAGE.read_text()
    rows = [line.partition(" | ")[0] for line in page.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(?:dadkit/)?(\w+)(?:\.py|/)`", row)}
    assert named >= {room for room in ROOMS if not room.startswith("_")}
    assert room_table(page) == page, "run: python tests/test_architecture.py"


@pytest.mark.parametrize("room", list(ROOMS))
def test_arrows_between_rooms(room):
    wrong = []
    for path in modules(room):
        name = path.relative_to(ROOT).as_posix()
        for module, _, at_top in imports(path):
            top, _, rest = module.partition(".")
            other = rest.partition(".")[0]
            if top != "dadkit" or not rest or other == room or other in ROOMS[room]:
                continue
            if at_top or (name, other) not in EXCEPTIONS:
                wrong.append(f"{name} imports {module}")
    assert not wrong


@pytest.mark.parametrize("room", list(ROOMS))
def test_the_core_knows_no_plugin(room):
    wrong = [
        f"{path} imports {module}" for path in modules(room) for module, _, _ in imports(path) if module.startswith("dadkit_")
    ]
    assert not wrong


@pytest.mark.parametrize("room", list(THIRD_PARTY))
def test_what_the_light_rooms_need(room):
    allowed = set(sys.stdlib_module_names) | {"dadkit"} | THIRD_PARTY[room]
    wrong = [f"{path} imports {m}" for path in modules(room) for m, _, _ in imports(path) if m.partition(".")[0] not in allowed]
    assert not wrong


def test_every_exception_is_still_needed():
    for file, room in EXCEPTIONS:
        assert any(module.startswith(f"dadkit.{room}") for module, _, _ in imports(ROOT / file)), (file, room)


@pytest.mark.parametrize("package", PLUGIN_PACKAGES, ids=lambda package: package.name)
def test_builtin_plugins_go_through_no_private_door(package):
    """A plugin uses dadkit's public names, and another plugin's only if its own wheel declares that it needs it."""
    own = tomllib.loads((package.parent / "pyproject.toml").read_text())
    declared = {re.split(r"[^\w-]", need)[0].replace("-", "_") for need in own["project"]["dependencies"]}
    wrong = []
    for path in sorted(package.rglob("*.py")):
        for module, names, _ in imports(path):
            top = module.partition(".")[0]
            if top == "dadkit" and (module not in PUBLIC_TO_PLUGINS or any(name.startswith("_") for name in names)):
                wrong.append(f"{path.relative_to(ROOT)} imports {', '.join(names)} from {module}")
            if top.startswith("dadkit_") and top != package.name:
                private = any(name.startswith("_") for name in [*module.split("."), *names])
                if top not in declared or private:
                    wrong.append(f"{path.relative_to(ROOT)} imports {module}, of another plugin that it does not declare")
    assert not wrong


@pytest.mark.parametrize("package", PLUGIN_PACKAGES, ids=lambda package: package.name)
def test_builtin_plugins_are_claimed_by_the_root_and_by_their_own_wheel(package):
    root = tomllib.loads((ROOT / "pyproject.toml").read_text())
    own = tomllib.loads((package.parent / "pyproject.toml").read_text())
    claims = own["project"]["entry-points"]["dadkit"]
    assert package.name in claims.values()
    assert claims.items() <= root["project"]["entry-points"]["dadkit"].items()
    assert package.parent.relative_to(ROOT).as_posix() in root["tool"]["setuptools"]["packages"]["find"]["where"]


def test_files_that_only_one_other_imports_become_fewer():
    counts = runpy.run_path(str(ROOT / "scripts" / "count_rooms.py"))
    single = counts["single_importers"](counts["source_files"]())
    assert len(single) <= MOST_SINGLE_IMPORTERS, (
        f"{len(single)} files have one importer: is a new one an idea that a reader would look up, or a part of its importer? "
        "`python scripts/count_rooms.py --single` lists them"
    )


@pytest.mark.parametrize("module", ["dadkit", "dadkit.plugin", "dadkit.spaces", *(package.name for package in PLUGIN_PACKAGES)])
def test_light_modules_import_no_torch(module):
    heavy = "{'torch', 'numpy', 'pydantic', 'timm', 'torchvision', 'PIL', 'yaml', 'rich', 'typer'}"
    code = (
        f"import sys, {module}; found = {heavy} & {{name.partition('.')[0] for name in sys.modules}}; assert not found, found"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_losses_need_torch_alone():
    code = """
    import sys, dadkit.losses
    ours = {name for name in sys.modules if name.partition('.')[0] == 'dadkit'}
    rooms = {name.split('.')[1] for name in ours if '.' in name}
    assert rooms <= {'_lazy', 'losses', 'ops'}, rooms
    assert not {'pydantic', 'pluggy', 'timm', 'yaml', 'typer'} & set(sys.modules)
    """
    result = subprocess.run([sys.executable, "-c", code.replace("\n    ", "\n")], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").rglob("*.py")), ids=lambda path: path.stem)
def test_benchmarks_use_the_public_way_into_training(path):
    """Whoever changes or measures training does it through hooks, and so do we."""
    used = {module for module, *_ in imports(path) if module.startswith(("dadkit.training", "dadkit.config"))}
    assert used <= PUBLIC_TO_PLUGINS
    assert not re.findall(r"\b(?:trainer|stage|stream|data)\._\w+", path.read_text())


if __name__ == "__main__":
    PAGE.write_text(room_table(PAGE.read_text()))
