"""How tasks come from the board to workers. Two ways satisfy one contract (tests/workers/test_contract.py).

A dispatch MUST

1. bring every task that was sent to one worker that serves its queue, at least once, as long as there is one;
2. not bring two tasks of one key at the same time (the board refuses the second one anyway: :meth:`Board.take`);
3. let ``serve`` return once ``stopping`` says so and everything begun has ended; begin nothing after that;
4. survive its database: while that is away nothing is brought, afterwards everything is, as many at a time as
   there are slots; what was begun goes on all the while.

``send`` and ``free`` happen in the board's own transaction, so that a task is never on the board and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import sqlalchemy as sa

    from xobackup.workers.records import Delivery, Task

Do = Callable[["Delivery"], None]
"""Does a task to its end. Must not raise for what happens to the task."""


class Dispatch(Protocol):
    """See the module's head."""

    def send(self, connection: sa.Connection, tasks: Sequence[Task]) -> None:
        """Let workers have them."""
        ...

    def free(self, connection: sa.Connection, tasks: Sequence[str]) -> None:
        """What was sent of these (by id) shall not be begun, nor keep their keys."""
        ...

    def missing(self, connection: sa.Connection, tasks: Sequence[str]) -> list[str]:
        """Which of these, that wait on the board, nobody would be brought any more: a worker dropped them, or took
        them and could not say so."""
        ...

    def serve(self, worker: str, queues: Sequence[str], slots: int, do: Do, stopping: Callable[[], bool]) -> None:
        """Do what comes, ``slots`` at a time, until ``stopping``."""
        ...

    def close(self) -> None: ...
