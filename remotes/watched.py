"""A remote whose calls are abandoned when the storage does not answer: a stalled file server blocks for as long as it
is stalled, whatever the mount options say.

Every call runs in a thread of its own kind (a daemon: it never keeps the process from ending) while the caller waits
at most ``timeout_s``. A call that is not back by then stays where it is; the caller gets ``NoAnswer``, and so does,
at once, everybody else until that call comes back. An abandoned call shares no memory with anybody: what is read or
written goes through buffers that belong to the call.

What is closed while calls are stuck is closed when they have come back, since they may still use its descriptor;
until then nobody waits, and a process that ends takes the descriptor with it.
"""

from __future__ import annotations

import ctypes
import mmap
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from remotes import errors, faces
from remotes.contract import Buffer, Capabilities, Entry, ReadableFile, Remote, Usage, WritableFile, hint_read

T = TypeVar("T")

TIMEOUT_S = 300.0
"""Longer than a soft mount takes to give up by itself, so that its own, better error comes first."""
PATIENCE = {"delete_tree": 12.0, "sync": 2.0}
"""Calls that may take so many times as long and still be under way."""
OPENING_S = 150.0
"""Opening may have to mount first, which is given up by itself before that."""
PAGE_BYTES = mmap.PAGESIZE


class _Call:
    """One call under way."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self.action = action
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self.action()
        except BaseException as error:  # noqa: BLE001 - it is raised again where the call was made
            self.error = error
        finally:
            self.done.set()


class Watchdog:
    """Runs calls in threads that it can do without. ``shown`` is the remote's URL for messages."""

    def __init__(self, shown: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._shown = shown
        self._timeout_s = timeout_s
        self._idle: queue.LifoQueue[queue.SimpleQueue[_Call | None]] = queue.LifoQueue()
        self._stuck: set[_Call] = set()
        self._guard = threading.Lock()

    def call(self, name: str, action: Callable[[], T], *, patience: float = 1.0) -> T:
        """The result of ``action`` or its error; :class:`~remotes.errors.NoAnswer` when it does not come back."""
        self._refuse_while_stuck(name)
        call = _Call(action)
        self._worker().put(call)
        if not call.done.wait(self._timeout_s * patience):
            with self._guard:
                self._stuck.add(call)
            raise errors.NoAnswer(
                self._shown, name, f"the storage did not answer for {self._timeout_s * patience:g} s"
            )
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[no-any-return]

    def after_all(self, action: Callable[[], object]) -> None:
        """Do it once every call that is stuck now has come back; nobody waits for that."""
        with self._guard:
            stuck = list(self._stuck)

        def wait_and_act() -> None:
            for call in stuck:
                call.done.wait()
            action()

        self._worker().put(_Call(wait_and_act))

    def close(self) -> None:
        """Let idle threads end."""
        while True:
            try:
                self._idle.get_nowait().put(None)
            except queue.Empty:
                return

    def _refuse_while_stuck(self, name: str) -> None:
        with self._guard:
            self._stuck = {call for call in self._stuck if not call.done.is_set()}
            stuck = len(self._stuck)
        if stuck:
            raise errors.NoAnswer(self._shown, name, f"the storage does not answer (calls still waiting: {stuck})")

    def _worker(self) -> queue.SimpleQueue[_Call | None]:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            work: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
            threading.Thread(target=self._work, args=(work,), name="watched", daemon=True).start()
            return work

    def _work(self, work: queue.SimpleQueue[_Call | None]) -> None:
        while (call := work.get()) is not None:
            call.run()
            del call
            self._idle.put(work)


class WatchedRemote:
    """See the module's head."""

    def __init__(
        self,
        opening: Callable[[], Remote],
        *,
        shown: str,
        timeout_s: float = TIMEOUT_S,
        opening_s: float = OPENING_S,
    ) -> None:
        """``opening`` gives the remote and is watched like every other call; ``shown`` is its URL for messages."""
        self._watchdog = Watchdog(shown, timeout_s=timeout_s)
        self.inner = self._watchdog.call("", opening, patience=max(1.0, opening_s / timeout_s))

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    def list(self, directory: str) -> list[Entry]:
        return self._watchdog.call(directory, lambda: self.inner.list(directory))

    def stat(self, name: str) -> Entry:
        return self._watchdog.call(name, lambda: self.inner.stat(name))

    def get(self, name: str, *, limit_bytes: int | None = None) -> bytes:
        return self._watchdog.call(name, lambda: self.inner.get(name, limit_bytes=limit_bytes))

    def put(self, name: str, data: Buffer, *, replace: bool = True) -> None:
        own = bytes(data)
        self._watchdog.call(name, lambda: self.inner.put(name, own, replace=replace))

    def open(self, name: str) -> WatchedFile:
        return WatchedFile(self._watchdog, self._watchdog.call(name, lambda: self.inner.open(name)))

    def create(self, name: str) -> WatchedWritableFile:
        return WatchedWritableFile(self._watchdog, self._watchdog.call(name, lambda: self.inner.create(name)))

    def update(self, name: str) -> WatchedWritableFile:
        return WatchedWritableFile(self._watchdog, self._watchdog.call(name, lambda: self.inner.update(name)))

    def rename(self, old: str, new: str, *, replace: bool = False) -> None:
        self._watchdog.call(old, lambda: self.inner.rename(old, new, replace=replace))

    def delete(self, name: str, *, missing_ok: bool = False) -> None:
        self._watchdog.call(name, lambda: self.inner.delete(name, missing_ok=missing_ok))

    def make_directory(self, name: str, *, exist_ok: bool = True) -> None:
        self._watchdog.call(name, lambda: self.inner.make_directory(name, exist_ok=exist_ok))

    def remove_directory(self, name: str) -> None:
        self._watchdog.call(name, lambda: self.inner.remove_directory(name))

    def delete_tree(self, name: str) -> None:
        self._watchdog.call(name, lambda: self.inner.delete_tree(name), patience=PATIENCE["delete_tree"])

    def touch(self, name: str) -> float:
        return self._watchdog.call(name, lambda: self.inner.touch(name))

    def usage(self) -> Usage | None:
        return self._watchdog.call("", self.inner.usage)

    def protection(self, name: str) -> faces.Protection | None:
        return self._watchdog.call(name, lambda: faces.protection(self.inner, name))

    def close(self) -> None:
        try:
            self._watchdog.call("", self.inner.close)
        except errors.NoAnswer:
            self._watchdog.after_all(self.inner.close)
        self._watchdog.close()


class WatchedFile:
    """An open file of a :class:`WatchedRemote`."""

    def __init__(self, watchdog: Watchdog, inner: ReadableFile) -> None:
        self.inner: ReadableFile = inner
        self._watchdog = watchdog
        self._name = inner.name

    @property
    def name(self) -> str:
        return self._name

    def size(self) -> int:
        return self._watchdog.call(self._name, self.inner.size)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        view = buffer.cast("B")
        own = _own_memory(len(view), 0)
        count = self._watchdog.call(self._name, lambda: self.inner.read_into(offset, own))
        view[:count] = own[:count]
        return count

    def will_read(self, offset: int, length: int) -> None:
        self._watchdog.call(self._name, lambda: hint_read(self.inner, offset, length))

    def close(self) -> None:
        try:
            self._watchdog.call(self._name, self.inner.close)
        except errors.NoAnswer:
            self._watchdog.after_all(self.inner.close)


class WatchedWritableFile(WatchedFile):
    """An open file of a :class:`WatchedRemote` that can be written."""

    def __init__(self, watchdog: Watchdog, inner: WritableFile) -> None:
        super().__init__(watchdog, inner)
        self._file = inner

    def write_at(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        own = _own_memory(len(view), _address(view) % PAGE_BYTES)  # where it lay decides how it is written
        own[:] = view
        self._watchdog.call(self._name, lambda: self._file.write_at(offset, own))

    def truncate(self, size_bytes: int) -> None:
        self._watchdog.call(self._name, lambda: self._file.truncate(size_bytes))

    def copy_range(self, source: ReadableFile, source_offset: int, offset: int, length: int) -> None:
        inner = source.inner if isinstance(source, WatchedFile) else source
        self._watchdog.call(self._name, lambda: self._file.copy_range(inner, source_offset, offset, length))

    def written(self, offset: int, length: int) -> None:
        self._watchdog.call(self._name, lambda: self._file.written(offset, length))

    def sync(self) -> None:
        self._watchdog.call(self._name, self._file.sync, patience=PATIENCE["sync"])


def _own_memory(length: int, into_page: int) -> memoryview:
    """Fresh memory that begins ``into_page`` bytes into a page; freed with its last view."""
    return memoryview(mmap.mmap(-1, max(1, into_page + length)))[into_page : into_page + length]


def _address(view: memoryview) -> int:
    """Where the memory lies; read-only memory tells no address here."""
    return 0 if view.readonly or not len(view) else ctypes.addressof(ctypes.c_char.from_buffer(view))
