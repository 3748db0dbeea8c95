"""What each channel was told, in ``notified.json`` of the state directory, replaced as a whole."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from xobackup.notify.decide import Known
from xobackup.service.state import write_whole

NAME = "notified.json"


@contextmanager
def one_at_a_time(directory: Path) -> Iterator[None]:
    """Only one process reads, sends and notes; the next one waits."""
    directory.mkdir(parents=True, exist_ok=True)
    lock = os.open(directory / f"{NAME}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def read_told(directory: Path) -> dict[str, dict[str, Known]]:
    """By channel, then by the trouble's key. A file that cannot be read counts as none: then it is told again."""
    try:
        value = json.loads((directory / NAME).read_bytes())
        return {
            str(channel): {str(key): _known(one) for key, one in known.items()} for channel, known in value.items()
        }
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError):
        return {}


def _known(one: dict[str, object]) -> Known:
    """Raises ``TypeError`` or ``ValueError`` for anything but what :func:`write_told` wrote."""
    known = Known(**one)  # type: ignore[arg-type]
    if not all(isinstance(moment, int | float) for moment in (known.since, known.told)):
        raise TypeError("expected times")
    return known


def write_told(directory: Path, told: Mapping[str, Mapping[str, Known]]) -> None:
    plain = {channel: {key: asdict(one) for key, one in known.items()} for channel, known in told.items()}
    write_whole(directory / NAME, plain)
