"""The demo on NFS: a server of our own on the loopback, mounted by this machine's kernel, or by one that can.

Few kernels in containers and small virtual machines have an NFS client. Where this one has none the whole demo runs
in a machine of its own (:mod:`xobackup.cli.demo.machine`), with the same server and the kernel's own client.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from xobackup.cli.demo.ganesha import Ganesha, can_be_exported
from xobackup.cli.demo.machine import installed, run_in_machine
from xobackup.cli.errors import NotThere, Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.output import Output

NFS = "nfs"
INSIDE = "XOBACKUP_DEMO_INSIDE"
"""Set in the machine of its own."""
MACHINE_S = 600.0
RUNS_INSIDE, SLOWER = 4, 10
"""Everything takes about ten times as long there: fewer backups, and guests that write more seldom."""
STORE = "size=1g,mode=0700"


def kernel_can_mount() -> bool:
    """Whether this machine's kernel has an NFS client, loaded or to be loaded."""
    if _known():
        return True
    modprobe = shutil.which("modprobe") or shutil.which("modprobe", path="/usr/sbin:/sbin")
    if modprobe is not None and os.geteuid() == 0:
        subprocess.run([modprobe, "-q", "nfsv4"], check=False, capture_output=True)
    return _known()


def _known() -> bool:
    return any(line.split()[-1] == "nfs4" for line in Path("/proc/filesystems").read_text().splitlines())


def need_root_and_programs() -> None:
    """:class:`NotThere` when something is missing, with what to do."""
    if os.geteuid() != 0:
        raise NotThere("only root can mount NFS", hint="run it as root, or give a directory: --remote file:///path")
    installed("mount.nfs", "nfs-common")
    installed("ganesha.nfsd", "nfs-ganesha nfs-ganesha-vfs")


@contextlib.contextmanager
def own_server(place: Path) -> Iterator[str]:
    """The URL of an empty directory below ``place``, served by a server that ends with this."""
    need_root_and_programs()
    export = place / "repository"
    export.mkdir()
    with contextlib.ExitStack() as held:
        if not can_be_exported(export):  # a file system in memory can
            subprocess.run(["mount", "-t", "tmpfs", "-o", STORE, "demo", str(export)], check=True)
            held.callback(subprocess.run, ["umount", "-l", str(export)], check=False)
        port = _free_port()
        server = Ganesha(place / "nfs-server", export, port)
        held.callback(_stop, server)
        server.start()
        yield f"nfs://127.0.0.1:{port}:/export?vers=4.2"


def _stop(server: Ganesha) -> None:
    with contextlib.suppress(OSError, ValueError):  # it has not started, or is gone
        server.kill()


def _free_port() -> int:
    """One whose successor, which the server takes too, is most likely free as well."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def demo_in_machine(output: Output, options: Sequence[str]) -> None:
    """``xobackup demo --remote nfs`` with these options, in a machine whose kernel has NFS. Raises :class:`Outcome`
    when it did not end well."""
    need_root_and_programs()
    output.note(
        "This kernel has no NFS client: the demo runs in a virtual machine whose kernel has, for some minutes."
    )
    command = [sys.executable, "-m", "xobackup", "demo", "--remote", NFS, "--directory", "/run/demo", *options]
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/root",
        INSIDE: "1",
    }
    with tempfile.TemporaryDirectory(prefix="xobackup-demo-") as share:
        try:
            ended = run_in_machine(
                command, share=Path(share), environment=environment, timeout_s=MACHINE_S, tell=_print
            )
        except subprocess.TimeoutExpired:
            raise Outcome(Exit.FAILED, f"the machine of its own did not end in {MACHINE_S:.0f} s") from None
    if ended.status != 0:
        why = "ended with an error" if ended.status is not None else f"died: {ended.console[-1500:].strip()}"
        raise Outcome(Exit.FAILED, f"the demo in a machine of its own {why}")


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
