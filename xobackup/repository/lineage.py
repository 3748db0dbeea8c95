"""All disks of one directory ``vdis/<job>/<live vdi>/``: their headers, their links, and what is wrong there.

Two things must hold for a link: the child names the parent's file, and its parent uuid is the parent's footer uuid.
A disk is *broken* when its bytes are proven wrong, *unknown* when it could not be read or is valid but not
understood here; both stay out of chains, but only the first is ever called damage, and neither is deleted for it.
A lineage is *certain* when everything in it was read and understood.

While a merge is under way (a state file lies there) its root may carry the target's uuid already: the link to it
counts as whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from uuid import UUID

from remotes.contract import Entry, Kind
from remotes.errors import NotFound, RemoteError
from remotes.names import is_temporary
from vhd.alias import is_alias, read_alias
from vhd.codec import Codec
from vhd.directory import VhdDirectory
from vhd.errors import ChainError, Malformed, VhdError
from vhd.findings import Finding
from vhd.layout import streamed_size_bytes
from vhd.merge.legacy import resolve_legacy
from vhd.merge.state import LegacyState, MergeState, root_of, unpack_state
from vhd.parents import parent_names
from vhd.reader import VhdFile
from vhd.workspace import is_disk, open_disk
from xobackup.repository.findings import Problem, Severity
from xobackup.repository.layout import DATA, PART_SUFFIX
from xobackup.repository.parallel import map_parallel
from xobackup.repository.workspace import RemoteWorkspace


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberDisk:
    """One disk, from its footer and header. ``name`` is its base name."""

    name: str
    uuid: UUID
    virtual_size_bytes: int
    streamed_size_bytes: int
    """What Xen Orchestra calls its size."""
    table_entries: int
    differencing: bool
    parent_uuid: UUID | None = None
    parents: tuple[str, ...] = ()
    """Names under which it looks for its parent, best first."""
    data: str | None = None
    """For an alias: the directory behind it, relative to the lineage."""
    codec: str | None = None
    """For an alias: the compression, ``""`` for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A disk that could not be opened. ``proven`` when its bytes are wrong, not just out of reach."""

    name: str
    proven: bool
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """See the module's head. ``path`` is relative to the VM's directory."""

    path: str
    members: Mapping[str, MemberDisk]
    """By name, ascending."""
    unreadable: Mapping[str, Unreadable] = field(default_factory=dict)
    states: Mapping[str, MergeState | LegacyState] = field(default_factory=dict)
    """Merges under way, by the name of the state file."""
    problems: tuple[Problem, ...] = ()
    parts: tuple[str, ...] = ()
    """Disks being written, or left of an interrupted run: ours."""
    temporaries: tuple[str, ...] = ()
    orphan_data: tuple[str, ...] = ()
    """Directories under ``data/`` that no alias names."""
    fresh_data: tuple[str, ...] = ()
    """Others that may be somebody's work (:mod:`xobackup.repository.begun`)."""
    certain: bool = True

    def place_of(self, name: str) -> str:
        """Under which name to look for the disk ``name``: at the end of a merge the target's is the root's."""
        if name not in self.members and name not in self.unreadable:
            for state in self._merges():
                if state.target == name and state.root in self.members:
                    return state.root
        return name

    def parent_of(self, name: str) -> MemberDisk | None:
        """The parent of a differencing disk, by name; ``None`` when it has none or it is not readable."""
        for wanted in self.members[name].parents:
            parent = self.place_of(wanted)
            if parent in self.members and parent != name:
                return self.members[parent]
            if parent in self.unreadable:
                return None
        for state in self._merges():  # disks between the root and the target go before the target does
            if name in state.chain[1:] and state.root in self.members:
                return self.members[state.root]
        return None

    def linked(self, child: MemberDisk, parent: MemberDisk) -> bool:
        """Whether the uuids say so too."""
        if child.parent_uuid == parent.uuid:
            return True
        for state in self._merges():
            if state.root == parent.name and (state.root_uuid == child.parent_uuid or child.name in state.chain):
                return True
        return False

    def _merges(self) -> list[MergeState]:
        return [state for state in self.states.values() if isinstance(state, MergeState)]

    def children(self) -> dict[str, list[str]]:
        """Names of the children of each disk."""
        found: dict[str, list[str]] = {}
        for name in self.members:
            parent = self.parent_of(name)
            if parent is not None:
                found.setdefault(parent.name, []).append(name)
        return found

    def chain(self, name: str) -> tuple[MemberDisk, ...] | None:
        """The disks from the root to ``name``; ``None`` when the chain does not hold (see :meth:`broken_chain`)."""
        return None if self.broken_chain(name) else tuple(reversed(list(self._upwards(self.place_of(name)))))

    def broken_chain(self, name: str) -> str | None:
        """Why the chain of ``name`` does not hold, or ``None`` when it does."""
        name = self.place_of(name)
        if name not in self.members:
            found = self.unreadable.get(name)
            return found.message if found else f"{name} is not there"
        for member in self._upwards(name):
            if not member.differencing:
                return None
            parent = self.parent_of(member.name)
            if parent is None:
                return f"{member.name}: its parent {member.parents[0] if member.parents else '(no name)'} is missing"
            if not self.linked(member, parent):
                return f"{member.name}: expected parent uuid {member.parent_uuid}, {parent.name} has {parent.uuid}"
        return f"{name}: its chain of parents goes in a circle"

    def _upwards(self, name: str) -> Iterator[MemberDisk]:
        seen: set[str] = set()
        member: MemberDisk | None = self.members[name]
        while member is not None and member.name not in seen:
            seen.add(member.name)
            yield member
            member = self.parent_of(member.name) if member.differencing else None

    def merging(self) -> set[str]:
        """Names of the disks that take part in a merge under way."""
        found: set[str] = set()
        for state in self.states.values():
            found.update(state.chain if isinstance(state, MergeState) else [state.root])
        return found

    def of_uuid(self, uuid: UUID) -> list[MemberDisk]:
        return [member for member in self.members.values() if member.uuid == uuid]


