"""The papers' comparisons in small: with teachers that are trained here on rendered scenes, or with real ones on photographs.

    python benchmarks/reproduce/reproduce.py                        # all tables on rendered scenes, three seeds
    python benchmarks/reproduce/reproduce.py --tables 1 2/both --seeds 5
    python benchmarks/reproduce/reproduce.py --tables --page docs/reproduction.md    # train nothing, write what is there
    python benchmarks/reproduce/reproduce.py --setting real --until-decided 10 \\
        --given rgbd=PAIRS photographs=PHOTOS streets=STREETS tcmono.pt.tar=FILE    # real/setting.yaml says what these are

Everything is under one work folder; what is finished is not done again, so a stopped program is simply started again, and
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
from rows import FIRST_LOOK, sources, train_rows, undecided
from sets import GIVEN
from table import NAMES, ROOT, SETTINGS, Row, load_setting, load_table

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

    get_registry().use_file(ROOT / "local_models.py")
    output, page = options.output.resolve(), options.page.resolve()
    (options.work / GIVEN).mkdir(parents=True, exist_ok=True)
    for name, path in options.given.items():
        (options.work / GIVEN / name).unlink(missing_ok=True)
        (options.work / GIVEN / name).symlink_to(path.resolve())
    try:
        setting = load_setting(options.setting)
        tables = [load_table(name, setting) for name in dict.fromkeys(one.partition("/")[0] for one in options.tables)]
        rows = sources(tables, lambda row: row.table in options.tables or f"{row.table}/{row.name}" in options.tables)

        def needed(row: Row) -> bool:
            return options.until_decided is None or row.same_as in undecided(tables)

        with chdir(options.work):
            seeds = range(options.until_decided or options.seeds)
            complete = train_rows(rows, seeds, options.set, say, needed=needed, out_of_time=out_of_time)
            if not complete:
                say("time is up; the same command goes on")
            found = collect(setting, NAMES)
    except DadkitError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return error.exit_code
    if not found["tables"]:
        say("no two rows of an ordering have two seeds, so nothing is written")
        return 0 if complete else 3
    write_text(output, json.dumps(found, indent=1) + "\n")
    write_page(page, found, setting)
    say(f"written: {output}, {page}")
    return 0 if complete else 3


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", default=SETTINGS[0], choices=SETTINGS, help=f"default {SETTINGS[0]}")
    parser.add_argument("--given", nargs="*", default=[], metavar="NAME=PATH", help="what the setting needs and dadkit has not")
    parser.add_argument(
        "--tables", nargs="*", default=NAMES, metavar="TABLE", help=f"{' '.join(NAMES)}, or rows of them: 2/both"
    )
    parser.add_argument("--seeds", type=int, default=3, help="students of each row (default 3)")
    parser.add_argument(
        "--until-decided",
        type=int,
        metavar="SEEDS",
        help=f"instead: {FIRST_LOOK} seeds, then more for rows of undecided orderings, up to so many",
    )
    parser.add_argument("--minutes", type=float, help="begin no run after so many minutes (exit status 3)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides for all runs, device=cuda for one")
    parser.add_argument("--work", type=Path, help="default runs/reproduce, runs/reproduce_real")
    parser.add_argument("--output", type=Path, help="default benchmarks/results/reproduce.json, reproduce_real.json")
    parser.add_argument("--page", type=Path, help="default docs/reproduction.md, reproduction_real.md")
    options = parser.parse_args()
    if options.seeds < 1 or (options.until_decided is not None and options.until_decided < FIRST_LOOK):
        parser.error(f"--seeds must be at least 1, --until-decided at least {FIRST_LOOK}")
    setting = load_setting(options.setting)
    known = {name for table in NAMES for name in (table, *(f"{table}/{row}" for row in load_table(table, setting).rows))}
    if unknown := set(options.tables) - known:
        parser.error(f"no table or row {', '.join(sorted(unknown))}; tables are {', '.join(NAMES)}, rows TABLE/ROW")
    if unknown := [one for one in options.given if "=" not in one]:
        parser.error(f"--given takes NAME=PATH, not {' '.join(unknown)}")
    options.given = {name: Path(path) for name, _, path in (one.partition("=") for one in options.given)}
    end = "" if options.setting == SETTINGS[0] else f"_{options.setting}"
    options.work = options.work or Path(f"runs/reproduce{end}")
    options.output = options.output or Path(f"benchmarks/results/reproduce{end}.json")
    options.page = options.page or Path(f"docs/reproduction{end}.md")
    return options


if __name__ == "__main__":
    sys.exit(main())
