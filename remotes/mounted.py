"""A remote on a file system that this program mounts itself, and unmounts when nobody needs it any more.

Several processes may use one mount. Each holds a shared ``flock`` on ``<point>.users`` for as long; who closes last
(an exclusive one succeeds) unmounts. Mounting and unmounting happen under an exclusive one on ``<point>.lock``, so
that they never cross. A process that is killed lets go of both by dying, and leaves the mount to the next one, which
finds it and uses it. Nothing is ever written into a mount point on which nothing is mounted: the directory itself
cannot be written (mode 0), and the kernel is asked before the root is opened.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from remotes import errors
from remotes.local import LocalRemote
from remotes.mounts import Mount, Mounter, SystemMounter, mounted_at

POINT_MODE = 0o000
"""Of the directory below the mount: what is written there by mistake fails (for all but root)."""
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


def mounts_directory() -> Path:
    """Where mount points are made: ``$XOBACKUP_MOUNTS``, else below ``/run``, or ``$XDG_RUNTIME_DIR`` of a user."""
    given = os.environ.get("XOBACKUP_MOUNTS")
    if given:
        return Path(given)
    if os.geteuid() == 0:
        return Path("/run/xobackup/mounts")
    runtime = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(runtime) / "xobackup" / "mounts"


def point_name(source: str, options: str) -> str:
    """A file name that tells a person what is mounted, and that no other source or options share."""
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", source).strip("-")[:60]
    return f"{readable}-{hashlib.sha256(repr((source, options)).encode()).hexdigest()[:12]}"


class MountedRemote(LocalRemote):
    """See the module's head. Everything else is a directory's."""

    def __init__(
        self,
        *,
        source: str,
        kind: str,
        options: str,
        shown: str,
        directory: Path | None = None,
        mounter: Mounter | None = None,
    ) -> None:
        """``shown`` is the URL for messages."""
        place = directory or mounts_directory()
        self._mount = Mount(point=str(place / point_name(source, options)), source=source, kind=kind)
        self._mounter = mounter or SystemMounter()
        self._shown = shown
        self._users = -1
        try:
            self._hold(options)
            super().__init__(self._mount.point, shown=shown, guard=self._expect)
        except BaseException:
            self._let_go()
            raise

    def close(self) -> None:
        super().close()
        self._let_go()

    def _hold(self, options: str) -> None:
        """Mounted, and counted among its users."""
        point = Path(self._mount.point)
        with self._making(point):
            point.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if mounted_at(point) is None:
                with contextlib.suppress(FileExistsError):
                    point.mkdir(mode=POINT_MODE)
            self._users = os.open(f"{point}.users", _LOCK_FLAGS, 0o600)
        with self._alone():
            if mounted_at(point) is None:
                self._mounter.mount(self._mount, options, shown=self._shown)
            self._expect()
            fcntl.flock(self._users, fcntl.LOCK_SH)

    def _expect(self) -> None:
        """The kernel says that our source is what is mounted there; anything else raises."""
        found = mounted_at(self._mount.point)
        if found is None:
            raise errors.Unavailable(
                self._shown, "", f"it is no longer mounted at {self._mount.point}", transient=False
            )
        if found.source.rstrip("/") != self._mount.source.rstrip("/"):
            problem = f"expected {self._mount.source} at {self._mount.point}, found {found.source} ({found.kind})"
            raise errors.Unavailable(self._shown, "", problem, transient=False)

    def _let_go(self) -> None:
        users, self._users = self._users, -1
        if users < 0:
            return
        try:
            with self._alone():
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._expect()
                self._mounter.unmount(self._mount.point, shown=self._shown)
        except (OSError, errors.RemoteError):
            pass  # somebody else uses it, or it is not ours, or busy: the next one finds it as it is
        finally:
            os.close(users)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else mounts or unmounts there meanwhile."""
        lock = os.open(f"{self._mount.point}.lock", _LOCK_FLAGS, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    @contextlib.contextmanager
    def _making(self, point: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            problem = f"cannot make the mount point {point}: {(error.strerror or str(error)).lower()}"
            raise errors.Unavailable(self._shown, "", problem, transient=False) from error
