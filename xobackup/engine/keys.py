"""The marks a backup leaves on a pool: keys of ``other_config``, names and texts.

Xen Orchestra's keys and meanings, so that either can continue what the other began; ours have a prefix of their own
and say which run made something, so that only a run's own leftovers are ever cleaned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from xobackup.xapi.other_config import (
    BASE_DELTA_VDI,
    CHAIN_LENGTH,
    CONTENT_KEY,
    COPY_OF,
    DATETIME,
    EXPORTED,
    JOB,
    QCOW2_FIX,
    RESET_KEYS,
    SCHEDULE,
    SR,
    VM,
)

RUN = "xobackup:run"
"""Ours: the id of the run that made the snapshot."""

REMOTES = "xobackup:remotes"
"""Ours: names of the remotes that published the snapshot, comma separated. What a remote that is away ends with."""

CLAIM = "xobackup:active:"
"""Ours: begins the key by which a living run says that it works on a VM (:mod:`xobackup.engine.leftovers.claim`)."""

SHUTDOWN = "xobackup:shutdown"
"""Ours, on a live VM: who shut it down for a backup (:mod:`xobackup.engine.taking.owed`)."""

KEPT = "xobackup:kept"
"""Ours, on the snapshot of a job without remotes: it is complete, and stays for its own sake."""

DISKLESS = "xobackup:diskless"
"""Ours, on a snapshot: it had no disks from the start; others without any were being removed."""

REPLICA = "xobackup:replica"
"""Ours, on a replica and its restore points: the job and the VM it is of (``<job id> <vm uuid>``)."""

POINT = "xobackup:point"
"""Ours, on a restore point of a replica: its own uuid. Written last; a copy that somebody makes of it has another."""

LIVE = "xobackup:disk"
"""Ours, on a replica's disk: uuid of the live disk it is of."""

HEALTH_CHECK = "xobackup:health-check"
"""Ours, on what a health check restores: its id, and on the VM then the VM's own uuid (a copy of it has another)."""

FAILED_OVER = "xobackup:failed-over"
"""Ours, on a VM that was failed over: plan, uuid of the VM it is of, restore point, its own uuid
(:mod:`xobackup.engine.dr.failover`)."""

KIN = "xobackup:kin"
"""Ours, on a disk of a VM that was failed over: the content key of the restore point's disk it was cloned from."""

SWAP = "xobackup:swap"
"""Ours, on a VM whose disks are being exchanged (:mod:`xobackup.engine.restore.swap`)."""

SWAPPED = "xobackup:swapped"
"""Ours, beside it: the exchange of that run is complete, and is only to be tidied up after."""

RESET = (*RESET_KEYS, COPY_OF, RUN, REMOTES, KEPT, DISKLESS, POINT, LIVE)
"""Removed from a live VM and its disks before a snapshot copies them, and from what was restored."""

_TEMPORARY = "xobackup-temp-snapshot"
_BLOCKED = "xobackup: migration is blocked during a backup"
_BLOCKED_BY = re.compile(re.escape(_BLOCKED) + r" \(job ([^()]+)\)")
_TASK = re.compile(r"xobackup ([^ :]+): ")


def temporary_name(job_id: str, run_id: str) -> str:
    """The name of a snapshot until it is marked and renamed."""
    return f"{_TEMPORARY} {job_id} {run_id}"


def is_temporary(name: str, *, job_id: str = "", run_id: str = "") -> bool:
    """Whether ``name`` is a temporary one of that job, or of that run."""
    words = name.split(" ")
    return (
        len(words) == 3
        and words[0] == _TEMPORARY
        and job_id in ("", words[1])
        and run_id in ("", words[2])
        and bool(job_id or run_id)
    )


def whose_temporary(name: str) -> tuple[str, str]:
    """Job and run of a snapshot that still has its temporary name; empty for any other name."""
    words = name.split(" ")
    return (words[1], words[2]) if len(words) == 3 and words[0] == _TEMPORARY else ("", "")


def claim_key(run_id: str, turn: int) -> str:
    """The key of a claim. There are two, so that the old one goes only when the new one is there."""
    return f"{CLAIM}{run_id}.{turn % 2}"


def run_of_claim(key: str) -> str:
    """The run whose claim ``key`` is; empty for any other key."""
    run_id, dot, turn = key.removeprefix(CLAIM).rpartition(".")
    return run_id if key.startswith(CLAIM) and dot and turn in ("0", "1") else ""


def without_claims(config: Mapping[str, str]) -> dict[str, str]:
    """``other_config`` as it is when nobody works on the VM: what is copied elsewhere."""
    return {key: value for key, value in config.items() if not key.startswith(CLAIM) and key != SHUTDOWN}


def blocked_text(job_id: str) -> str:
    """Why migration is blocked, in the words by which it is recognised later."""
    return f"{_BLOCKED} (job {job_id})"


def task_label(run_id: str, what: str) -> str:
    """The name of a task of a run."""
    return f"xobackup {run_id}: {what}"


def is_task_of(label: str, run_id: str) -> bool:
    return bool(run_id) and label.startswith(f"xobackup {run_id}: ")


def run_of_task(label: str) -> str:
    """The run whose task that is; empty for tasks of others."""
    matched = _TASK.match(label)
    return matched.group(1) if matched else ""


def job_of_blocked_text(text: object) -> str:
    """The job that blocks an operation; empty for what others have blocked, Xen Orchestra included."""
    matched = _BLOCKED_BY.fullmatch(text) if isinstance(text, str) else None
    return matched.group(1) if matched else ""


def is_blocked_text(text: object) -> bool:
    """Whether a block of migration was put there by a backup, ours or Xen Orchestra's."""
    return isinstance(text, str) and (text.startswith(_BLOCKED) or text == "VM migration is blocked during backup")


__all__ = [
    "BASE_DELTA_VDI",
    "CHAIN_LENGTH",
    "CLAIM",
    "CONTENT_KEY",
    "COPY_OF",
    "DATETIME",
    "DISKLESS",
    "EXPORTED",
    "FAILED_OVER",
    "HEALTH_CHECK",
    "JOB",
    "KEPT",
    "KIN",
    "LIVE",
    "POINT",
    "QCOW2_FIX",
    "REMOTES",
    "REPLICA",
    "RESET",
    "RUN",
    "SCHEDULE",
    "SHUTDOWN",
    "SR",
    "VM",
    "blocked_text",
    "claim_key",
    "is_blocked_text",
    "is_task_of",
    "is_temporary",
    "job_of_blocked_text",
    "run_of_claim",
    "run_of_task",
    "task_label",
    "temporary_name",
    "whose_temporary",
    "without_claims",
]
