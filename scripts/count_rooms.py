"""Counts files, lines and single importers: files of ours that exactly one other file of ours imports.

    python scripts/count_rooms.py            # a row a room
    python scripts/count_rooms.py --single   # the single importers by name, each with its importer

A file with one importer is a room that only its neighbour enters. Often the two are one idea; sometimes a reader looks for the
file by its name, and then it stays. ``tests/test_architecture.py`` holds the sum under a ceiling.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]


def source_files(root: Path = ROOT) -> dict[str, Path]:
    """Returns module name -> file, for dadkit and its built-in plugins."""
    found: dict[str, Path] = {}
    for base in [root, *sorted(root.glob("plugins/*/"))]:
        for file in sorted(base.glob("dadkit*/**/*.py")):
            parts = file.relative_to(base).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def importers(files: dict[str, Path]) -> dict[str, set[str]]:
    """Returns module -> the modules that import it, in functions and for types too."""
    found: dict[str, set[str]] = {module: set() for module in files}
    for module, file in files.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in set(names) & found.keys() - {module}:
                found[name].add(module)
    return found


def single_importers(files: dict[str, Path]) -> dict[str, str]:
    """Returns module -> its only importer. A package's ``__init__`` does not count: importing anything below imports it."""
    return {
        module: next(iter(found))
        for module, found in importers(files).items()
        if len(found) == 1 and files[module].name != "__init__.py"
    }


def main() -> None:
    """Print the counts."""
    files = source_files()
    single = single_importers(files)
    if "--single" in sys.argv[1:]:
        for module, importer in single.items():
            print(f"{module}  <-  {importer}")
        return

    def room(module: str) -> str:
        return ".".join(module.split(".")[:2]) if module.startswith("dadkit.") else module.split(".")[0]

    lines: Counter[str] = Counter()
    count = Counter(room(module) for module in files)
    alone = Counter(room(module) for module in single)
    for module, file in files.items():
        lines[room(module)] += len(file.read_text(encoding="utf-8").splitlines())
    print(f"{'room':<24}{'files':>7}{'lines':>8}{'single':>8}")
    for name in sorted(count, key=lambda name: (name.startswith("dadkit_"), -lines[name])):
        print(f"{name:<24}{count[name]:>7}{lines[name]:>8}{alone[name]:>8}")
    print(f"{'all':<24}{sum(count.values()):>7}{sum(lines.values()):>8}{len(single):>8}")


if __name__ == "__main__":
    main()
