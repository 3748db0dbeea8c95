"""Which process wrote a note, and whether it is dead for certain.

Certain only on the machine that wrote it, since the same boot and among the same processes (containers of one machine
do not see each other's): then a process that is not there, or began at another time, is another one.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
_START = 19
"""The position of the start time in ``/proc/<pid>/stat`` behind the name (field 22)."""


def this_process() -> dict[str, Any]:
    """What a note says of the process that writes it."""
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "boot": _boot(),
        "processes": _processes(),
        "started": _started(pid),
    }


def surely_dead(note: Mapping[str, Any]) -> bool:
    """Whether the process that wrote ``note`` is proven to be gone. False means: nobody knows."""
    pid, boot, processes = note.get("pid"), note.get("boot"), note.get("processes")
    if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 0 or not boot or not processes:
        return False
    if boot != _boot() or processes != _processes():
        return False
    started = _started(pid)
    return not started or (bool(note.get("started")) and started != note["started"])


def told(note: Mapping[str, Any]) -> str:
    """The process for a message."""
    purpose = f" ({note['purpose']})" if note.get("purpose") else ""
    return f"pid {note.get('pid')} on {note.get('host')}, since Unix second {note.get('since')}{purpose}"


def _boot() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _processes() -> str:
    """The namespace that gives process ids their meaning."""
    try:
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When the process began, in ticks since the boot; empty when it is not there."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return fields[_START]
    except (OSError, IndexError, UnicodeDecodeError):
        return ""
