"""One writer per VM where a directory cannot be a lock: a lease, made of objects that refuse a name that is taken.

    .xobackup/leases/<vm>/<number>.json      the lease of that number; the highest number is the one that counts

To take it, somebody lists the directory; when the highest lease was given back, or is stale, he puts the next
number, which succeeds for exactly one (``put(replace=False)`` on a remote with ``conditional_put``). The number
never goes back: whoever held a lower one knows that he was overtaken. A holder puts his own object again every few
seconds, and nobody else ever writes it, so that its time, by the storage's own clock, is when he was last alive. It
is stale when it has not been put for :data:`LEASE_S` seconds; a holder who could not put it for :data:`HOLD_S` by
his own clock stops before that (:meth:`Lease.check`, asked before every change of the VM's directory). A
holder that is proven to be dead, on this very machine, is not waited for.

Who puts a number that was used and deleted long ago (he slept between the two steps) finds a higher one when he looks
again, which he does before he believes in his lease. Xen Orchestra has no lock on such storage, and knows nothing of
this one.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from remotes import faces
from remotes.contract import Buffer, Entry, Remote
from remotes.errors import AlreadyExists, NotFound, RemoteError
from xobackup.clock import Clock
from xobackup.repository.errors import BadMetadata, LockHeld, LockLost
from xobackup.repository.holder import surely_dead, this_process, told
from xobackup.repository.json_text import dump, parse_object
from xobackup.repository.layout import JSON_SUFFIX, checked_uuid, lease_directory, lease_name

LEASE_S = 60.0
HOLD_S = 45.0
"""Less than a lease by far more than a request takes that has begun before it."""
REFRESH_S = 10.0
POLL_S = 1.0
STUCK_S = 5.0
"""Whoever gives a lease back waits no longer for a request of its refreshing that is still under way."""
_NOTE_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """The lease that counts now."""

    number: int
    modified_s: float
    note: dict[str, Any]


class Lease:
    """The lease of one VM directory. A context manager, or :meth:`acquire` and :meth:`release`."""

    def __init__(
        self,
        remote: Remote,
        vm: str,
        *,
        clock: Clock,
        timeout_s: float = 0.0,
        refresh_s: float = REFRESH_S,
        purpose: str = "",
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """``check`` is asked while waiting, and raises to give up."""
        self._vm = checked_uuid("vm", vm)
        self.name = lease_directory(vm)
        self._remote = remote
        self._clock = clock
        self._timeout_s = timeout_s
        self._refresh_s = refresh_s
        self._give_up = check
        self._note = {
            "version": 1,
            **this_process(),
            "since": int(clock.now_s()),
            "purpose": purpose,
            "token": secrets.token_hex(8),
            "lease_s": LEASE_S,
        }
        self._number = 0
        self._refreshed_s = 0.0
        self._lost: str | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    @property
    def number(self) -> int:
        """Grows with every lease of this VM."""
        return self._number

    @property
    def lost(self) -> str | None:
        """How the lease was lost, or ``None`` while it is held."""
        if self._lost is None and self._clock.monotonic_s() - self._refreshed_s > HOLD_S:
            self._lost = f"it could not be refreshed for {HOLD_S:.0f} s"
        return self._lost

    def acquire(self) -> None:
        """Take the lease, waiting up to the timeout. Raises :class:`LockHeld` with what is known of its holder."""
        deadline_s = self._clock.monotonic_s() + self._timeout_s
        self._give_up()
        while (held := self._try()) is not None:
            self._give_up()
            if self._clock.monotonic_s() >= deadline_s:
                raise held
            self._clock.sleep(POLL_S)
        self._stop.clear()
        self._thread = threading.Thread(target=self._refresh_loop, name=f"lease {self._vm}", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Give the lease back, if it is still ours. Never raises for what the storage does: a lease goes stale."""
        self._stop.set()
        idle = True
        if self._thread is not None:
            self._thread.join(STUCK_S)
            idle, self._thread = not self._thread.is_alive(), None
        if self._number and self.lost is None and idle:  # who waits for the store to refresh would wait here too
            with contextlib.suppress(RemoteError):
                self._put(released=True)
        self._number = 0

    def check(self) -> None:
        """Raise :class:`LockLost` when somebody took the lease over, or it could not be refreshed in time."""
        if self.lost is not None:
            raise LockLost(self.name, self.lost)

    def prove(self) -> None:
        """As :meth:`check`: what proves a lease is the time since it was renewed, not a request."""
        self.check()

    def place(self, name: str, data: Buffer, *, replace: bool = True) -> None:
        """Put a restore point, right after a look at the leases: also a machine that was paused, whose own counter
        stood still, learns here that it was overtaken."""
        self.check()
        if name.endswith(JSON_SUFFIX) and max(self._numbers(), default=0) != self._number:
            self._lost = "somebody else took it over"
            raise LockLost(self.name, self._lost)
        self._remote.put(name, data, replace=replace)

    def refresh(self) -> None:
        """Refresh once, now. The thread does it; a simulation may."""
        before_s = self._clock.monotonic_s()
        numbers = self._numbers()
        if not numbers or max(numbers) != self._number:
            raise LockLost(self.name, "somebody else took it over")
        self.check()
        self._put()
        self._refreshed_s = before_s

    def _try(self) -> LockHeld | None:
        """Take the lease; the complaint when somebody has it."""
        before_s = self._clock.monotonic_s()
        numbers = self._numbers()
        standing = self._standing(numbers)
        if standing is not None and (held := self._held(standing)) is not None:
            return held
        self._number = max(numbers, default=0) + 1
        try:
            self._remote.put(lease_name(self._vm, self._number), self._encoded(), replace=False)
        except AlreadyExists:
            return LockHeld(self.name, 0.0, None)
        now = self._numbers()
        if max(now, default=0) != self._number:  # it was used before, and we slept: see the module's head
            with contextlib.suppress(RemoteError):
                self._remote.delete(lease_name(self._vm, self._number), missing_ok=True)
            return LockHeld(self.name, 0.0, None)
        self._refreshed_s, self._lost = before_s, None
        with contextlib.suppress(RemoteError):
            faces.delete_many(self._remote, [lease_name(self._vm, each) for each in now if each < self._number])
        return None

    def _standing(self, numbers: dict[int, Entry]) -> _Standing | None:
        if not numbers:
            return None
        number = max(numbers)
        name = lease_name(self._vm, number)
        try:
            note = parse_object(self._remote.get(name, limit_bytes=_NOTE_BYTES_MAX), name)
        except NotFound:
            return None
        except BadMetadata:
            note = {}
        return _Standing(number=number, modified_s=numbers[number].modified_s, note=note)

    def _held(self, standing: _Standing) -> LockHeld | None:
        note = standing.note
        if note.get("released") is True or surely_dead(note):
            return None
        age_s = self._storage_now_s() - standing.modified_s
        lease_s = note.get("lease_s")
        limit_s = float(lease_s) if isinstance(lease_s, (int, float)) and 0 < lease_s <= 3600 else LEASE_S
        if age_s > limit_s:
            return None
        return LockHeld(self.name, max(age_s, 0.0), told(note) if note else None)

    def _storage_now_s(self) -> float:
        """The storage's own clock, told by the time of an object put just now."""
        name = f"{self.name}/now-{self._note['token']}"
        self._remote.put(name, b"")
        try:
            return self._remote.stat(name).modified_s
        finally:
            self._remote.delete(name, missing_ok=True)

    def _numbers(self) -> dict[int, Entry]:
        """The leases there are."""
        try:
            entries = self._remote.list(self.name)
        except NotFound:
            return {}
        stems = ((entry.name.removesuffix(JSON_SUFFIX), entry) for entry in entries)
        return {int(stem): entry for stem, entry in stems if stem.isascii() and stem.isdigit()}

    def _put(self, *, released: bool = False) -> None:
        self._remote.put(lease_name(self._vm, self._number), self._encoded(released=released))

    def _encoded(self, *, released: bool = False) -> bytes:
        return dump({**self._note, "number": self._number, "released": released})

    def _refresh_loop(self) -> None:
        while not self._stop.wait(self._refresh_s):
            try:
                self.refresh()
            except LockLost as error:
                self._lost = error.problem
                return
            except RemoteError:
                continue  # :attr:`lost` says when that was too long
