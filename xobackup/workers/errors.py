"""What goes wrong with workers.

WorkersError
├── BoardUnavailable   the database cannot be reached or does not let us in
├── BoardTooNew        its tables are of a newer version
└── TaskLost           the task was given to another worker
"""

from __future__ import annotations


class WorkersError(Exception):
    """Root. ``hint``: what to do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.hint = hint
        super().__init__(message)


class BoardUnavailable(WorkersError):
    """The database did not do what it was asked."""

    def __init__(self, shown: str, problem: str) -> None:
        self.shown = shown
        super().__init__(f"engine database {shown}: {problem}", hint="is the server up, and [engine] right?")


class BoardTooNew(WorkersError):
    """Somebody with a newer version made the tables."""

    def __init__(self, shown: str, found: int, known: int) -> None:
        told = f"engine database {shown}: expected tables of version {known} or older, found version {found}"
        super().__init__(told, hint="install the version that the control node has")


class TaskLost(WorkersError):
    """We were away for too long."""

    def __init__(self, task: str) -> None:
        self.task = task
        super().__init__(f"task {task} was given to another worker: this one was not heard of for too long")
