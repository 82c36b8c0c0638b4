"""How long `dadkit plugins` takes with many installed plugins: a fresh process each time, as a user starts it.

    python benchmarks/plugins.py --plugins 100 --rounds 9

The plugins are fake distributions on PYTHONPATH: metadata and an entry module that raises, so that an import would be noticed.
`python -c pass`, `import typer, rich` and `dadkit --version` are measured in turn with it, since a busy machine slows all.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dadkit.testing import PluginFarm

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import typer, rich": ["-c", "import typer, rich.console"],
    "dadkit --version": ["-m", "dadkit", "--version"],
    "dadkit plugins": ["-m", "dadkit", "plugins"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plugins", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        farm = PluginFarm(Path(folder))
        for index in range(arguments.plugins):
            farm.add(f"fake-{index:03d}", "raise AssertionError('imported')", requires=["dadkit>=0.1,<0.2", "torch>=2"])
        environment = {**os.environ, "PYTHONPATH": str(farm.folder / "site"), "COLUMNS": "200"}
        times: dict[str, list[float]] = {name: [] for name in COMMANDS}
        for _ in range(arguments.rounds + 1):  # the first fills the caches of bytecode and files
            for name, command in COMMANDS.items():
                begun = time.perf_counter()
                done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=True)
                times[name].append(time.perf_counter() - begun)
        assert done.stdout.count("fake-") >= arguments.plugins
    report = {
        name: {
            "median_s": round(statistics.median(kept := values[1:]), 3),
            "min_s": round(min(kept), 3),
            "max_s": round(max(kept), 3),
        }
        for name, values in times.items()
    }
    text = json.dumps(
        {"plugins": arguments.plugins, "rounds": arguments.rounds, "load": os.getloadavg()[0], "times": report}, indent=2
    )
    if arguments.output:
        arguments.output.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
