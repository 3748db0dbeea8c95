"""Names of our own backups, relative to a remote's root.

    .xobackup/self/<machine>/<stamp>.json            the manifest; with it the backup is there
    .xobackup/self/<machine>/<stamp>.tar.gz.<nnnn>   what it names: one archive in pieces

``<stamp>`` is ``%Y%m%dT%H%M%SZ`` in UTC. Xen Orchestra looks at nothing of it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from xobackup.own.errors import OwnError

ROOT = ".xobackup/self"
_MACHINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_MANIFEST = re.compile(r"(\d{8}T\d{6}Z)\.json", re.ASCII)
_PART = re.compile(r"(\d{8}T\d{6}Z)\.tar\.gz\.\d{4}", re.ASCII)


def directory(machine: str) -> str:
    """Where a machine's are. Raises ``OwnError`` for what is no name."""
    if not _MACHINE.fullmatch(machine):
        told = f"the name of this machine: expected letters, digits, '.', '_' and '-', found {machine!r}"
        raise OwnError(told, hint="give one: [self] name")
    return f"{ROOT}/{machine}"


def is_machine(name: str) -> bool:
    return _MACHINE.fullmatch(name) is not None


def stamp_of(now_s: float) -> str:
    return f"{datetime.fromtimestamp(now_s, tz=UTC):%Y%m%dT%H%M%SZ}"


def manifest_name(stamp: str) -> str:
    return f"{stamp}.json"


def part_name(stamp: str, number: int) -> str:
    return f"{stamp}.tar.gz.{number:04d}"


def stamp_of_manifest(name: str) -> str | None:
    return _stamp(_MANIFEST.fullmatch(name))


def stamp_of_part(name: str) -> str | None:
    return _stamp(_PART.fullmatch(name))


def _stamp(found: re.Match[str] | None) -> str | None:
    """What is no time (a thirteenth month) is none of ours, and is left alone."""
    if found is None:
        return None
    try:
        datetime.strptime(found[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return found[1]
