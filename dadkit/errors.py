"""Errors that are the user's to mend. The command line prints their message, without a traceback, and exits with their code."""

from __future__ import annotations

__all__ = ["DadkitError", "DataError"]


class DadkitError(Exception):
    """Something outside the program is wrong: a file, a key, a plugin. The message says what, where and what to do."""

    exit_code: int = 1


class DataError(DadkitError):
    """The data as a whole cannot be used: an empty folder, a missing dataset, too many unreadable files."""

    exit_code = 3
