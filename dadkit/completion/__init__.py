"""Built-in completers."""

from __future__ import annotations

from dadkit.completion.align import Align

__all__ = ["Align"]
