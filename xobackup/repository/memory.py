"""Memory images of VMs: disks that nothing ever continues, each in a directory of its own, and how those go away.

An image has a new uuid in every backup, so it lies alone in ``vdis/<job>/<its own uuid>/``. When its restore point is
gone nothing in the directory is named any more, which by itself proves nothing: a JSON may have been lost, and what
nobody names is quarantined on request, never deleted. So a note is put under ``.xobackup/memory/<vm>/`` before the
first byte of an image is written, and before a restore point with one is deleted: what the note names holds memory
and nothing else. A directory with a note that no restore point names is deleted, when every restore point could be
read; then the note goes. A lost note costs space, nothing else.
"""

from __future__ import annotations

from remotes.contract import Kind, Remote
from remotes.errors import NotFound
from xobackup.repository.layout import checked_uuid, lineage_path, memory_notes_directory, split_disk_path
from xobackup.repository.metadata import RestorePoint


def note_memory(remote: Remote, vm: str, lineage: str) -> None:
    """Say that ``lineage`` (``vdis/<job>/<uuid>``) holds a memory image and nothing else."""
    remote.put(_note_name(vm, lineage), b"")


def forget_memory(remote: Remote, vm: str, lineage: str) -> None:
    """It is gone."""
    remote.delete(_note_name(vm, lineage), missing_ok=True)


def noted_memory(remote: Remote, vm: str) -> frozenset[str]:
    """The lineages that have a note."""
    try:
        entries = remote.list(memory_notes_directory(vm))
    except NotFound:
        return frozenset()
    names = [entry.name.partition(".") for entry in entries if entry.kind is Kind.FILE]
    return frozenset(lineage_path(job, vdi) for job, dot, vdi in names if dot and job and vdi)


def memory_lineages(point: RestorePoint) -> list[str]:
    """Where the memory of a restore point lies."""
    return [split_disk_path(disk.path)[0] for disk in point.disks if disk.memory]


def _note_name(vm: str, lineage: str) -> str:
    _, job, vdi = lineage.split("/")
    return f"{memory_notes_directory(vm)}/{checked_uuid('job', job)}.{checked_uuid('disk', vdi)}"
