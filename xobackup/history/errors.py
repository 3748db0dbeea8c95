"""What can be wrong with the database. None of it concerns a backup."""

from __future__ import annotations


class HistoryError(Exception):
    """Root. ``hint`` tells what can be done."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.hint = hint
        super().__init__(message)


class HistoryUnavailable(HistoryError):
    """It does not answer, is locked, full, read-only, or refuses the login."""


class HistoryDamaged(HistoryError):
    """The file is not a database, or not whole."""


class HistoryTooNew(HistoryError):
    """A newer xobackup has changed its tables."""
