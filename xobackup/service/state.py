"""What the service must remember over a crash, in one small file that is replaced as a whole.

``settled``: up to which nominal time each schedule is done with. ``running``: what waits or goes on, by schedule. A
file that cannot be read is set aside, never trusted and never silently forgotten: then every schedule begins anew, at
the present.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xobackup.clock import Clock, SystemClock, utc
from xobackup.engine.errors import EngineError
from xobackup.service.store import Begun, Look, Running, State

NAME = "schedules.json"
PAUSED = "paused.json"
LOCK = "serve.lock"


class AlreadyServed(EngineError):
    """Another service works with this state directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"another `xobackup serve` runs with the state directory {directory}: one is enough")


class StateUnreadable(EngineError):
    """A file of the service's is damaged."""


class ServeLock:
    """What makes a process the only one that serves a state directory."""

    def __init__(self, directory: Path) -> None:
        """Raises ``AlreadyServed`` when another process has it."""
        directory.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise AlreadyServed(directory) from None

    def place(self) -> str:
        """What nobody else's directory is called, nor this one's after another start of the machine; ``""`` where
        that cannot be told."""
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return ""
        found = os.fstat(self._fd)
        return f"{boot} {found.st_dev} {found.st_ino}"

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class StateFile:
    """The file, and the lock that makes its process the only one. Thread-safe. A
    :class:`~xobackup.service.store.ScheduleStore`."""

    is_shared = False

    def __init__(self, directory: Path, clock: Clock | None = None) -> None:
        """Raises ``AlreadyServed`` when another process has it."""
        self._lock = ServeLock(directory)
        self._directory = directory
        self._clock = clock or SystemClock()
        self._path = directory / NAME
        self._mutex = threading.Lock()
        self.problem = ""
        """Why what was remembered could not be read."""
        self.state = self._read()

    def now(self) -> datetime:
        return utc(self._clock.now_s())

    def look(self) -> Look:
        return Look(now=self.now(), state=self.state, paused=self.paused())

    def settle(self, schedule: str, nominal: datetime, *, since: datetime | None) -> bool:
        with self._mutex:
            if self.state.settled.get(schedule) != since:
                return False
            settled = {**self.state.settled, schedule: _instant(nominal)}
            self._replace(State(settled=settled, running=self.state.running))
            return True

    def begin(
        self, schedule: str, nominal: datetime, *, since: datetime | None = None, instead_of: str | None = None
    ) -> Begun:
        with self._mutex:
            if since is not None and self.state.settled.get(schedule) != since:
                return Begun.LATE
            if instead_of is not None and schedule not in self.state.running:
                return Begun.LATE
            self._replace(self._with(self.state, schedule, nominal))
            return Begun.HERE

    def _with(self, state: State, schedule: str, nominal: datetime) -> State:
        nominal = _instant(nominal)
        settled = max(state.settled.get(schedule, nominal), nominal)
        running = Running(nominal=nominal, began=self.now())
        return State(
            settled={**state.settled, schedule: settled},
            running={**state.running, schedule: running},
        )

    def end(self, schedule: str, *, goes_on: bool, then: Sequence[str], nominal: datetime) -> dict[str, Begun]:
        with self._mutex:
            left = {name: one for name, one in self.state.running.items() if name != schedule or goes_on}
            new = State(settled=self.state.settled, running=left)
            for name in then:
                new = self._with(new, name, nominal)
            if new != self.state:
                self._replace(new)
            return dict.fromkeys(then, Begun.HERE)

    def heard(self, schedule: str) -> None:
        """Nobody asks elsewhere."""

    def meet(self, plan: Mapping[str, str], timed: Set[str]) -> None:
        with self._mutex:
            new = dict.fromkeys(timed - set(self.state.settled), self.now())
            kept = State(
                settled={name: at for name, at in self.state.settled.items() if name in plan} | new,
                running={name: one for name, one in self.state.running.items() if name in plan},
            )
            if kept != self.state:
                self._replace(kept)

    def note_run(self, schedule: str, run_id: str) -> None:
        """The journals here say it."""

    def watch(self, when_lost: Callable[[], None]) -> None:
        """The lock of the directory says it."""

    def lost(self) -> str:
        return ""

    def paused(self) -> dict[str, str]:
        return read_paused(self._directory)

    def change_paused(self, names: Mapping[str, str | None]) -> dict[str, str]:
        return change_paused(self._directory, names)

    def _replace(self, state: State) -> None:
        """In the file first: what could not be written is not believed."""
        settled = {name: moment.isoformat() for name, moment in sorted(state.settled.items())}
        running = {
            name: {"nominal": one.nominal.isoformat(), "began": one.began.isoformat()}
            for name, one in sorted(state.running.items())
        }
        write_whole(self._path, {"settled": settled, "running": running})
        self.state = state

    def close(self, *, in_order: bool = True) -> None:
        self._lock.close()

    def _read(self) -> State:
        try:
            return _parsed(json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return State()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            aside = self._path.with_suffix(".damaged")
            self._path.replace(aside)
            self.problem = f"{self._path} is damaged ({error}): set aside as {aside.name}, every schedule begins now"
            return State()


def look_at_state(directory: Path) -> State:
    """What a service remembers there, without being one: nothing where it cannot be read."""
    try:
        return _parsed(json.loads((directory / NAME).read_bytes()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return State()


def _parsed(value: Any) -> State:
    return State(
        settled={str(name): _aware(moment) for name, moment in value["settled"].items()},
        running={
            str(name): Running(nominal=_aware(one["nominal"]), began=_aware(one["began"]))
            for name, one in value["running"].items()
        },
    )


def _instant(moment: datetime) -> datetime:
    """In UTC: two times of one zone compare by the wall's clock, which in one night of the year goes back."""
    return moment.astimezone(UTC)


def _aware(text: Any) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return _instant(moment)


def read_paused(directory: Path) -> dict[str, str]:
    """Reasons, by schedule. A file that cannot be read is an error: a pause must not end by accident."""
    path = directory / PAUSED
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise StateUnreadable(f"{path} is damaged ({error}): put it right, or delete it to pause nothing") from error
    if not isinstance(value, dict):
        raise StateUnreadable(f"{path}: expected schedules and reasons; delete it to pause nothing")
    return {str(name): str(reason) for name, reason in value.items()}


def change_paused(directory: Path, names: Mapping[str, str | None]) -> dict[str, str]:
    """Pause (a reason) or resume (``None``) schedules; returns what is paused then."""
    directory.mkdir(parents=True, exist_ok=True)
    lock = os.open(directory / f"{PAUSED}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        paused = read_paused(directory)
        for name, reason in names.items():
            if reason is None:
                paused.pop(name, None)
            else:
                paused[name] = reason
        write_whole(directory / PAUSED, dict(sorted(paused.items())))
        return paused
    finally:
        os.close(lock)


def write_whole(path: Path, value: object) -> None:
    """Replace a JSON file; afterwards it is the old or the new one, whatever happens."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
