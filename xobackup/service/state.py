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
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xobackup.engine.errors import EngineError

NAME = "schedules.json"
PAUSED = "paused.json"
LOCK = "serve.lock"


class AlreadyServed(EngineError):
    """Another service works with this state directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"another `xobackup serve` runs with the state directory {directory}: one is enough")


class StateUnreadable(EngineError):
    """A file of the service's is damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A run that was ordered: the time it stands for, and when that was."""

    nominal: datetime
    began: datetime


@dataclass(frozen=True, slots=True)
class State:
    """In memory; :class:`StateFile` keeps it."""

    settled: dict[str, datetime] = field(default_factory=dict)
    running: dict[str, Running] = field(default_factory=dict)


class StateFile:
    """The file, and the lock that makes its process the only one. Thread-safe."""

    def __init__(self, directory: Path) -> None:
        """Raises ``AlreadyServed`` when another process has it."""
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / NAME
        self._mutex = threading.Lock()
        self._lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise AlreadyServed(directory) from None
        self.problem = ""
        """Why what was remembered could not be read."""
        self.state = self._read()

    def settle(self, schedule: str, nominal: datetime) -> None:
        """Nothing up to ``nominal`` is started any more."""
        with self._mutex:
            settled = {**self.state.settled, schedule: _instant(nominal)}
            self._replace(State(settled=settled, running=self.state.running))

    def begin(self, schedule: str, running: Running) -> None:
        """It is settled and runs: one write, so that a crash finds both or neither."""
        with self._mutex:
            nominal = _instant(running.nominal)
            settled = max(self.state.settled.get(schedule, nominal), nominal)
            self._replace(
                State(
                    settled={**self.state.settled, schedule: settled},
                    running={**self.state.running, schedule: running},
                )
            )

    def end(self, schedule: str) -> None:
        with self._mutex:
            left = {name: one for name, one in self.state.running.items() if name != schedule}
            if len(left) < len(self.state.running):
                self._replace(State(settled=self.state.settled, running=left))

    def keep_only(self, schedules: set[str]) -> None:
        """Forget schedules that there are not any more."""
        with self._mutex:
            kept = State(
                settled={name: at for name, at in self.state.settled.items() if name in schedules},
                running={name: one for name, one in self.state.running.items() if name in schedules},
            )
            if kept != self.state:
                self._replace(kept)

    def _replace(self, state: State) -> None:
        """In the file first: what could not be written is not believed."""
        settled = {name: moment.isoformat() for name, moment in sorted(state.settled.items())}
        running = {
            name: {"nominal": one.nominal.isoformat(), "began": one.began.isoformat()}
            for name, one in sorted(state.running.items())
        }
        write_whole(self._path, {"settled": settled, "running": running})
        self.state = state

    def close(self) -> None:
        with self._mutex:
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

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
