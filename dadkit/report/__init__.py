"""One self-contained HTML file about a run, made from the files in its folder."""

from dadkit.report.run import write_report

__all__ = ["write_report"]
