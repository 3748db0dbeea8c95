"""An NFS server of our own on the loopback: nfs-ganesha, for the demo and for tests."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from xobackup.cli.demo.machine import installed
from xobackup.cli.errors import NotThere

START_S = 30.0
LEASE_S = 90
"""The usual one. On a busy machine a client is silent for longer than a few seconds."""
_AT_FDCWD = -100
_CONFIGURATION = """
NFS_CORE_PARAM {{ NFS_Port = {port}; MNT_Port = {mount_port}; Bind_addr = 127.0.0.1; NFS_Protocols = 4;
  Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false; mount_path_pseudo = true; fsid_device = true;
  Plugins_Dir = {plugins}; }}
NFSv4 {{ Graceless = true; Lease_Lifetime = {lease_s}; Grace_Period = {lease_s}; RecoveryRoot = {home}/recovery;
  Only_Numeric_Owners = true; Minor_Versions = 0,1,2; }}
NFS_KRB5 {{ Active_krb5 = false; }}
EXPORT {{ Export_Id = 1; Path = {export}; Pseudo = /export; Access_Type = RW; Squash = No_Root_Squash;
  SecType = sys,none; Protocols = 4; Transports = TCP; PrivilegedPort = false; FSAL {{ Name = VFS; }}
  CLIENT {{ Clients = 127.0.0.1; Access_Type = RW; }} }}
LOG {{ Default_Log_Level = EVENT; }}
"""


class Ganesha:
    """The server of one directory, as ``/export``. ``home`` keeps its configuration, log and state."""

    def __init__(self, home: Path, export: Path, port: int, *, lease_s: int = LEASE_S) -> None:
        """``lease_s``: how long a client may be silent before it loses its open files (then its calls fail with EIO);
        so long a restarted server makes its clients wait."""
        self._program = installed("ganesha.nfsd", "nfs-ganesha nfs-ganesha-vfs")
        plugins = next((found for found in Path("/usr/lib").glob("*/ganesha")), None)
        if plugins is None:
            raise NotThere(
                "ganesha's plugin for directories is missing",
                hint="apt-get install --no-install-recommends nfs-ganesha-vfs",
            )
        self._home, self._port, self._pid_file = home, port, home / "pid"
        (home / "recovery").mkdir(parents=True, exist_ok=True)
        text = _CONFIGURATION.format(
            port=port, mount_port=port + 1, plugins=plugins, home=home, export=export, lease_s=lease_s
        )
        (home / "conf").write_text(text)

    def start(self) -> None:
        """Until it answers."""
        self._pid_file.unlink(missing_ok=True)
        files = ["-f", str(self._home / "conf"), "-L", str(self._home / "log"), "-p", str(self._pid_file)]
        subprocess.run([self._program, *files, "-N", "NIV_EVENT"], check=True)
        deadline_s = time.monotonic() + START_S
        while not self._listens():
            if time.monotonic() > deadline_s:
                raise NotThere("ganesha's NFS server does not start", hint=self.log() or None)
            time.sleep(0.1)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
            return self._pid_file.exists() and bool(self._pid_file.read_text().strip())
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(int(self._pid_file.read_text()), number)

    def kill(self) -> None:
        """As a power cut would."""
        self.signal(signal.SIGKILL)

    def log(self) -> str:
        """The end of what it says."""
        path = self._home / "log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""


def can_be_exported(directory: Path) -> bool:
    """Whether the file system gives handles to its files, without which nobody can export it (``overlay``, some
    FUSE). See ``name_to_handle_at(2)``: with no room for the handle the answer is how much it needs."""
    handle, mount_id = (ctypes.c_uint32 * 2)(0, 0), ctypes.c_int(0)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.name_to_handle_at(_AT_FDCWD, os.fsencode(directory), handle, ctypes.byref(mount_id), 0)
    return ctypes.get_errno() == errno.EOVERFLOW
