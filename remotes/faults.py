"""What shall go wrong with a remote, planned; see :mod:`remotes.faulty` for the remote it happens to.

Promises: a planned fault fires or :meth:`Faults.assert_all_fired` says which did not; once the power is cut every
later operation fails too, in ``finally`` blocks and other threads alike. Two counters run from 1: ``operations``
counts everything, ``changes`` only what can change the storage (:data:`CHANGES`); a cut is planned by the latter.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TypeVar

from remotes import errors

T = TypeVar("T")

CHANGES = frozenset(
    {
        *("put", "create", "rename", "delete", "make_directory", "remove_directory", "delete_tree"),
        *("write_at", "truncate", "copy_range", "sync"),
        *("copy", "delete_many", "upload", "upload_write", "upload_finish", "upload_abort", "discard_uploads"),
    }
)
"""``touch`` is not among them: it changes only a time, and locks call it from other threads whenever they like."""
TEARABLE = frozenset({"put", "rename", "make_directory", "delete_tree", "write_at", "copy_range"})
"""Operations that can be found half done after a power cut (for ``put``: a left temporary file)."""
_LOG_LENGTH = 40


class PowerCut(BaseException):
    """The machine lost power. Not an ``Exception``, so that no ordinary handler goes on living."""


def unavailable(remote: str, name: str) -> errors.RemoteError:
    """A failure that may be gone next time."""
    return errors.Unavailable(remote, name, "planned fault", transient=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """``error`` for the operations that match; ``operation`` and ``name`` are shell patterns."""

    error: Callable[[str, str], BaseException] = unavailable
    """Called with the remote's URL and the name: ``errors.NoSpace``, ``errors.ReadOnly``, ..."""
    at: int | None = None
    """Only this operation, counted from 1 over all (with ``at_change``: over the changes)."""
    at_change: int | None = None
    operation: str = "*"
    name: str = "*"
    skip: int = 0
    """Let that many matching operations pass first."""
    times: int | None = 1
    """How often it fires; None: always from then on (and at least once)."""
    after: bool = False
    """The operation takes effect, and then its caller hears that it failed."""


class Moment(StrEnum):
    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Lose power at the change number ``at``: before it, in its middle (:data:`TEARABLE`), or right after it."""

    at: int
    moment: Moment = Moment.BEFORE


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call that reached the remote."""

    number: int
    change: int | None
    kind: str
    name: str

    def __str__(self) -> str:
        change = f" (change {self.change})" if self.change else ""
        return f"{self.number}{change}: {self.kind} {self.name}"


class _Planned:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.seen = 0
        self.fired = 0

    def fires(self, operation: Operation) -> bool:
        fault = self.fault
        if fault.at is not None and fault.at != operation.number:
            return False
        if fault.at_change is not None and fault.at_change != operation.change:
            return False
        if not (fnmatchcase(operation.kind, fault.operation) and fnmatchcase(operation.name, fault.name)):
            return False
        self.seen += 1
        if self.seen <= fault.skip or (fault.times is not None and self.fired >= fault.times):
            return False
        self.fired += 1
        return True

    @property
    def satisfied(self) -> bool:
        return self.fired >= (1 if self.fault.times is None else self.fault.times)


class Faults:
    """A plan and what became of it; may be shared by several remotes and threads."""

    def __init__(self, *faults: Fault, cut: Cut | None = None, rng: random.Random | None = None) -> None:
        self._planned = [_Planned(fault) for fault in faults]
        self._cut = cut
        self._rng = rng or random.Random(0)
        self._lock = threading.Lock()
        self._log: deque[Operation] = deque(maxlen=_LOG_LENGTH)
        self.operations = 0
        self.changes = 0
        self.cut_operation: Operation | None = None
        """Where the power was cut."""

    @property
    def log(self) -> list[Operation]:
        """The last operations, oldest first."""
        with self._lock:
            return list(self._log)

    def assert_all_fired(self) -> None:
        """Fail (``AssertionError``) unless every planned fault fired as often as planned."""
        waiting = [f"{each.fault} fired {each.fired} times" for each in self._planned if not each.satisfied]
        if self._cut and not self.cut_operation:
            waiting.append(f"{self._cut} did not happen: only {self.changes} changes")
        if waiting:
            raise AssertionError("planned faults did not fire: " + "; ".join(waiting))

    def perform(
        self,
        kind: str,
        remote: str,
        name: str,
        action: Callable[[], T],
        torn: Callable[[random.Random], None] | None = None,
    ) -> T:
        """Do ``action`` unless something is planned for it. ``torn`` does a part of it."""
        with self._lock:
            self._check_power()
            operation = self._count(kind, name)
            fault = next((each.fault for each in self._planned if each.fires(operation)), None)
            cut = self._cut if self._cut and operation.change == self._cut.at else None
            if cut:
                self.cut_operation = operation
        if cut:
            if cut.moment is Moment.AFTER:
                action()
            elif cut.moment is Moment.DURING and torn:
                torn(self._rng)
            raise PowerCut(f"at operation {operation}, {cut.moment} it")
        if fault:
            if fault.after:
                action()
            raise fault.error(remote, name)
        return action()

    def _check_power(self) -> None:
        if self.cut_operation:
            raise PowerCut(f"since operation {self.cut_operation}")

    def _count(self, kind: str, name: str) -> Operation:
        self.operations += 1
        change = None
        if kind in CHANGES:
            self.changes += 1
            change = self.changes
        operation = Operation(number=self.operations, change=change, kind=kind, name=name)
        self._log.append(operation)
        return operation
