"""Files for other runtimes, checked against the model before they get their name."""

from dadkit.export.check import Agreement, Row
from dadkit.export.writing import LIMIT, Exported, ExportError, export_model

__all__ = ["LIMIT", "Agreement", "ExportError", "Exported", "Row", "export_model"]
