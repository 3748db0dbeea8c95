"""What health checks found, by VM and restore point: a file per VM in the state directory.

All of it can be lost: then every VM is due, and no restore point is known as tested.

``health/<vm uuid>.json``: the last result as :meth:`CheckResult.as_data` gives it, ``checked_s`` (Unix time), and
``tests``: the last test of each restore point, the newest last, as :func:`_short` makes them.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from xobackup.engine.health.request import CheckResult

TESTS_MAX = 200
"""Restore points remembered per VM: more than most retentions keep, and small enough to read each time."""
SHORT: dict[str, type | tuple[type, ...]] = {
    "remote": str,
    "point": str,
    "ok": bool,
    "reason": str,
    "checked_s": (int, float),
}
"""What must be there for a remembered test to count."""


def remember(state_directory: Path, result: CheckResult, *, now_s: float) -> None:
    """Note it: the VM's last check, and the restore point's."""
    directory = state_directory / "health"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{_file_name(result.vm_uuid)}.json"
    own = (result.remote, result.point)
    others = [one for one in _tests(_read(path)) if (one["remote"], one["point"]) != own]
    tests = [*others, _short(result, now_s)][-TESTS_MAX:]
    new = path.with_suffix(".new")
    new.write_text(json.dumps({**result.as_data(), "checked_s": now_s, "tests": tests}))
    new.replace(path)


def last_checks(state_directory: Path) -> dict[str, dict[str, Any]]:
    """By VM uuid; files that cannot be read count as no check."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((state_directory / "health").glob("*.json")):
        data = _read(path)
        if isinstance(data.get("checked_s"), int | float):
            found[str(data.get("vm_uuid"))] = data
    return found


def points_tested(state_directory: Path, vm_uuid: str, remote: str) -> dict[str, dict[str, Any]]:
    """The last test of each restore point (by id) of the VM on that remote, the newest last; what is not known is
    not there. ``boot_s``: seconds from the start of the VM to its last answer, without the restore."""
    tests = _tests(_read(state_directory / "health" / f"{_file_name(vm_uuid)}.json"))
    return {one["point"]: one for one in tests if one["remote"] == remote}


def _short(result: CheckResult, now_s: float) -> dict[str, Any]:
    return {
        "remote": result.remote,
        "point": result.point,
        "ok": result.ok,
        "reason": result.reason,
        "checked_s": now_s,
        "pool": result.pool,
        "sr": result.sr,
        "boot_s": round(sum(step.seconds for step in result.steps[1:]), 3),
        "rto_s": round(result.rto_s, 3),
    }


def _tests(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of a file that make sense."""
    tests = data.get("tests")
    return [
        one
        for one in (tests if isinstance(tests, list) else [])
        if isinstance(one, dict) and all(isinstance(one.get(key), kind) for key, kind in SHORT.items())
    ]


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        data = json.loads(path.read_text())
        if isinstance(data, dict):
            return data
    return {}


def _file_name(uuid: str) -> str:
    return "".join(letter if letter.isalnum() or letter == "-" else "_" for letter in uuid)
