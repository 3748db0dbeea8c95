"""What tests of plans found: a file per test in the state directory. All of it can be lost.

``dr/<plan>/<time>-<id>.json``: as :meth:`xobackup.engine.dr.report.Trial.as_data` gives it. The newest
:data:`KEPT` of a plan are kept.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from xobackup.clock import utc
from xobackup.engine.dr.report import Trial

KEPT = 100


def remember(state_directory: Path, trial: Trial, *, now_s: float, run_id: str) -> Path:
    """Write it, whole or not at all; returns where."""
    directory = state_directory / "dr" / trial.plan
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{utc(now_s):%Y%m%dT%H%M%SZ}-{run_id[:8]}.json"
    new = path.with_suffix(".new")
    new.write_text(json.dumps(trial.as_data()))
    new.replace(path)
    for old in sorted(directory.glob("*.json"))[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def last_trials(state_directory: Path, plan: str) -> list[dict[str, Any]]:
    """Newest first; files that cannot be read are left out."""
    found: list[dict[str, Any]] = []
    for path in sorted((state_directory / "dr" / plan).glob("*.json"), reverse=True):
        with suppress(OSError, ValueError):
            data = json.loads(path.read_text())
            if isinstance(data, dict) and isinstance(data.get("vms"), list) and data.get("plan") == plan:
                found.append(data)
    return found
