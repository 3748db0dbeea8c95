"""Restore points that were hidden, brought back from what a versioned remote still has.

A point is brought back only when nothing that it needs has been replaced since: an object of another time in a chain
would make another disk of it. (It can still be restored from the past.) Order, as in publishing: the objects of disks
and images first, then the aliases, the chain's oldest first, then the restore point. Whatever stops this in between
leaves objects that no restore point names; doing it again goes on. Nothing is replaced, nothing deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from remotes.contract import Kind, Remote
from remotes.errors import AlreadyExists, NotFound
from remotes.faces import Past, Since
from remotes.names import join
from xobackup.repository.codecs import CODECS
from xobackup.repository.layout import CHECKSUM_SUFFIX, metadata_name, split_disk_path, vm_directory
from xobackup.repository.lineage import read_lineage
from xobackup.repository.metadata import RestorePoint
from xobackup.repository.repository import Repository
from xobackup.repository.workspace import RemoteWorkspace

_DEPTH_MAX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A file that a point needs. ``last``: it leads to others, which come before it."""

    name: str
    size_bytes: int
    last: bool
    since: Since


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelete:
    """What bringing back one point takes. ``problem``: why it cannot be; ``""``: it can."""

    point: RestorePoint
    pieces: tuple[Piece, ...]
    problem: str = ""

    @property
    def hidden(self) -> tuple[Piece, ...]:
        """In the order in which they come back."""
        missing = [piece for piece in self.pieces if piece.since is Since.HIDDEN]
        return tuple(sorted(missing, key=lambda piece: piece.last))

    @property
    def size_bytes(self) -> int:
        return sum(piece.size_bytes for piece in self.hidden)


def plan_undelete(then: Repository, past: Past, vm: str, ids: Collection[str] | None) -> list[Undelete]:
    """What the points ``ids`` (by default all that are hidden, or not whole any more) of ``vm`` take. ``then`` is the
    repository as it was, ``past`` the same without its encryption."""
    listing = then.points(vm)
    plans = [_plan(then, past, point) for point in listing.points if ids is None or point.id in ids]
    return plans if ids is not None else [plan for plan in plans if plan.problem or plan.hidden]


def _plan(then: Repository, past: Past, point: RestorePoint) -> Undelete:
    names: dict[str, bool] = {}
    try:
        for disk in point.disks:
            names |= _disk_files(then.remote, point.vm_uuid, disk.path)
        if point.xva is not None:
            image = f"{vm_directory(point.vm_uuid)}/{point.xva}"
            names[image] = False
            if _is_there(then.remote, image + CHECKSUM_SUFFIX):
                names[image + CHECKSUM_SUFFIX] = False
        names[metadata_name(point.vm_uuid, point.id)] = True
        pieces = tuple(
            Piece(name=name, size_bytes=past.stat(name).size_bytes, last=last, since=past.since(name))
            for name, last in names.items()
        )
    except (_Incomplete, NotFound) as error:
        return Undelete(point=point, pieces=(), problem=f"it was not whole at that time: {error}")
    changed = [piece.name for piece in pieces if piece.since is Since.REPLACED]
    problem = ""
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        problem = f"{changed[0]}{more} was replaced since (a merge, or an attack): restore it with --as-of instead"
    return Undelete(point=point, pieces=pieces, problem=problem)


class _Incomplete(Exception):
    """A disk that could not be restored as it was."""


def _disk_files(remote: Remote, vm: str, path: str) -> dict[str, bool]:
    """Everything the disk is made of, its chain included, the oldest first, and whether it comes last."""
    directory, name = split_disk_path(path)
    root = f"{vm_directory(vm)}/{directory}"
    lineage = read_lineage(RemoteWorkspace(remote, root), directory, CODECS)
    if name in lineage.merging():
        raise _Incomplete(f"{path} was being merged; another minute may be better")
    chain = lineage.chain(name)
    if chain is None:
        raise _Incomplete(lineage.broken_chain(name) or name)
    found: dict[str, bool] = {}
    for member in chain:
        if member.data is not None:
            found |= dict.fromkeys(_below(remote, join(root, member.data)), False)
        found[join(root, member.name)] = True
    return found


def _below(remote: Remote, directory: str, depth: int = 0) -> Iterator[str]:
    for entry in remote.list(directory):
        name = join(directory, entry.name)
        if entry.kind is Kind.FILE:
            yield name
        elif depth < _DEPTH_MAX:
            yield from _below_if_any(remote, name, depth + 1)


def _below_if_any(remote: Remote, directory: str, depth: int) -> list[str]:
    try:
        return list(_below(remote, directory, depth))
    except NotFound:  # only of another time
        return []


def _is_there(remote: Remote, name: str) -> bool:
    try:
        remote.stat(name)
    except NotFound:
        return False
    return True


def apply_undelete(
    past: Past,
    plans: Iterable[Undelete],
    *,
    check: Callable[[], None],
    parallel: int,
    done: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """Bring back what can be, under the VM's lock; returns the ids of the points. ``done`` hears of bytes."""
    brought: set[str] = set()

    def bring(piece: Piece) -> None:
        check()
        try:
            past.bring_back(piece.name)
        except AlreadyExists:
            if past.since(piece.name) is not Since.HIDDEN:
                raise
            # an earlier attempt, since the plan was made: nobody else writes while we hold the lock
        done(piece.size_bytes)

    ids: list[str] = []
    with ThreadPoolExecutor(max(1, parallel), thread_name_prefix="undelete") as pool:
        for plan in plans:
            if plan.problem:
                continue
            todo = [piece for piece in plan.hidden if piece.name not in brought]
            list(pool.map(bring, [piece for piece in todo if not piece.last]))
            for piece in todo:
                if piece.last:
                    bring(piece)
            brought |= {piece.name for piece in todo}
            ids.append(plan.point.id)
    return ids
