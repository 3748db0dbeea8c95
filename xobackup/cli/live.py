"""What a person or a program sees while something long is going on.

On a terminal: bars with rate, time left and the bottleneck. In a pipe: a line per event, and one per piece of work
every :data:`LINES_EVERY_S`. With ``--json``: the events themselves and ``progress`` records, on standard output.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.logs import EventLines
from xobackup.cli.output import Output
from xobackup.cli.telling import Teller
from xobackup.texts import duration_text, size_text

if TYPE_CHECKING:
    from pathlib import Path

    from xobackup.cli.logs import Lines
    from xobackup.clock import Clock
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.events import Event, Failed
    from xobackup.engine.handing import HandOut
    from xobackup.engine.job import Job
    from xobackup.engine.limits.process import ProcessLimits
    from xobackup.engine.progress import Progress, Snapshot
    from xobackup.engine.world import World

LINES_EVERY_S = 10.0
BARS_EVERY_S = 0.2
WIDE_COLUMNS = 110


class Face:
    """A journal sink that shows events, and the viewer of a :class:`Progress`."""

    def __init__(self, output: Output, clock: Clock, log: Lines | None = None) -> None:
        self._output = output
        self._log = None if log is None else EventLines(log)
        self._clock = clock
        self._teller = Teller()
        self.failures: list[Failed] = []
        """What went wrong with whole pools and remotes."""
        self.defer_failures = False
        """Do not show those as they happen: the command ends with them."""
        self._lock = threading.Lock()

    def write(self, event: Event) -> None:
        """Show one event."""
        from xobackup.engine.events import Failed, as_record

        if self._log is not None:
            self._log.write(event)
        with self._lock:
            if isinstance(event, Failed) and not event.vm:
                self.failures.append(event)
                if self.defer_failures:
                    return
            if self._output.as_json:
                record = as_record(event, self._clock.now_s())
                self._output.record(str(record.pop("kind")), record)
                return
            told = self._teller.tell(event) if self._log is None else None
            if told is not None:
                self._output.note(told[0], style=told[1])

    def close(self) -> None:
        """Nothing is held open."""

    @contextlib.contextmanager
    def watching(self, progress: Progress) -> Iterator[None]:
        """Show ``progress`` until the block ends; a log has no use for it."""
        if self._log is not None and not self._output.as_json:
            yield
            return
        if not self._output.as_json and sys.stderr.isatty():
            with _bars(self._output, progress):
                yield
            return
        stop = threading.Event()
        thread = threading.Thread(target=self._lines, args=(progress, stop), name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _lines(self, progress: Progress, stop: threading.Event) -> None:
        while not stop.wait(LINES_EVERY_S):
            for snapshot in progress.snapshots():
                with self._lock:
                    if self._output.as_json:
                        self._output.record("progress", asdict(snapshot))
                    else:
                        self._output.note(_line(snapshot))


def _line(snapshot: Snapshot) -> str:
    if snapshot.note:
        return f"waiting {snapshot.name}: {snapshot.note}"
    total = f" of {size_text(snapshot.total_bytes)}" if snapshot.total_bytes else ""
    left = f", {duration_text(snapshot.eta_s)} left" if snapshot.eta_s is not None else ""
    slow = f", bottleneck: {snapshot.bottleneck}" if snapshot.bottleneck else ""
    rate = f"{size_text(snapshot.rate_bytes_s)}/s"
    return f"{snapshot.stage} {snapshot.name}: {size_text(snapshot.done_bytes)}{total} at {rate}{left}{slow}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """How wide the parts of a line with a bar are. A few columns stay free: a terminal echoes ``^C`` there."""

    wide: bool
    name: int
    bar: int
    details: int

    @classmethod
    def of(cls, columns: int) -> _Shape:
        wide = columns >= WIDE_COLUMNS
        name, bar = (28, 24) if wide else (18, 8)
        taken = len("transfer ") + name + 1 + bar + len(" 100% ")
        return cls(wide=wide, name=name, bar=bar, details=max(columns - taken - 3, 10))


@contextlib.contextmanager
def _bars(output: Output, progress: Progress) -> Iterator[None]:
    from rich import progress as bars
    from rich.table import Column
    from rich.text import Text

    class Details(bars.ProgressColumn):
        def render(self, task: bars.Task) -> Text:
            return Text(str(task.fields.get("details", "")), style="dim")

    shape = _Shape.of(output.log.width)
    with bars.Progress(
        bars.TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        bars.BarColumn(bar_width=shape.bar),
        bars.TaskProgressColumn(table_column=Column(no_wrap=True, min_width=4)),
        Details(table_column=Column(no_wrap=True, overflow="ellipsis")),
        console=output.log,
        transient=True,
    ) as display:
        stop = threading.Event()
        thread = threading.Thread(target=_draw, args=(display, progress, stop, shape), name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _draw(display: object, progress: Progress, stop: threading.Event, shape: _Shape) -> None:
    from rich.progress import Progress as Display
    from rich.progress import TaskID

    assert isinstance(display, Display)
    tasks: dict[str, TaskID] = {}
    while True:
        seen: set[str] = set()
        for number, snapshot in enumerate(progress.snapshots()):
            key = f"{number}:{snapshot.name}"
            seen.add(key)
            if key not in tasks:
                tasks[key] = display.add_task("", total=None)
            display.update(
                tasks[key],
                description=f"{snapshot.stage:8.8} {_cut(snapshot.name, shape.name)}",
                completed=snapshot.done_bytes,
                total=snapshot.total_bytes,
                details=_details(snapshot, shape),
            )
        for key in tasks.keys() - seen:
            display.remove_task(tasks.pop(key))
        if stop.wait(BARS_EVERY_S):
            return


def _cut(name: str, width: int) -> str:
    return f"{name:{width}}" if len(name) <= width else name[: width - 1] + "…"


def _details(snapshot: Snapshot, shape: _Shape) -> str:
    if snapshot.note:
        return snapshot.note if len(snapshot.note) <= shape.details else snapshot.note[: shape.details - 1] + "…"
    parts = [f"{size_text(snapshot.rate_bytes_s)}/s"]
    if shape.wide:
        parts.insert(0, size_text(snapshot.done_bytes))
    if snapshot.eta_s is not None:
        parts.append(f"{duration_text(snapshot.eta_s)} left")
    if snapshot.bottleneck:
        parts.append(f"limit: {snapshot.bottleneck}")
    text = "  ".join(parts)
    return text if len(text) <= shape.details else text[: shape.details - 1] + "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What a verb that keeps no journal takes along: counters that are shown, a switch that signals throw."""

    clock: Clock
    face: Face
    progress: Progress
    cancel: CancelToken


