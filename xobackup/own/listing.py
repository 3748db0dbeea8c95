"""What is there of our own: complete listings or an error."""

from __future__ import annotations

from dataclasses import dataclass

from remotes.contract import Kind, Remote
from remotes.errors import NotFound
from xobackup.own.errors import NothingThere
from xobackup.own.layout import ROOT, directory, is_machine, manifest_name, stamp_of_manifest, stamp_of_part
from xobackup.own.manifest import Manifest, unpack

MANIFEST_BYTES_MAX = 4 << 20
LATEST = "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Names in one machine's directory. ``complete``: stamps with a manifest, in order; ``parts``: by stamp."""

    complete: tuple[str, ...]
    parts: dict[str, tuple[str, ...]]


def machines(remote: Remote) -> list[str]:
    try:
        entries = remote.list(ROOT)
    except NotFound:
        return []
    return [one.name for one in entries if one.kind is Kind.DIRECTORY and is_machine(one.name)]


def look(remote: Remote, machine: str) -> Found:
    """Raises ``RemoteError``."""
    try:
        entries = remote.list(directory(machine))
    except NotFound:
        return Found(complete=(), parts={})
    complete, parts = [], dict[str, tuple[str, ...]]()
    for entry in entries:
        if stamp := stamp_of_manifest(entry.name):
            complete.append(stamp)
        elif stamp := stamp_of_part(entry.name):
            parts[stamp] = (*parts.get(stamp, ()), entry.name)
    return Found(complete=tuple(sorted(complete)), parts=parts)


def read_manifest(remote: Remote, machine: str, stamp: str) -> Manifest:
    """Raises ``Damaged``, ``RemoteError``."""
    name = f"{directory(machine)}/{manifest_name(stamp)}"
    return unpack(remote.get(name, limit_bytes=MANIFEST_BYTES_MAX), name)


def choose(remote: Remote, machine: str | None, at: str) -> tuple[str, str]:
    """The machine and the stamp that somebody means: the only machine when none is given; ``latest``, or the one
    backup whose stamp begins like that. Raises ``NothingThere``."""
    known = machines(remote)
    if machine is None:
        if len(known) != 1:
            told = "holds no backup of a configuration" if not known else f"holds those of {', '.join(known)}"
            raise NothingThere(f"{remote.url} {told}", hint="say of which: --machine NAME" if known else "")
        machine = known[0]
    found = look(remote, machine).complete
    fitting = list(found[-1:]) if at == LATEST else [stamp for stamp in found if stamp.startswith(at)]
    if len(fitting) != 1:
        newest = ", ".join(found[-5:]) or "none"
        raise NothingThere(f"{remote.url}: {at!r} is not one backup of {machine} (newest: {newest})")
    return machine, fitting[0]
