"""How commands name a model: a run, a file, or a registered name with options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["split_model"]


def split_model(text: str) -> tuple[str, dict[str, Any]]:
    """``"dav2/small:weights=a.pth,max_depth=20"`` -> ``("dav2/small", {"weights": "a.pth", "max_depth": 20})``.

    What exists as a file or folder is a path, whatever characters it holds. A comma separates options where ``key=`` follows.
    """
    import re

    from dadkit.config.overrides import parse_assignments

    name, colon, rest = text.partition(":")
    if not colon or "=" not in rest or Path(text).expanduser().exists():
        return text, {}
    return name, parse_assignments(re.split(r",(?=\s*[\w.]+=)", rest))
