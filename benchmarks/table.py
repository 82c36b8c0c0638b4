"""The table of docs/kernels.md, from a report of losses.py.

python benchmarks/table.py benchmarks/results/losses.json      # writes it
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["markdown", "write_docs"]

PAGE = Path(__file__).parents[1] / "docs" / "kernels.md"
BEGIN, END = "<!-- measured: written by benchmarks/table.py -->", "<!-- end of measured -->"


def markdown(report: dict[str, Any]) -> str:
    """What was measured where, and one line per case."""
    loads = [row["load"] for row in report["rows"]]
    isa = report["build"].get("instruction sets", "?").rpartition("in use: ")[2].rstrip(")")
    where = (
        f"{report['device']}, {report['threads']} threads, torch {report['torch']}, {isa}; "
        f"load {min(loads):.1f} to {max(loads):.1f}. "
        "Forward and backward together; medians in milliseconds, ratios are medians of the rounds' ratios."
    )
    header = [
        "case", "B", "caches", "fused", "loop", "nanmedian", "sort", "of the best eager", "forward / backward", "AVX2", "plain",
        "of torch.compile", "peak MiB",
    ]  # fmt: skip
    lines = [where, "", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in report["rows"]:
        times = {name: f"{parts['both']:.1f}" for name, parts in row["median_ms"].items()}
        eager = times.get("loop", times.get("eager", "–"))
        compiled = next(iter(row["ratio_compiled"].values()), None)
        cells = [
            row["case"],
            str(row["batch"]),
            "cold" if row["cold"] else "hot",
            times["fused"],
            eager,
            times.get("nanmedian", "–"),
            times.get("sort", "–"),
            f"**{row['ratio']['both']:.1f}x**",
            f"{row['ratio']['forward']:.0f}x / {row['ratio']['backward']:.0f}x",
            _times(row["ratio_isa"].get("avx2")),
            _times(row["ratio_isa"].get("plain")),
            _times(compiled),
            f"{row['peak_mib']:.1f}" if "peak_mib" in row else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}x"


def write_docs(report: dict[str, Any]) -> None:
    """Replace the table between its two marks."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{markdown(report)}\n{END}{after}")


if __name__ == "__main__":
    write_docs(json.loads(Path(sys.argv[1]).read_text()))
