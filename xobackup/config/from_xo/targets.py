"""Ids of a job's remotes, pools and SRs, and settings that hold for some of them only."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Collection, Mapping
from typing import Any

from xobackup.config.from_xo.records import XoJob
from xobackup.config.from_xo.remarks import Level, plain

_RETENTION = frozenset({"exportRetention", "longTermRetention"})
_HARMLESS = frozenset({"deleteFirst"})


def ids_of(pattern: Any) -> list[str] | None:
    """``{id: "x"}`` and ``{id: {__or: ["x", "y"]}}``; ``None`` for anything else. Nothing means none."""
    if pattern is None:
        return []
    value = pattern.get("id") if isinstance(pattern, dict) else None
    if isinstance(value, dict) and set(value) == {"__or"}:
        value = value["__or"]
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return list(dict.fromkeys(value))
    return None


def is_path_id(text: str) -> bool:
    """Whether an id is a uuid as the repository has it in its paths."""
    try:
        return str(uuids.UUID(text)) == text
    except ValueError:
        return False


def own_settings(
    job: XoJob,
    *,
    schedules: Collection[str],
    remotes: Collection[str],
    vms: Collection[str],
    names: Mapping[str, str],
) -> tuple[list[tuple[Level, str]], list[str]]:
    """What is said of settings that hold for one VM or one target, and why the job is refused for them.

    A longer retention of a single VM or remote would be cut to the job's by the first run.
    """
    told: list[tuple[Level, str]] = []
    refused: list[str] = []
    for key, values in job.settings.items():
        if key in ("", *schedules) or not values:
            continue
        given = ", ".join(sorted(plain(name, most=40) for name in values))
        if key in remotes or key in vms:
            what = (
                f'remote "{plain(names.get(key, key), most=60)}"' if key in remotes else f"VM {plain(key, most=60)}"
            )
            if _RETENTION & set(values):
                refused.append(f"settings of its own for {what} ({given}): its retention would become the job's")
            elif set(values) <= _HARMLESS:
                told.append((Level.NOTE, f"settings for {what} ({given}): not needed"))
            else:
                told.append((Level.DIFFERS, f"settings for {what} ({given}): not translated, the job's hold for it"))
        else:
            told.append(
                (Level.NOTE, f"settings for {plain(key, most=60)} ({given}): nothing in this job has that id")
            )
    return told, refused
