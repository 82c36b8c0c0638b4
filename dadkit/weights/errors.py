"""The error of everything about weight files."""

from __future__ import annotations

from dadkit.errors import DadkitError

__all__ = ["WeightsError"]


class WeightsError(DadkitError):
    """A weight file cannot be had or read, or is not a file of this model."""

    exit_code = 2