def read_lineage(workspace: RemoteWorkspace, path: str, codecs: Mapping[str, Codec]) -> Lineage:
    """Read one directory. A directory that is not there is an empty lineage; a failing listing raises."""
    try:
        entries = workspace.entries()
    except NotFound:
        return Lineage(path=path, members={})
    reader = _Reader(workspace, codecs)
    reader.read_states([entry.name for entry in entries if root_of(entry.name)])
    reader.read_disks([entry for entry in entries if is_disk(entry.name)])
    orphans = reader.orphan_data(entries)
    problems = [*reader.problems, *_unknown_entries(workspace, entries)]
    lineage = Lineage(
        path=path,
        members=reader.members,
        unreadable=reader.unreadable,
        states=reader.states,
        parts=tuple(entry.name for entry in entries if entry.name.endswith(PART_SUFFIX)),
        temporaries=tuple(entry.name for entry in entries if is_temporary(entry.name)),
        orphan_data=orphans,
        certain=reader.certain,
    )
    problems += list(_link_problems(workspace, lineage))
    return replace(lineage, problems=tuple(problems))


class _Reader:
    """Collects what reading one directory gives."""

    def __init__(self, workspace: RemoteWorkspace, codecs: Mapping[str, Codec]) -> None:
        self.workspace = workspace
        self.codecs = codecs
        self.members: dict[str, MemberDisk] = {}
        self.unreadable: dict[str, Unreadable] = {}
        self.states: dict[str, MergeState | LegacyState] = {}
        self.problems: list[Problem] = []
        self.certain = True

    def read_states(self, names: Iterable[str]) -> None:
        for name in names:
            try:
                state = unpack_state(self.workspace.get(name), name)
                if isinstance(state, LegacyState):  # whose chain nobody can tell keeps its root alone
                    with contextlib.suppress(VhdError):
                        state = resolve_legacy(self.workspace, state, self.codecs)
                self.states[name] = state
            except Malformed as error:
                self._doubt("merge-state", name, str(error), Severity.DAMAGE)
            except RemoteError as error:
                self._doubt("merge-state-unread", name, error.problem, Severity.UNKNOWN)

    def read_disks(self, entries: list[Entry]) -> None:
        forced = {
            member
            for state in self.states.values()
            for member in (state.chain if isinstance(state, MergeState) else [state.root])
        }

        def read(entry: Entry) -> MemberDisk | Unreadable:
            return _read_disk(self.workspace, entry, self.codecs, trailing_footer=entry.name not in forced)

        for found in map_parallel(read, entries):
            if isinstance(found, MemberDisk):
                self.members[found.name] = found
                continue
            self.unreadable[found.name] = found
            code = "disk-broken" if found.proven else "disk-unread"
            severity = Severity.DAMAGE if found.proven else Severity.UNKNOWN
            self._doubt(code, found.name, found.message, severity)

    def orphan_data(self, entries: list[Entry]) -> tuple[str, ...]:
        """Directories under ``data/`` that no readable alias names; nothing when some alias could not be read."""
        if not any(entry.name == DATA and entry.kind is Kind.DIRECTORY for entry in entries):
            return ()
        if any(is_alias(name) for name in self.unreadable):
            return ()
        named = {member.data for member in self.members.values() if member.data is not None}
        try:
            inside = self.workspace.entries(DATA)
        except RemoteError as error:
            self._doubt("data-unread", DATA, error.problem, Severity.UNKNOWN)
            return ()
        return tuple(f"{DATA}/{entry.name}" for entry in inside if f"{DATA}/{entry.name}" not in named)

    def _doubt(self, code: str, name: str, message: str, severity: Severity) -> None:
        self.certain = False
        self.problems.append(Problem(code=code, severity=severity, path=self.workspace.path(name), message=message))


