"""What the modules around the functionals have in common."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["Configured"]


class Configured(nn.Module):
    """Keeps a functional's keywords, and shows them."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def extra_repr(self) -> str:
        """Returns the keywords, for ``repr``."""
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())
