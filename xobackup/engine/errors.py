"""What can go wrong in a run or a restore, beyond what the rooms below raise themselves.

    EngineError
    ├── UsageError          what was asked for cannot be: unknown VM, wrong size, nothing to do
    ├── VmSkipped           this VM is left out of this run, for a reason that is not a failure
    ├── VmRefused           this VM cannot be backed up as things are (being migrated, a disk that is missing)
    │   └── ChainsUnhealthy its disks wait for the storage to coalesce: it may be its turn later
    ├── GroupFailed         another VM of the same consistent group cannot be backed up
    ├── HookFailed          a hook failed that may stop what it belongs to
    ├── RunLocked           another run works on the same VM or the same job
    ├── AllSinksFailed      every target of a transfer failed; carries each one's error
    ├── TargetFailed        a pool that is replicated to is in the way; it drops out like a remote
    ├── TransferMismatch    what arrived is not what was announced (size, kind of stream)
    ├── BadArchive          the archive of a VM that the pool sent is not whole
    ├── NoRoom              a remote has not enough space for what is to come
    ├── IntegrityError      bytes read from a repository are not those that were written
    └── Cancelled           somebody asked to stop

:class:`Outcome` is what the faces turn into exit codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xobackup.engine.turns.chains import Chain


class Outcome(StrEnum):
    """How a verb ended, as data for exit codes and reports."""

    OK = "ok"
    SKIPPED = "skipped"
    FAILED = "failed"
    SOME_FAILED = "some-failed"
    DAMAGE = "damage"
    LOCKED = "locked"
    CANCELLED = "cancelled"


class EngineError(Exception):
    """Root of what the engine itself raises. ``hint`` tells the operator what can be done, when something can."""

    transient = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.hint = hint
        super().__init__(message)


class UsageError(EngineError):
    """What was asked for cannot be done as asked."""


class VmSkipped(EngineError):
    """A VM is left out on purpose."""


class VmRefused(EngineError):
    """A VM cannot be backed up as things are; ``transient``: they may soon be different."""

    def __init__(self, message: str, *, hint: str = "", transient: bool = False) -> None:
        self.transient = transient
        super().__init__(message, hint=hint)


class ChainsUnhealthy(VmRefused):
    """Disks of a VM wait for the storage to coalesce; ``chains`` says which."""

    def __init__(self, message: str, chains: tuple[Chain, ...]) -> None:
        self.chains = chains
        super().__init__(message)


class GroupFailed(EngineError):
    """A VM is well, but not its group; ``transient``: the group may be at another attempt."""

    def __init__(self, message: str, *, hint: str = "", transient: bool = False) -> None:
        self.transient = transient
        super().__init__(message, hint=hint)


class HookFailed(EngineError):
    """A hook of the operator's failed, and its failure is to stop."""


class RunLocked(EngineError):
    """Somebody else works there."""

    transient = True


class TargetFailed(EngineError):
    """The target called ``name`` cannot take a replica now, because of ``error``."""

    def __init__(self, name: str, error: BaseException) -> None:
        self.name = name
        self.transient = bool(getattr(error, "transient", False))
        super().__init__(str(error) or type(error).__name__, hint=getattr(error, "hint", "") or "")


class TransferMismatch(EngineError):
    """``what`` was expected to be ``expected``, found ``found``."""

    def __init__(self, what: str, expected: object, found: object) -> None:
        self.what = what
        self.expected = expected
        self.found = found
        super().__init__(f"{what}: expected {expected}, found {found}")


class BadArchive(EngineError):
    """The pool's archive of a VM is not whole."""

    transient = True


class NoRoom(EngineError):
    """It would not fit."""


class IntegrityError(EngineError):
    """Bytes are not those that were written."""


class AllSinksFailed(EngineError):
    """No target of a transfer is left. ``failures`` maps each target's name to its error."""

    def __init__(self, what: str, failures: Mapping[str, BaseException]) -> None:
        self.failures = dict(failures)
        self.transient = any(getattr(error, "transient", False) for error in failures.values())
        super().__init__(f"{what}: " + "; ".join(f"{name}: {error}" for name, error in failures.items()))


class Cancelled(EngineError):
    """Somebody asked to stop."""

    def __init__(self, reason: str = "cancelled") -> None:
        super().__init__(reason)
