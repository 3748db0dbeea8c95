"""What is in a VM's directory: its restore points, and every complaint about the rest. Never raises for content.

A listing is *certain* when every file was understood: only then may anything be deleted because no restore point
names it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from remotes.contract import Entry, Kind, Remote
from remotes.errors import Corrupt, NotFound, RemoteError
from remotes.names import is_temporary
from xobackup.repository.cache import PACKED_BYTES_MAX, unpack_cache
from xobackup.repository.errors import BadMetadata
from xobackup.repository.findings import Problem, Severity
from xobackup.repository.json_text import METADATA_BYTES_MAX
from xobackup.repository.layout import (
    CACHE,
    JSON_SUFFIX,
    VDIS,
    cache_name,
    is_image_leftover,
    is_placed_part,
    timestamp_of,
    vm_directory,
)
from xobackup.repository.metadata import RestorePoint, parse_point, point_from
from xobackup.repository.parallel import map_parallel

_IMAGE_SUFFIXES = (".xva", ".xva.checksum")


@dataclass(frozen=True, slots=True, kw_only=True)
class PointListing:
    """Restore points, oldest first; problems with what else is there; whether nothing was left in doubt."""

    points: tuple[RestorePoint, ...]
    problems: tuple[Problem, ...]
    certain: bool
    foreign: tuple[str, ...] = ()
    """Base names at the root of the VM's directory that nobody of the format wrote."""
    leftovers: tuple[str, ...] = ()
    """Temporary files of an interrupted write."""
    entries: tuple[Entry, ...] = field(default=(), repr=False)

    def point(self, identity: str) -> RestorePoint | None:
        return next((point for point in self.points if point.id == identity), None)


def list_points(remote: Remote, vm: str, *, use_cache: bool = True) -> PointListing:
    """The restore points of ``vm``. A VM without a directory has none; a listing that fails raises."""
    try:
        entries = remote.list(vm_directory(vm))
    except NotFound:
        return PointListing(points=(), problems=(), certain=True)
    leftovers = tuple(entry.name for entry in entries if _is_leftover(entry.name))
    entries = [entry for entry in entries if entry.name not in leftovers]
    names, problems, foreign, doubtful = _sorted_out(entries, vm)
    cached = _cached(remote, vm, entries, names) if use_cache else {}
    found: dict[str, RestorePoint] = {}
    for name in [name for name in names if name in cached]:
        try:
            found[name] = point_from(cached[name], vm=vm, name=_path(vm, name))
        except BadMetadata:
            del cached[name]
    results = _read_all(remote, vm, [name for name in names if name not in found])
    for name, result in results:
        if isinstance(result, Problem):
            problems.append(result)
            doubtful = True
        else:
            found[name] = result
    problems.extend(_misnamed(found.values(), vm))
    points = tuple(found[name] for name in sorted(found))
    return PointListing(
        points=points,
        problems=tuple(problems),
        certain=not doubtful,
        foreign=foreign,
        leftovers=leftovers,
        entries=tuple(entries),
    )


def _is_leftover(name: str) -> bool:
    return is_temporary(name) or is_image_leftover(name) or is_placed_part(name)


def _sorted_out(entries: Iterable[Entry], vm: str) -> tuple[list[str], list[Problem], tuple[str, ...], bool]:
    """Point ids; problems; foreign names; whether a JSON of unknown name leaves something in doubt."""
    names: list[str] = []
    problems: list[Problem] = []
    foreign: list[str] = []
    doubtful = False
    for entry in entries:
        stem = entry.name.removesuffix(JSON_SUFFIX)
        if entry.name in (CACHE, VDIS) or entry.name.endswith(CACHE):
            continue
        if entry.name.endswith(JSON_SUFFIX) and timestamp_of(stem) is not None and entry.kind is Kind.FILE:
            names.append(stem)
            continue
        image = next((suffix for suffix in _IMAGE_SUFFIXES if entry.name.endswith(suffix)), None)
        if image and timestamp_of(entry.name.removesuffix(image)) is not None:
            continue
        foreign.append(entry.name)
        is_json = entry.name.endswith(JSON_SUFFIX) and not entry.name.startswith(".")
        doubtful = doubtful or is_json
        code = "foreign-json" if is_json else "foreign-file"
        what = "a JSON that is not named by a time" if is_json else "not a file of the format"
        message = f"{what}; Xen Orchestra deletes such files"
        path = f"{vm_directory(vm)}/{entry.name}"
        problems.append(Problem(code=code, severity=Severity.WARNING, path=path, message=message))
    return names, problems, tuple(foreign), doubtful


def _cached(remote: Remote, vm: str, entries: Iterable[Entry], names: list[str]) -> dict[str, dict[str, Any]]:
    """The cache's entries that may be believed."""
    times = {entry.name: entry.modified_s for entry in entries}
    if CACHE not in times:
        return {}
    try:
        raw = remote.get(cache_name(vm), limit_bytes=PACKED_BYTES_MAX)
    except RemoteError:
        return {}
    cached = unpack_cache(raw, vm=vm)
    if cached is None or set(cached) != set(names):
        return {}
    return {name: cached[name] for name in names if times[name + JSON_SUFFIX] < times[CACHE]}


def _read_all(remote: Remote, vm: str, names: list[str]) -> list[tuple[str, RestorePoint | Problem]]:
    return list(zip(names, map_parallel(lambda name: _read(remote, vm, name), names), strict=True))


def _read(remote: Remote, vm: str, name: str) -> RestorePoint | Problem:
    path = _path(vm, name)
    try:
        return parse_point(remote.get(path, limit_bytes=METADATA_BYTES_MAX), vm=vm, name=path)
    except BadMetadata as error:
        return Problem(code=error.code, severity=Severity.DAMAGE, path=path, message=error.problem)
    except Corrupt as error:
        return Problem(code="metadata-corrupt", severity=Severity.DAMAGE, path=path, message=error.problem)
    except RemoteError as error:
        return Problem(code="metadata-unread", severity=Severity.UNKNOWN, path=path, message=error.problem)


def _misnamed(points: Iterable[RestorePoint], vm: str) -> list[Problem]:
    """Points whose name is not the second of their time stamp: readable, but sorted by two different keys."""
    found: list[Problem] = []
    for point in points:
        if timestamp_of(point.id) != point.timestamp_ms // 1000 * 1000:
            message = f"its timestamp is {point.timestamp_ms} ms, which is another time"
            found.append(
                Problem(
                    code="metadata-name",
                    severity=Severity.WARNING,
                    path=_path(vm, point.id),
                    message=message,
                    points=(point.id,),
                )
            )
    return found


def _path(vm: str, name: str) -> str:
    return f"{vm_directory(vm)}/{name}{JSON_SUFFIX}"
