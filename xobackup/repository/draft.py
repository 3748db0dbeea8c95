"""A restore point's JSON, as it is written: exactly Xen Orchestra's keys in its order, compact, no others.

The draft comes from the engine (records of XAPI as they are); ``size`` and ``isVhdDifferencing`` come from the
disks' own footers, never from a guess. A JSON that already exists (after a merge) keeps its keys and their order,
also unknown ones: only the values that changed are replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xobackup.repository.errors import BadMetadata
from xobackup.repository.json_text import dump

VERSION = "2.0.0"
NULL_REF = "OpaqueRef:NULL"
KEYS_DELTA = (
    "includeNonNbdQcow2Fix",
    "isVhdDifferencing",
    "jobId",
    "mode",
    "scheduleId",
    "timestamp",
    "vbds",
    "vdis",
    "version",
    "vifs",
    "vhds",
    "vm",
    "vmSnapshot",
    "vtpms",
    "tags",
    "size",
)
KEYS_FULL = ("jobId", "mode", "scheduleId", "timestamp", "version", "vm", "vmSnapshot", "xva", "size", "tags")
_REQUIRED_FULL = ("jobId", "scheduleId", "timestamp", "vm", "vmSnapshot")
_REQUIRED = ("jobId", "scheduleId", "timestamp", "vbds", "vdis", "vifs", "vhds", "vm", "vmSnapshot")


def complete(draft: Mapping[str, Any], name: str, *, size: int, differencing: Mapping[str, bool]) -> dict[str, Any]:
    """The object to publish: defaults filled in, keys in order. :class:`BadMetadata` names what is missing."""
    _check(draft, name, mode="delta", required=_REQUIRED, known=KEYS_DELTA)
    values: dict[str, Any] = {
        **draft,
        "includeNonNbdQcow2Fix": draft.get("includeNonNbdQcow2Fix", True),
        "isVhdDifferencing": {ref: differencing[ref] for ref in draft["vhds"]},
        "mode": "delta",
        "version": VERSION,
        "vtpms": draft.get("vtpms") or [],
        "tags": draft.get("tags") or [],
        "size": size,
    }
    return {key: values[key] for key in KEYS_DELTA}


def complete_full(draft: Mapping[str, Any], name: str, *, image: str, size: int) -> dict[str, Any]:
    """The object to publish for a full backup, whose image (a base name) has ``size`` bytes."""
    _check(draft, name, mode="full", required=_REQUIRED_FULL, known=KEYS_FULL)
    values = {**draft, "mode": "full", "version": VERSION, "xva": f"./{image}", "size": size}
    values["tags"] = draft.get("tags") or []
    return {key: values[key] for key in KEYS_FULL}


def _check(
    draft: Mapping[str, Any], name: str, *, mode: str, required: tuple[str, ...], known: tuple[str, ...]
) -> None:
    missing = [key for key in required if draft.get(key) is None]
    if missing:
        raise BadMetadata(name, f"cannot be published without {', '.join(missing)}")
    unknown = sorted(set(draft) - set(known))
    if unknown:
        raise BadMetadata(name, f"cannot be published with unknown keys {', '.join(unknown)}")
    if draft.get("mode", mode) != mode:
        raise BadMetadata(name, f"expected mode {mode}, found {draft['mode']!r}")
    snapshot = draft["vmSnapshot"]
    if not isinstance(snapshot, dict) or "suspend_VDI" not in snapshot:
        raise BadMetadata(name, "vmSnapshot needs suspend_VDI: Xen Orchestra cannot restore without it")


def rewritten(metadata: Mapping[str, Any], *, size: int, differencing: Mapping[str, bool]) -> dict[str, Any] | None:
    """``metadata`` with the truth about its disks, or ``None`` when it says that already."""
    hints = metadata.get("isVhdDifferencing")
    told = {**hints, **differencing} if isinstance(hints, dict) else dict(differencing)
    if metadata.get("size") == size and hints == told:
        return None
    return {**metadata, "isVhdDifferencing": told, "size": size}


def encode(metadata: Mapping[str, Any], name: str) -> bytes:
    """The bytes of the file."""
    return dump(dict(metadata), name)
