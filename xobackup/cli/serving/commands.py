"""A command that was ordered by the API, carried out as the command line itself, in a process of its own.

So it does exactly what the command does, and what happens to it does not happen to the service. Its records are the
result, bounded: the first ones and the last few, because the last one often is the sum. Events, and what it writes to
standard error, are what the operation says; how far it is are the operation's meters. Cancelled, it gets SIGTERM and
a long time to clean up. When the service dies it dies too (:mod:`.child`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from xobackup.cli.exits import MEANINGS, Exit
from xobackup.cli.serving import child
from xobackup.engine.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xobackup.cli.telling import Teller
    from xobackup.config.model import Configuration
    from xobackup.engine.progress import Meter
    from xobackup.service.operations import Hand
    from xobackup.web.requests import CommandLine

RECORDS_MAX = 500
BYTES_MAX = 256 << 10
LAST_MAX = 20
LAST_BYTES_MAX = 4 << 10
"""Of each of the last ones."""
LINE_MAX = 1000
"""Of what is said."""
CLEAN_UP_S = 600.0
"""After SIGTERM, until SIGKILL."""
DRAIN_S = 5.0
"""For the last lines of a command that has ended: whom it began may keep its pipes open."""
FRAME = "╭╮╰╯│─\n "
"""What frames a complaint about the line itself."""
NOT_ITS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "XO_TOKEN")
"""Variables of the service that no command gets: the service's manager is told by itself, and a token must not go to
whatever address a request names.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How it ended. ``problem``: ``""`` when well; ``left_out``: records between ``records`` and ``last``."""

    exit_code: int
    meaning: str
    records: list[Any]
    left_out: int
    last: list[Any]
    problem: str = ""
    hint: str = ""

    def as_data(self) -> dict[str, Any]:
        names = ("exit_code", "meaning", "records", "left_out", "last")
        return {name: getattr(self, name) for name in names}


@dataclass(slots=True, kw_only=True)
class Records:
    """The records of a command, as many as are kept; what they tell goes to the operation."""

    hand: Hand
    first: list[Any] = field(default_factory=list)
    last: deque[Any] = field(default_factory=lambda: deque(maxlen=LAST_MAX))
    more: int = 0
    """Behind the first ones, those in ``last`` included."""
    error: tuple[str, str] | None = None
    teller: Teller
    _bytes: int = 0
    _meters: dict[tuple[str, str], tuple[Meter, int]] = field(default_factory=dict)

    def take(self, line: bytes) -> None:
        """One line of standard output."""
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            self.hand.say(line.decode("utf-8", "replace").rstrip()[:LINE_MAX])
            return
        kind = record.get("kind") if isinstance(record, dict) else None
        if kind == "progress":
            self._progress(record)
            return
        if kind is not None and "at_s" in record and self._event(record):
            return
        if kind == "error":
            self.error = (str(record.get("message") or ""), str(record.get("hint") or ""))
        self._keep(record, len(line))

    def skip(self) -> None:
        """One that was too long to be read."""
        self.more += 1

    def _keep(self, record: Any, size_bytes: int) -> None:
        if not self.more and len(self.first) < RECORDS_MAX and self._bytes + size_bytes <= BYTES_MAX:
            self.first.append(record)
            self._bytes += size_bytes
            return
        self.more += 1
        if size_bytes <= LAST_BYTES_MAX:
            self.last.append(record)

    def _event(self, record: dict[str, Any]) -> bool:
        from xobackup.engine.events import from_record

        event = from_record(record)
        if event is None:
            return False
        with suppress(KeyError, TypeError, ValueError):  # of another version
            told = self.teller.tell(event)
            if told is not None:
                self.hand.say(told[0][:LINE_MAX])
        return True

    def _progress(self, record: dict[str, Any]) -> None:
        with suppress(KeyError, TypeError, ValueError):
            name, stage, done = str(record["name"]), str(record["stage"]), int(record["done_bytes"])
            known = self._meters.get((name, stage))
            meter, before = known or (
                self.hand.progress.meter(name, total_bytes=record["total_bytes"], stage=stage), 0
            )  # fmt: skip
            meter.add(max(0, done - before))
            if record["finished"]:
                meter.end()
            self._meters[name, stage] = (meter, done)


def command_line(wish: CommandLine, configuration: Configuration, config: Path | None) -> list[str]:
    """The arguments behind the program's name. Raises :class:`.exchange.NotExchanged`."""
    from xobackup.cli.serving.catalogue import catalogue
    from xobackup.cli.serving.exchange import place
    from xobackup.web.commands import Kind

    command = catalogue().commands[wish.name]
    for one in command.parameters:
        if one.kind is Kind.FILE_READ:
            for value in one.values(wish.values):
                place(configuration, str(value), to_read=True)
    words = command.arguments(wish.values, lambda name: str(place(configuration, name, to_read=False)))
    own = f"--config={config.absolute()}" if config else ""
    given = [own if one == "config" else one for one in command.fixed]
    count = len(command.name.split())
    return [*words[:count], *filter(None, given), *words[count:]]


