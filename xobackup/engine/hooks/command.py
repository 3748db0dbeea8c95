"""A command of the operator's: run without a shell, bounded in time, and ended together with its children.

It gets a session of its own, so that a signal reaches all that it started: first the polite one, a moment later the
one that cannot be refused. What it prints is read to the end and only the last lines are kept, so that neither a
silent nor a talkative program can block us or fill memory. A child that it leaves behind on success is left alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import IO

from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import Cancelled
from xobackup.engine.hooks.said import OUTPUT_BYTES_MAX, last_lines

GRACE_S = 3.0
"""Between asking and killing."""
DRAIN_S = 0.5
"""How long to wait for the rest of the output when a child left behind holds the pipe open."""


def run_command(
    command: Sequence[str], environment: Mapping[str, str], *, timeout_s: float, cancel: CancelToken | None
) -> str:
    """Run it; returns what was wrong, as a sentence with its last lines, or ``""``.

    ``cancel``: ends it early. ``None`` for what must not be cut off: then only ``timeout_s`` ends it.
    """
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return f"cannot be started: {error}"
    running = _Running(process)
    stopped = "unknown"
    try:
        stopped = _wait(running, timeout_s, cancel)
    finally:
        if stopped:
            running.end()
    running.drain()
    said = last_lines(running.output())
    code = process.returncode
    if stopped == "cancelled":
        problem = f"was ended because the run stops ({cancel.reason if cancel else ''})"
    elif stopped:
        problem = f"did not end within {timeout_s:g} s and was killed"
    elif code < 0:
        problem = f"was killed by {_signal_name(-code)}"
    elif code:
        problem = f"ended with exit code {code}"
    else:
        return ""
    return f"{problem}: {said}" if said else problem


def _wait(running: _Running, timeout_s: float, cancel: CancelToken | None) -> str:
    """Until it ends (``""``), takes too long (``"late"``) or the run stops (``"cancelled"``)."""
    if cancel is None:
        return "" if running.ended.wait(timeout_s) else "late"
    woken = threading.Event()
    running.tell(woken)
    try:
        with cancel.waking(woken.set):
            woken.wait(timeout_s)
    except Cancelled:
        return "cancelled"
    if running.ended.is_set():
        return ""
    return "cancelled" if cancel.cancelled else "late"


class _Running:
    """A process that is waited for and listened to by threads of its own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._tail = bytearray()
        self._lock = threading.Lock()
        self._listeners: list[threading.Event] = []
        self.ended = threading.Event()
        assert process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(process.stdout,), name="hook output", daemon=True)
        self._reader.start()
        threading.Thread(target=self._watch, name="hook", daemon=True).start()

    def tell(self, event: threading.Event) -> None:
        """Set ``event`` when it has ended, at once when it already has."""
        with self._lock:
            self._listeners.append(event)
            if self.ended.is_set():
                event.set()

    def _watch(self) -> None:
        self._process.wait()
        with self._lock:
            self.ended.set()
            for event in self._listeners:
                event.set()

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while piece := os.read(pipe.fileno(), 65536):
                with self._lock:
                    self._tail += piece
                    del self._tail[:-OUTPUT_BYTES_MAX]

    def output(self) -> bytes:
        with self._lock:
            return bytes(self._tail)

    def drain(self) -> None:
        self._reader.join(DRAIN_S)

    def end(self) -> None:
        """Ask all of its session to end, then make them."""
        self._signal(signal.SIGTERM)
        self.ended.wait(GRACE_S)
        self._signal(signal.SIGKILL)
        self.ended.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
