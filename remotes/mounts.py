"""What is mounted where, as the kernel says, and mounting by the system's own programs.

``/proc/self/mountinfo`` is the only witness: a directory that looks empty may be a share that was lost, and what is
written below it would fill the local disk. See ``proc(5)`` for its columns.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from remotes import errors

MOUNTINFO = Path("/proc/self/mountinfo")
NETWORK_KINDS = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ceph",
    "glusterfs",
    "9p",
    "afs",
    "fuse.sshfs",
    "fuse.glusterfs",
)
"""File systems whose calls wait for another machine, for as long as that takes."""
MOUNT_TIMEOUT_S = 120.0

_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mounted file system."""

    point: str
    """Where, an absolute path."""
    source: str
    """What: ``host:/export``, a device, ``none``."""
    kind: str
    """``nfs4``, ``ext4``, ``tmpfs``..."""

    @property
    def network(self) -> bool:
        return self.kind in NETWORK_KINDS


class Mounter(Protocol):
    """Who mounts. Both raise :class:`remotes.errors.RemoteError`."""

    def mount(self, mount: Mount, options: str, *, shown: str) -> None: ...

    def unmount(self, point: str, *, shown: str) -> None: ...


class SystemMounter:
    """``mount(8)`` and ``umount(8)``, never waited for longer than ``timeout_s``."""

    def __init__(self, *, timeout_s: float = MOUNT_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s

    def mount(self, mount: Mount, options: str, *, shown: str) -> None:
        kind = mount.kind.removesuffix("4") if mount.kind.startswith("nfs") else mount.kind
        if kind == "nfs" and not shutil.which("mount.nfs", path=_search_path()):
            problem = "mount.nfs is not installed (Debian: apt-get install nfs-common; dnf install nfs-utils)"
            raise errors.NotSupported(shown, "", problem)
        self._run(["mount", "-t", kind, *(["-o", options] if options else []), mount.source, mount.point], shown)

    def unmount(self, point: str, *, shown: str) -> None:
        self._run(["umount", point], shown)

    def _run(self, command: Sequence[str], shown: str) -> None:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self._timeout_s,
                env={**os.environ, "PATH": _search_path(), "LC_ALL": "C"},
                check=False,
            )
        except subprocess.TimeoutExpired:
            problem = f"{command[0]} did not end within {self._timeout_s:g} s: the server does not answer"
            raise errors.Unavailable(shown, "", problem, transient=False) from None
        except OSError as error:
            raise errors.NotSupported(shown, "", f"{command[0]}: {(error.strerror or str(error)).lower()}") from error
        if done.returncode:
            told = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            problem = f"{command[0]} failed: {told}"
            if os.geteuid() != 0:
                problem += " (mounting needs root: run as root, or mount it and use file:///the/mount/point)"
            raise errors.Unavailable(shown, "", problem, transient=False)


def mounts() -> list[Mount]:
    """Everything that is mounted in this process's view, in the order of mounting."""
    return parse_mountinfo(MOUNTINFO.read_text(errors="surrogateescape"))


def parse_mountinfo(text: str) -> list[Mount]:
    """Lines of the form ``36 35 98:0 /root /mount/point rw,... [tags] - kind source options``; others are passed."""
    found: list[Mount] = []
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        before, after = left.split(" "), right.split(" ")
        if separator and len(before) >= 6 and len(after) >= 2:
            found.append(Mount(point=_plain(before[4]), source=_plain(after[1]), kind=after[0]))
    return found


def mount_of(path: str | os.PathLike[str], found: Sequence[Mount] | None = None) -> Mount | None:
    """The mount that ``path`` lies on: the deepest point above it, of several at one point the last.

    Symbolic links are followed only from a file system of this machine: asking another one may take for ever.
    """
    known = mounts() if found is None else found
    as_written = _deepest(Path(path).absolute(), known)
    if as_written is not None and as_written.network:
        return as_written
    return _deepest(Path(os.path.realpath(path)), known)


def mounted_at(point: str | os.PathLike[str], found: Sequence[Mount] | None = None) -> Mount | None:
    """What is mounted exactly there, ``None`` when nothing is."""
    mount = mount_of(point, found)
    if mount is None or mount.point not in (str(Path(point).absolute()), mount.network or os.path.realpath(point)):
        return None
    return mount


def _deepest(path: Path, found: Sequence[Mount]) -> Mount | None:
    best: Mount | None = None
    for mount in found:
        if path.is_relative_to(mount.point) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def _search_path() -> str:
    """Where administrators' programs are, too: services and ordinary users often lack these."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
