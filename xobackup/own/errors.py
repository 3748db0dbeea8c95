"""What can be wrong with a backup of our own.

OwnError           root
├── NothingThere   there is no such backup
├── Damaged        it is not what was written
└── InTheWay       a file is where one should go
"""

from __future__ import annotations


class OwnError(Exception):
    """Root. ``hint`` tells what can be done."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.hint = hint
        super().__init__(message)


class NothingThere(OwnError):
    """There is no such backup."""


class Damaged(OwnError):
    """It is not what was written, or cannot be understood."""


class InTheWay(OwnError):
    """A file is where one should go."""
