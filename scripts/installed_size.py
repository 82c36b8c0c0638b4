"""Prints how many packages a requirement brings, and how large they are where they are installed: what `pip install` costs.

    python scripts/installed_size.py dadkit
    python scripts/installed_size.py dadkit --without tensorboard matplotlib
    python scripts/installed_size.py torch

Every package must be installed here; a package counts with everything that it requires. docs/stability.md quotes the answers.
"""

from __future__ import annotations

import argparse
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(names: list[str], without: frozenset[str]) -> dict[str, int]:
    """Returns package -> bytes, of ``names`` and everything that they require except through ``without``."""
    found: dict[str, int] = {}
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found or name in without:
            continue
        distribution = metadata.distribution(name)
        paths = [distribution.locate_file(file) for file in distribution.files or []]
        found[name] = sum(path.stat().st_size for path in paths if path.is_file())  # type: ignore[attr-defined]
        for text in distribution.requires or []:
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(need.name))
    return found


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="+")
    parser.add_argument("--without", nargs="*", default=[])
    given = parser.parse_args()
    sizes = closure(given.names, frozenset(canonicalize_name(name) for name in given.without))
    torch = closure(["torch"], frozenset())
    beside = {name: size for name, size in sizes.items() if name not in torch}
    print(
        f"{len(sizes)} packages, {sum(sizes.values()) / 1e6:,.0f} MB; "
        f"of these {len(beside)} packages, {sum(beside.values()) / 1e6:,.0f} MB beside torch and what it requires"
    )


if __name__ == "__main__":
    main()
