"""Calls that do not come back are abandoned; everything else is as without the watchdog."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remotes.conformance import PROMISES, run_promise, scratch_of
from remotes.errors import NoAnswer, NotFound, Unavailable
from remotes.local import LocalRemote
from remotes.memory import MemoryRemote
from remotes.watched import WatchedRemote

SHORT_S = 0.2


class Stalled:
    """A storage that stops answering calls of one name until it is let go."""

    def __init__(self, inner: Any, gate: threading.Event, names: set[str]) -> None:
        self._inner = inner
        self._gate = gate
        self._names = names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def waiting(*args: Any, **options: Any) -> Any:
            if name in self._names:
                assert self._gate.wait(20)
            result = found(*args, **options)
            return Stalled(result, self._gate, self._names) if name in {"open", "create", "update"} else result

        return waiting


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    made = threading.Event()
    yield made
    made.set()


def stalled(gate: threading.Event, *names: str, inner: Any = None) -> WatchedRemote:
    remote = inner or MemoryRemote()
    return WatchedRemote(lambda: Stalled(remote, gate, set(names)), shown="nfs://nas:/a", timeout_s=SHORT_S)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.name)
def test_the_contract_holds_through_it(tmp_path: Path, promise: Any) -> None:
    remote = WatchedRemote(lambda: LocalRemote(tmp_path), shown="x")
    with scratch_of(remote) as scratch:
        check = run_promise(promise, scratch)
    remote.close()
    assert check.ok, check.detail


def test_a_call_that_does_not_come_back_is_abandoned_and_then_nobody_waits_again(gate: threading.Event) -> None:
    remote = stalled(gate, "list")
    with pytest.raises(NoAnswer, match=r"nfs://nas:/a: dir: the storage did not answer for 0\.2 s"):
        remote.list("dir")
    with pytest.raises(NoAnswer, match=r"does not answer \(calls still waiting: 1\)"):
        remote.get("name")
    gate.set()
    while True:  # once it answers again, so do we
        try:
            remote.put("name", b"data")
            break
        except NoAnswer:
            threading.Event().wait(0.01)
    assert remote.get("name") == b"data"
    remote.close()


def test_an_abandoned_read_never_writes_into_memory_that_others_use_by_now(gate: threading.Event) -> None:
    inner = MemoryRemote()
    inner.put("name", b"x" * 64)
    remote = stalled(gate, "read_into", inner=inner)
    file, buffer = remote.open("name"), memoryview(bytearray(64))
    with pytest.raises(NoAnswer):
        file.read_into(0, buffer)
    buffer[:] = b"y" * 64
    gate.set()
    threading.Event().wait(0.1)
    assert bytes(buffer) == b"y" * 64


def test_an_abandoned_write_writes_what_was_meant_even_if_the_memory_is_used_again(gate: threading.Event) -> None:
    inner = MemoryRemote()
    remote = stalled(gate, "write_at", inner=inner)
    file, data = remote.create("name"), bytearray(b"meant")
    with pytest.raises(NoAnswer):
        file.write_at(0, data)
    data[:] = b"other"
    gate.set()
    while inner.stat("name").size_bytes < 5:
        threading.Event().wait(0.01)
    assert inner.get("name") == b"meant"


def test_a_stuck_file_does_not_keep_anybody_from_closing(gate: threading.Event) -> None:
    remote = stalled(gate, "sync", "close")
    file = remote.create("name")
    with pytest.raises(NoAnswer, match=r"did not answer for 0\.4 s"):
        file.sync()
    file.close()
    remote.close()


def test_what_was_closed_while_a_call_was_stuck_is_closed_when_that_has_come_back(gate: threading.Event) -> None:
    inner = MemoryRemote()
    closed = threading.Event()
    remote = stalled(gate, "sync", inner=inner)
    file = remote.create("name")
    with pytest.raises(NoAnswer):
        file.sync()
    file.inner.close = closed.set  # type: ignore[method-assign]
    file.close()
    assert not closed.is_set(), "the stuck call may still use the descriptor"
    gate.set()
    assert closed.wait(20)


def test_opening_is_watched_too(gate: threading.Event) -> None:
    with pytest.raises(NoAnswer, match="nfs://nas:/a: the storage did not answer"):
        WatchedRemote(lambda: gate.wait(20), shown="nfs://nas:/a", timeout_s=SHORT_S, opening_s=SHORT_S)


def test_errors_pass_as_they_are() -> None:
    remote = WatchedRemote(MemoryRemote, shown="x")
    with pytest.raises(NotFound):
        remote.get("nothing")
    with pytest.raises(Unavailable, match="gone"):
        WatchedRemote(lambda: (_ for _ in ()).throw(Unavailable("x", "", "gone", transient=False)), shown="x")


def test_what_lay_on_pages_still_does(tmp_path: Path) -> None:
    """Else nothing would go past the page cache."""
    remote = WatchedRemote(lambda: LocalRemote(tmp_path), shown="x")
    file = remote.create("name")
    memory = memoryview(mmap.mmap(-1, 1 << 20))
    memory[:4] = b"head"
    file.write_at(0, memory)
    file.write_at(1 << 20, bytes(memory))
    file.copy_range(remote.open("name"), 0, 2 << 20, 1 << 20)
    file.sync()
    assert (tmp_path / "name").read_bytes() == bytes(memory) * 3
    file.close()
    remote.close()


def test_a_process_ends_although_a_call_never_will(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    code = (
        "import sys; from remotes.errors import NoAnswer; from remotes.watched import WatchedRemote\n"
        "try: WatchedRemote(lambda: open(sys.argv[1]).read(), shown='x', opening_s=0.1, timeout_s=0.1)\n"
        "except NoAnswer: print('abandoned')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "fifo")], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "abandoned\n"
