"""The error of everything about weight files."""

from __future__ import annotations

from dadkit.errors import DadkitError

__all__ = ["WeightsError", "first_line"]


class WeightsError(DadkitError):
    """A weight file cannot be had or read, or is not a file of this model."""

    exit_code = 2


def first_line(error: BaseException) -> str:
    """What another library's error begins with: the rest is advice for another program."""
    return (str(error).splitlines() or [""])[0]
