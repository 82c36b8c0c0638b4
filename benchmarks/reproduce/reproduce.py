"""The papers' comparisons in small, on rendered scenes, with teachers that are trained here.

    python benchmarks/reproduce/reproduce.py                        # all tables, three seeds
    python benchmarks/reproduce/reproduce.py --tables 1 2 --seeds 5
    python benchmarks/reproduce/reproduce.py --tables --page docs/reproduction.md    # train nothing, write what is there

Everything lies under one work folder; what is finished is not done again, so a stopped program is simply started again, and
more seeds add to what is there. The page and the JSON hold the rows that have at least two seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import chdir
from pathlib import Path

from page import write_page
from results import collect
from rich.console import Console
from rows import train_table
from table import NAMES, ROOT, load_table

from dadkit.errors import DadkitError
from dadkit.files import write_text
from dadkit.plugin import get_registry


def main() -> int:
    options = _options()
    console = Console(highlight=False, soft_wrap=True)
    begun = time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - begun:6.0f} s  {text}")

    def out_of_time() -> bool:
        return options.minutes is not None and time.monotonic() - begun > 60 * options.minutes

    get_registry().use_file(ROOT / "bounded.py")
    output, page = options.output.resolve(), options.page.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    complete = True
    try:
        with chdir(options.work):
            for name in options.tables:
                if not train_table(load_table(name), range(options.seeds), options.set, say, out_of_time=out_of_time):
                    say(f"table {name}: time is up; the same command goes on")
                    complete = False
                    break
            found = collect(NAMES)
    except DadkitError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return error.exit_code
    if not found["tables"]:
        say("no two rows of an ordering have two seeds, so nothing is written")
        return 0 if complete else 3
    write_text(output, json.dumps(found, indent=1) + "\n")
    write_page(page, found)
    say(f"written: {output}, {page}")
    return 0 if complete else 3


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="*", default=list(NAMES), choices=NAMES, metavar="TABLE", help=" ".join(NAMES))
    parser.add_argument("--seeds", type=int, default=3, help="students of each row (default 3)")
    parser.add_argument("--minutes", type=float, help="begin no run after so many minutes (exit status 3)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides for all runs, device=cuda for one")
    parser.add_argument("--work", type=Path, default=Path("runs/reproduce"))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/reproduce.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/reproduction.md"))
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error("--seeds must be at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