@contextlib.contextmanager
def watching(output: Output, log: Lines | None = None) -> Iterator[Watch]:
    """While inside, progress is shown and signals stop the work: :class:`Outcome` then says which one did."""
    from xobackup.clock import SystemClock
    from xobackup.engine.cancel import CancelToken, on_signals
    from xobackup.engine.progress import Progress

    clock = SystemClock()
    watch = Watch(clock=clock, face=Face(output, clock, log), progress=Progress(clock), cancel=CancelToken())
    with on_signals(watch.cancel):
        try:
            with watch.face.watching(watch.progress):
                yield watch
        except Exception as error:
            if not watch.cancel.cancelled:
                raise
            raise _stopped(watch.cancel, error) from error


def stopped_by(cancel: CancelToken) -> Exit:
    """The exit code for a verb that was stopped."""
    return Exit.INTERRUPTED if "SIGINT" in cancel.reason else Exit.TERMINATED


def _stopped(cancel: CancelToken, error: Exception) -> Outcome:
    from xobackup.engine.errors import Cancelled
    from xobackup.xapi.errors import Cancelled as TaskCancelled
    from xobackup.xapi.errors import TransferCancelled

    if isinstance(error, (Cancelled, TaskCancelled, TransferCancelled)):
        return Outcome(stopped_by(cancel), cancel.reason)
    return Outcome(stopped_by(cancel), f"{cancel.reason}, and then: {error}")


@contextlib.contextmanager
def world_of(output: Output, state_directory: Path, *, limits: ProcessLimits | None = None) -> Iterator[World]:
    """The real world with this terminal as its face."""
    with watching(output) as watch:
        yield watched_world(watch, state_directory, limits=limits)


def watched_world(
    watch: Watch,
    state_directory: Path,
    *,
    limits: ProcessLimits | None = None,
    hand_out: HandOut | None = None,
    all_jobs: Sequence[Job] = (),
) -> World:
    """The real world with ``watch`` as its face."""
    from xobackup.engine.world import real_world

    return real_world(
        state_directory,
        clock=watch.clock,
        journal=watch.face,
        cancel=watch.cancel,
        progress=watch.progress,
        limits=limits,
        all_jobs=all_jobs,
        hand_out=hand_out,
    )