def carry_out(wish: CommandLine, configuration: Configuration, config: Path | None, hand: Hand) -> Done:
    """Run it to its end. Raises ``OSError``, :class:`.exchange.NotExchanged`."""
    from xobackup.cli.telling import Teller

    arguments = command_line(wish, configuration, config)
    program = [sys.executable, "-P", child.__file__, str(os.getpid()), *arguments]
    process = subprocess.Popen(
        program,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name not in NOT_ITS},
        start_new_session=True,  # a Ctrl-C at the service is the service's
    )
    assert process.stdout is not None and process.stderr is not None, "pipes"
    records, complaints = Records(hand=hand, teller=Teller()), deque[str](maxlen=LAST_MAX)
    readers = [
        threading.Thread(target=_read_records, args=(process.stdout, records), name="records", daemon=True),
        threading.Thread(target=_read_words, args=(process.stderr, hand, complaints), name="words", daemon=True),
    ]
    for one in readers:
        one.start()
    try:
        _wait(process, hand)
    finally:
        for one in readers:
            one.join(DRAIN_S)
        for pipe, one in zip((process.stdout, process.stderr), readers, strict=True):
            if not one.is_alive():
                pipe.close()
    return _done(process.returncode, records, list(complaints), hand)


def _wait(process: subprocess.Popen[bytes], hand: Hand) -> None:
    """In the thread that began it: the kernel takes the end of that thread for the end of the service."""
    asked = threading.Event()
    timer = threading.Timer(CLEAN_UP_S, process.kill)
    timer.daemon = True

    def stop() -> None:
        if not asked.is_set():
            asked.set()
            process.terminate()
            timer.start()

    try:
        with suppress(Cancelled), hand.cancel.waking(stop):
            process.wait()
        if hand.cancel.cancelled and process.poll() is None:
            stop()
        process.wait()
    finally:
        timer.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()


def _lines(pipe: IO[bytes], most: int) -> Iterator[bytes | None]:
    """Line by line; ``None`` for one that is longer."""
    while line := pipe.readline(most):
        if line.endswith(b"\n") or len(line) < most:
            yield line
            continue
        while (rest := pipe.readline(most)) and not rest.endswith(b"\n"):
            pass
        yield None


def _read_records(pipe: IO[bytes], records: Records) -> None:
    with suppress(OSError, ValueError):  # closed under it
        for line in _lines(pipe, BYTES_MAX + 1):
            if line is None:
                records.skip()
            else:
                records.take(line)


def _read_words(pipe: IO[bytes], hand: Hand, complaints: deque[str]) -> None:
    """What went wrong is the operation's problem, the rest is what it says."""
    with suppress(OSError, ValueError):
        for line in _lines(pipe, BYTES_MAX):
            text = "..." if line is None else line.decode("utf-8", "replace").strip(FRAME).rstrip()[:LINE_MAX]
            complaints.append(text)
            if text and not text.startswith(("error: ", "hint: ")):
                hand.say(text)


def _done(code: int, records: Records, complaints: list[str], hand: Hand) -> Done:
    known = Exit(code) if code in set(Exit) else None
    meaning = MEANINGS[known] if known is not None else _other(code)
    problem, hint = "", ""
    if hand.cancel.cancelled and code != Exit.OK:
        problem = hand.cancel.reason
    elif code != Exit.OK:
        if "Error" in complaints:  # about the line itself; before that, how it is used
            complaints = complaints[complaints.index("Error") + 1 :]
        told, hint = records.error or ("\n".join(filter(None, complaints)), "")
        problem = told or meaning
    return Done(
        exit_code=code,
        meaning=meaning,
        records=records.first,
        left_out=records.more - len(records.last),
        last=list(records.last),
        problem=problem,
        hint=hint,
    )


def _other(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}; the next start cleans up what it left"
    return "it ended in a way that no command does"
