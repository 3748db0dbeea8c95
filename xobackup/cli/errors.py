"""What only the command line can find wrong: names that match nothing, or too much."""

from __future__ import annotations

from xobackup.cli.exits import Exit


class NotThere(Exception):
    """What was named does not exist, or is not unique."""

    exit_code = Exit.USAGE

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.hint = hint
        super().__init__(message)


class NoSuchVm(NotThere):
    """A repository has no such VM."""


class Outcome(Exception):
    """A command did its work and must end with ``exit_code``; everything was said already except ``message``."""

    def __init__(self, exit_code: Exit, message: str, *, hint: str | None = None) -> None:
        self.exit_code = exit_code
        self.hint = hint
        super().__init__(message)