def _read_disk(
    workspace: RemoteWorkspace, entry: Entry, codecs: Mapping[str, Codec], *, trailing_footer: bool
) -> MemberDisk | Unreadable:
    name = entry.name
    try:
        if entry.kind is Kind.DIRECTORY:
            return Unreadable(name=name, proven=False, message="a directory where a disk or an alias belongs")
        disk = open_disk(workspace, name, codecs, trailing_footer=trailing_footer)
        try:
            return member_of(workspace, name, disk, name)
        finally:
            disk.close()
    except Malformed as error:
        return Unreadable(name=name, proven=True, message=str(error))
    except NotFound as error:
        return Unreadable(name=name, proven=is_alias(name), message=f"{error.name} is missing")
    except (VhdError, RemoteError) as error:
        return Unreadable(name=name, proven=False, message=str(error))


def member_of(workspace: RemoteWorkspace, name: str, disk: VhdFile | VhdDirectory, place: str) -> MemberDisk:
    """What a lineage knows of an open disk. ``place`` is where it was opened: its name, or a part of that name."""
    differencing = disk.footer.differencing and disk.header is not None
    entries = disk.header.table_entries if disk.header is not None else len(disk.bat)
    try:
        parents = tuple(parent_names(name, disk.parent_candidates())) if differencing else ()
    except ChainError as error:
        raise Malformed(name, [Finding(code="parent-name", message=str(error))]) from error
    directory = isinstance(disk, VhdDirectory)
    return MemberDisk(
        name=name,
        uuid=disk.footer.uuid,
        virtual_size_bytes=disk.virtual_size_bytes,
        streamed_size_bytes=streamed_size_bytes(entries, _count_blocks(disk)),
        table_entries=entries,
        differencing=differencing,
        parent_uuid=disk.header.parent_uuid if differencing and disk.header is not None else None,
        parents=parents,
        data=(read_alias(workspace, name) if place == name else place) if directory else None,
        codec=disk.codec.name if isinstance(disk, VhdDirectory) else None,
    )


def _count_blocks(disk: VhdFile | VhdDirectory) -> int:
    return len(disk.bat.sectors()) if isinstance(disk, VhdFile) else sum(1 for _ in disk.bat)


def _unknown_entries(workspace: RemoteWorkspace, entries: list[Entry]) -> Iterator[Problem]:
    for entry in entries:
        name = entry.name
        known = is_disk(name) or root_of(name) or name == DATA or name.endswith(PART_SUFFIX) or is_temporary(name)
        if not known:
            message = "not a file of the format"
            path = workspace.path(name)
            yield Problem(code="foreign-file", severity=Severity.WARNING, path=path, message=message)


def _link_problems(workspace: RemoteWorkspace, lineage: Lineage) -> Iterator[Problem]:
    for name, member in lineage.members.items():
        why = lineage.broken_chain(name)
        if why is not None and why.startswith(name):  # said once, at the disk whose link it is
            code = "parent-uuid" if "expected parent uuid" in why else "parent-missing"
            path = workspace.path(name)
            yield Problem(code=code, severity=Severity.DAMAGE, path=path, message=why.removeprefix(f"{name}: "))
        same = [other.name for other in lineage.of_uuid(member.uuid) if other.name != name]
        if same and name not in lineage.merging():
            message = f"has the same uuid as {', '.join(same)}"
            path = workspace.path(name)
            yield Problem(code="uuid-twice", severity=Severity.WARNING, path=path, message=message)
    for name, children in lineage.children().items():
        if len(children) > 1:
            message = f"has {len(children)} children ({', '.join(children)}); a merge would destroy all but one"
            path = workspace.path(name)
            yield Problem(code="fork", severity=Severity.DAMAGE, path=path, message=message)
