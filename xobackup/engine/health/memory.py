"""What health checks found last, by VM: a file per VM in the state directory.

All of it can be lost: then every VM is due.

``health/<vm uuid>.json``: the result as :meth:`CheckResult.as_data` gives it, and ``checked_s`` (Unix time).
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from xobackup.engine.health.request import CheckResult


def remember(state_directory: Path, result: CheckResult, *, now_s: float) -> None:
    """Replace what was known of the VM."""
    directory = state_directory / "health"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{_file_name(result.vm_uuid)}.json"
    new = path.with_suffix(".new")
    new.write_text(json.dumps({**result.as_data(), "checked_s": now_s}))
    new.replace(path)


def last_checks(state_directory: Path) -> dict[str, dict[str, Any]]:
    """By VM uuid; files that cannot be read count as no check."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((state_directory / "health").glob("*.json")):
        with suppress(OSError, ValueError):
            data = json.loads(path.read_text())
            if isinstance(data, dict) and isinstance(data.get("checked_s"), int | float):
                found[str(data.get("vm_uuid"))] = data
    return found


def _file_name(uuid: str) -> str:
    return "".join(letter if letter.isalnum() or letter == "-" else "_" for letter in uuid)
