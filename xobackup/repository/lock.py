"""One writer per VM directory: the lock of Xen Orchestra (``proper-lockfile``), understood by both sides.

The lock is the directory ``<vm>.lock``: making it is atomic, its time is refreshed every few seconds, and one not
refreshed for ten seconds is stale and may be taken. Age is measured by the storage's own clock (a touched directory
tells it), so a machine with a wrong clock neither steals nor waits for ever. A holder whose directory vanished or
carries a time that it did not set has lost the lock (it slept too long). Nothing may be put inside the directory:
``rmdir`` ends it.

Beside it every holder of ours has a fencing token (:mod:`xobackup.repository.fence`), a number that only grows. Both
are looked at by :meth:`DirectoryLock.prove`, before every step that names, renames or deletes something, and by
:meth:`DirectoryLock.check`, before every other change, when the last look was longer ago than :data:`PROOF_S` (so
always after a stop of the process). What that leaves open is in docs/workers.md.

A stale lock is taken over by one of us at a time (a second directory, ``.xobackup/locks/<vm>.takeover``), so that
nobody removes the fresh lock of somebody who was quicker. It is renamed away first; if what was renamed turns out to
be fresh after all (Xen Orchestra knows nothing of the second directory), it is put back, and whoever took a lock over
looks again a moment later, whether both the lock and the holder's note are still his.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from remotes.contract import Buffer, Remote
from remotes.errors import AlreadyExists, NotFound, NotSupported, RemoteError
from xobackup.clock import Clock
from xobackup.repository.errors import BadMetadata, LockHeld, LockLost
from xobackup.repository.fence import OVERTAKEN, Fence
from xobackup.repository.json_text import dump, parse_object
from xobackup.repository.layout import (
    VM_BACKUPS,
    checked_uuid,
    holder_name,
    lock_name,
    takeover_name,
    vm_directory,
)

STALE_S = 10.0
REFRESH_S = 2.0
"""Xen Orchestra refreshes every 5 s; more often costs nothing and survives a pause."""
POLL_S = 0.5
PROOF_S = 0.25
"""What was looked at more recently is believed: nobody takes over a lock that was fresh so short a time ago."""
SETTLE_S = 1.0
"""Far longer than anybody needs from finding a lock stale to renaming it."""
_HOLDER_BYTES_MAX = 4096


class DirectoryLock:
    """The lock of one VM directory. Use as a context manager, or :meth:`acquire` and :meth:`release`."""

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
        self.name = lock_name(vm)
        self._remote = remote
        self._vm = checked_uuid("vm", vm)
        self._clock = clock
        self._timeout_s = timeout_s
        self._refresh_s = refresh_s
        self._purpose = purpose
        self._give_up = check
        self._token = secrets.token_hex(8)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._fence = Fence(remote, vm)
        self._looking = threading.Lock()
        """Held while the lock is looked at or refreshed: its time changes with that."""
        self._modified_s = 0.0
        self._answered_s = 0.0
        """When the storage last said that the lock is ours, by the machine's monotonic counter."""
        self._lost: str | None = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock, waiting up to the timeout. Raises :class:`LockHeld` with its age and what is known of its
        holder, ``NotSupported`` where the remote cannot lock."""
        if not self._remote.capabilities.exclusive_directories:
            raise NotSupported(self._remote.url, self.name, "the remote cannot lock by directories")
        self._remote.make_directory(vm_directory(self._vm))
        deadline_s = self._clock.monotonic_s() + self._timeout_s
        self._give_up()
        while not self._try():
            self._give_up()
            if self._clock.monotonic_s() >= deadline_s:
                raise LockHeld(self.name, max(self._age_s() or 0.0, 0.0), self._holder())
            self._clock.sleep(POLL_S)
        self._stop.clear()
        self._thread = threading.Thread(target=self._refresh_loop, name=f"lock {self._vm}", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Give the lock back, if it is still ours. Never raises for what the storage does: a lock goes stale."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._lost is None and self._still_ours():
            with contextlib.suppress(RemoteError):
                self._remote.delete(holder_name(self._vm), missing_ok=True)
            with contextlib.suppress(RemoteError):
                self._remote.remove_directory(self.name)

    @property
    def lost(self) -> str | None:
        """How the lock was lost, or ``None`` while it is held."""
        return self._lost

    @property
    def number(self) -> int:
        """The fencing token: grows with every lock of this VM."""
        return self._fence.number

    def check(self) -> None:
        """Raise :class:`LockLost` when somebody took the lock over, or the storage did not answer for too long."""
        if self._lost is not None:
            raise LockLost(self.name, self._lost)
        if self._clock.monotonic_s() - self._answered_s > PROOF_S:
            self.prove()

    def prove(self) -> None:
        """As :meth:`check`, by a look at the storage now. A storage that does not answer proves nothing against us
        until :data:`STALE_S` have passed."""
        with self._looking:
            if self._lost is not None:
                raise LockLost(self.name, self._lost)
            try:
                self._look()
            except LockLost as error:
                self._lost = error.problem
                raise
            except RemoteError as error:
                self._lost = self._too_long(error)
                if self._lost is not None:
                    raise LockLost(self.name, self._lost) from error

    def place(self, name: str, data: Buffer, *, replace: bool = True) -> None:
        """Put what others go by (a restore point) in one step that is refused to a zombie."""
        self.prove()
        if self._remote.capabilities.atomic_rename:
            self._fence.place(self.name, name, data, replace=replace)
        else:
            self._remote.put(name, data, replace=replace)

    def refresh(self) -> None:
        """Refresh once, now. The thread does it; a simulation may."""
        with self._looking:
            self._look()
            self._modified_s = self._remote.touch(self.name)
            if not self._fence.stands():  # we slept since the look: what we touched is somebody else's
                raise LockLost(self.name, OVERTAKEN)

    def _look(self) -> None:
        """Raises :class:`LockLost` unless both the directory and the token are ours."""
        began_s = self._clock.monotonic_s()
        try:
            modified_s = self._remote.stat(self.name).modified_s
        except NotFound:
            raise LockLost(self.name, "its directory is gone") from None
        if modified_s != self._modified_s:
            raise LockLost(self.name, "somebody else refreshed it")
        if not self._fence.stands():
            raise LockLost(self.name, OVERTAKEN)
        self._answered_s = began_s

    def _too_long(self, error: RemoteError) -> str | None:
        if self._clock.monotonic_s() - self._answered_s <= STALE_S:
            return None
        return f"it could not be refreshed for {STALE_S:.0f} s: {error}"

    def _try(self) -> bool:
        taken_over = not self._make(self.name)
        if taken_over and not self._take_over():
            return False
        try:
            self._modified_s = self._remote.touch(self.name)
        except NotFound:
            return False
        if not self._fence.take(self._still_ours):
            return False
        self._write_holder()
        self._answered_s, self._lost = self._clock.monotonic_s(), None
        return not taken_over or self._settled()

    def _take_over(self) -> bool:
        """Replace the lock if it is stale. Only one of us at a time comes past the first line."""
        guard = takeover_name(self._vm)
        if not self._make(guard) and not (self._drop_stale(guard) and self._make(guard)):
            return False
        try:
            return self._remove_stale() and self._make(self.name)
        finally:
            with contextlib.suppress(NotFound):
                self._remote.remove_directory(guard)

    def _drop_stale(self, guard: str) -> bool:
        """Remove the second directory if somebody died while taking over."""
        with contextlib.suppress(NotFound):
            if self._storage_now_s() - self._remote.stat(guard).modified_s <= STALE_S:
                return False
            self._remote.remove_directory(guard)
        return True

    def _make(self, name: str) -> bool:
        try:
            self._remote.make_directory(name, exist_ok=False)
        except AlreadyExists:
            return False
        return True

    def _settled(self) -> bool:
        """Whether a lock that was taken over is still ours when every other taker has had his turn."""
        self._clock.sleep(SETTLE_S)
        note = self._note()
        return self._still_ours() and (note is None or note.get("token") == self._token)

    def _remove_stale(self) -> bool:
        """Clear a lock away if it is stale. True when the name is free for the taking."""
        seen_s = self._modified()
        if seen_s is None:
            return True
        if self._storage_now_s() - seen_s <= STALE_S:
            return False
        aside = f"{VM_BACKUPS}/.{self._vm}.{secrets.token_hex(8)}.lock"
        try:
            self._remote.rename(self.name, aside)
        except NotFound:
            return True
        if self._remote.stat(aside).modified_s != seen_s:  # somebody took it between our two looks
            with contextlib.suppress(AlreadyExists):
                self._remote.rename(aside, self.name)
                return False
        self._remote.remove_directory(aside)
        return True

    def _modified(self) -> float | None:
        try:
            return self._remote.stat(self.name).modified_s
        except NotFound:
            return None

    def _age_s(self) -> float | None:
        modified_s = self._modified()
        return None if modified_s is None else self._storage_now_s() - modified_s

    def _storage_now_s(self) -> float:
        try:
            return self._remote.touch(VM_BACKUPS)
        except RemoteError:
            return self._clock.now_s()

    def _still_ours(self) -> bool:
        try:
            return self._modified() == self._modified_s
        except RemoteError:
            return False

    def _refresh_loop(self) -> None:
        while self._lost is None and not self._stop.wait(self._refresh_s):
            try:
                self.refresh()
            except LockLost as error:
                self._lost = error.problem
            except NotFound:
                self._lost = "its directory is gone"
            except RemoteError as error:
                self._lost = self._too_long(error)

    def _write_holder(self) -> None:
        """Who we are, for the error message of somebody who waits. Best effort."""
        note = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": int(self._clock.now_s()),
            "purpose": self._purpose,
            "token": self._token,
            "number": self.number,
        }
        with contextlib.suppress(RemoteError):
            self._remote.put(holder_name(self._vm), dump(note))

    def _note(self) -> dict[str, Any] | None:
        try:
            raw = self._remote.get(holder_name(self._vm), limit_bytes=_HOLDER_BYTES_MAX)
            return parse_object(raw, holder_name(self._vm))
        except (RemoteError, BadMetadata):
            return None

    def _holder(self) -> str | None:
        note = self._note()
        if note is None:
            return None
        purpose = f" ({note['purpose']})" if note.get("purpose") else ""
        return f"pid {note.get('pid')} on {note.get('host')}, since Unix second {note.get('since')}{purpose}"
