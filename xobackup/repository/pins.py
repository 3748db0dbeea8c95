"""Restore points that an operator has pinned: retention, mirrors and commands leave them alone until they are
unpinned, or until the day that was given.

A pin is a small file under ``.xobackup/pins/<vm>/``. Nothing is believed from a listing that fails: then nothing is
deleted. A pin that cannot be understood holds, and says so. Xen Orchestra knows no pins.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from remotes.contract import Kind, Remote
from remotes.errors import NotFound
from xobackup.repository.errors import BadMetadata
from xobackup.repository.json_text import parse_object
from xobackup.repository.layout import pin_name, pins_directory
from xobackup.repository.metadata import RestorePoint
from xobackup.repository.protection import Held, Locks

_LIMIT_BYTES = 8192
PINNED = "a pin"
"""How what holds a restore point begins when it is one of these."""
NOTE_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """Why, and until when (Unix seconds; ``None``: until it is taken off)."""

    note: str = ""
    until_s: float | None = None

    def holds(self, now_s: float) -> bool:
        return self.until_s is None or self.until_s > now_s


def read_pins(remote: Remote, vm: str) -> dict[str, Pin]:
    """All pins of a VM by the id of their restore point, those whose day has passed too."""
    try:
        entries = remote.list(pins_directory(vm))
    except NotFound:
        return {}
    found: dict[str, Pin] = {}
    for entry in entries:
        point, dot, kind = entry.name.partition(".")
        if entry.kind is Kind.FILE and dot and kind == "json":
            pin = _read(remote, f"{pins_directory(vm)}/{entry.name}")
            if pin is not None:
                found[point] = pin
    return found


def _read(remote: Remote, name: str) -> Pin | None:
    try:
        value = parse_object(remote.get(name, limit_bytes=_LIMIT_BYTES), name)
    except NotFound:
        return None  # taken off a moment ago
    except BadMetadata:
        return Pin(note="it cannot be read")
    note, until_s = value.get("note", ""), value.get("until_s")
    if isinstance(until_s, bool) or not isinstance(until_s, int | float | None) or not isinstance(note, str):
        return Pin(note="it cannot be read")
    return Pin(note=note, until_s=until_s)


def put_pin(remote: Remote, vm: str, point: str, pin: Pin) -> None:
    """Pin a restore point, or change its pin."""
    text = json.dumps({"note": pin.note[:NOTE_MAX], "until_s": pin.until_s}, ensure_ascii=False)
    remote.put(pin_name(vm, point), text.encode())


def drop_pin(remote: Remote, vm: str, point: str) -> None:
    """Take a pin off; one that is not there is fine."""
    remote.delete(pin_name(vm, point), missing_ok=True)


def held_points(remote: Remote, vm: str, points: Iterable[RestorePoint], *, now_s: float) -> dict[str, Held]:
    """Which of ``points`` a pin or the storage's lock keeps from being deleted, by id."""
    asked = list(points)
    if not asked:
        return {}
    pins = {point: pin for point, pin in read_pins(remote, vm).items() if pin.holds(now_s)}
    locks = Locks(remote, now_s=now_s)
    found: dict[str, Held] = {}
    for point in asked:
        held = locks.of_point(point)
        if held is None and point.id in pins:
            held = _held(point.id, pins[point.id])
        if held is not None:
            found[point.id] = held
    return found


def _held(point: str, pin: Pin) -> Held:
    how = f'{PINNED} ("{pin.note}")' if pin.note else PINNED
    return Held(what=f"restore point {point}", how=how, until_s=pin.until_s, hides=False)
