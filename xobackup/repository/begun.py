"""Disks that were begun where a disk has its place from the start, and which of them nobody will finish.

On remotes that cannot rename, the objects of a disk go to ``data/<ts>.vhd/`` at once; its alias comes last. Objects
without an alias are either left of an interrupted run, or somebody's work at this very moment. So a note is put
before the first of them, and removed when the alias is there or the objects are gone:

    .xobackup/begun/<vm>/<job>/<live vdi>/<ts>.vhd.json     who writes it, and whether under a lease

They count as left over only when that is certain: noted under a lease (whoever looks in order to delete holds it
now); noted by a process that is proven to be dead; or, for everything else (Xen Orchestra's, or without a lock),
when nothing in them has changed for a day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from remotes.contract import Kind, Remote
from remotes.errors import NotFound, RemoteError
from remotes.names import join
from xobackup.repository.errors import BadMetadata
from xobackup.repository.findings import Problem, Severity
from xobackup.repository.holder import surely_dead, this_process
from xobackup.repository.json_text import dump, parse_object
from xobackup.repository.layout import JSON_SUFFIX, begun_directory, split_disk_path, vm_directory
from xobackup.repository.lineage import Lineage

QUIET_S = 24 * 3600.0
"""Nobody who writes a disk is silent that long."""
_NOTE_BYTES_MAX = 4096
_DEPTH_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunDisk:
    """The note on the objects ``data`` (``data/<ts>.vhd``) of a lineage."""

    remote: Remote
    vm: str
    lineage: str
    data: str

    def note(self) -> None:
        """They are about to come."""
        note = {"version": 1, **this_process(), "leased": self.remote.capabilities.conditional_put}
        self.remote.put(_note_name(self.vm, self.lineage, self.data), dump(note))

    def forget(self) -> None:
        """They have their alias, or are gone."""
        forget_begun(self.remote, self.vm, self.lineage, self.data)


def forget_begun(remote: Remote, vm: str, lineage: str, data: str) -> None:
    """They have their alias, or are gone."""
    remote.delete(_note_name(vm, lineage, data), missing_ok=True)


def forget_settled(remote: Remote, vm: str, lineage: Lineage) -> None:
    """Remove notes that a crash left: of objects that have their alias, or are gone. Needs the lock."""
    if remote.capabilities.atomic_rename:
        return
    directory = begun_directory(vm, lineage.path)
    try:
        entries = remote.list(directory)
    except NotFound:
        return
    waiting = {split_disk_path(data)[1] for data in (*lineage.orphan_data, *lineage.fresh_data)}
    for entry in entries:
        if entry.name.removesuffix(JSON_SUFFIX) not in waiting:
            remote.delete(join(directory, entry.name), missing_ok=True)


def settled(remote: Remote, vm: str, lineage: Lineage, *, now_s: float) -> Lineage:
    """``lineage`` with only those objects without an alias in ``orphan_data`` that are left over for certain.

    Where a lock keeps everybody away, Xen Orchestra too, they all are.
    """
    if remote.capabilities.exclusive_directories or not lineage.orphan_data:
        return lineage
    certain: list[str] = []
    problems = list(lineage.problems)
    for data in lineage.orphan_data:
        doubt = _doubt(remote, vm, lineage.path, data, now_s)
        if doubt is None:
            certain.append(data)
            continue
        path = f"{vm_directory(vm)}/{lineage.path}/{data}"
        problems.append(Problem(code="data-fresh", severity=Severity.INFO, path=path, message=doubt))
    fresh = tuple(data for data in lineage.orphan_data if data not in certain)
    return replace(lineage, orphan_data=tuple(certain), fresh_data=fresh, problems=tuple(problems))


def _doubt(remote: Remote, vm: str, lineage: str, data: str, now_s: float) -> str | None:
    """Why objects without an alias may be somebody's work; ``None`` when they are not."""
    name = _note_name(vm, lineage, data)
    try:
        note = parse_object(remote.get(name, limit_bytes=_NOTE_BYTES_MAX), name)
    except (NotFound, BadMetadata):
        note = {}
    if note.get("leased") is True or surely_dead(note):
        return None
    try:
        changed_s = max(_times(remote, f"{vm_directory(vm)}/{lineage}/{data}"), default=0.0)
    except RemoteError as error:
        return f"no alias names these objects, and how old they are cannot be read: {error.problem}"
    quiet_s = now_s - changed_s
    if quiet_s > QUIET_S:
        return None
    return (
        "no alias names these objects, but they may be somebody's work: "
        f"they changed {max(0, int(quiet_s // 60))} minutes ago, and count as left over after a day"
    )


def _times(remote: Remote, directory: str, depth: int = 0) -> Iterator[float]:
    """When the objects below a directory were written."""
    for entry in remote.list(directory):
        if entry.kind is Kind.FILE:
            yield entry.modified_s
        elif depth < _DEPTH_MAX:
            yield from _times(remote, join(directory, entry.name), depth + 1)


def _note_name(vm: str, lineage: str, data: str) -> str:
    return f"{begun_directory(vm, lineage)}/{split_disk_path(data)[1]}{JSON_SUFFIX}"
