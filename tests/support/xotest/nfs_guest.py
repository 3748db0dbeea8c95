"""Runs inside a guest of :mod:`xotest.linux_guest`: real NFS server, real NFS client, and what a remote must survive.

Prints one line per claim that held; the first that does not ends it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from remotes.conformance import PROMISES, run_promise, scratch_of
from remotes.contract import Remote
from remotes.errors import AccessDenied, NoSpace, RemoteError
from remotes.mounted import MountedRemote
from remotes.mounts import mounted_at
from remotes.retrying import RetryingRemote, RetryPolicy
from remotes.url import open_remote
from remotes.watched import WatchedRemote
from vhd.lineage import open_chain
from vhd.merge.progress import MergeOptions
from vhd.merge.run import apply_merge, resume_merge
from xobackup.cli.demo.ganesha import Ganesha
from xobackup.simpool import SimPool
from xotest.lab import SMALL, Lab
from xotest.pictures import flat_of, flatten
from xotest.workspace import CODECS, RemoteWorkspace, write_pictures

BEGAN_S = time.monotonic()
PORT = 20049
URL = f"nfs://127.0.0.1:{PORT}:/export?vers=4.2&timeo=20&retrans=20&ioTimeout=%d"
PATIENT_S, IMPATIENT_S = 90, 6
HERE = (
    "stat and list agree",
    "what is missing is not found",
    "put replaces only when asked",
    "a file is renamed",
    "a directory is renamed with its content",
    "a tree is deleted and nothing beside it",
    "touch moves the time forward",
    "free space is known",
    "a file is created once",
    "random writes and truncates are kept",
    "aligned blocks and small writes mix",
    "a range is copied",
    "a file may be larger than 4 gib",
    "an open file survives its rename",
    "one of several gets a lock",
)
"""The promises that another file system may break; all of them would take minutes under emulation."""
HOME = Path("/run/ganesha")
EXPORT = Path("/run/export")


def held(claim: str) -> None:
    print(f"held: {claim} ({time.monotonic() - BEGAN_S:.0f} s)", flush=True)


def wait_for(claim: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, f"it did not happen; the server says: {server_log()}"
        time.sleep(0.1)


def server_log() -> str:
    log = HOME / "log"
    return log.read_text(errors="replace")[-2000:] if log.exists() else "nothing"


def opened(timeout_s: int) -> WatchedRemote:
    remote = open_remote(URL % timeout_s)
    assert isinstance(remote, WatchedRemote) and isinstance(remote.inner, MountedRemote)
    return remote


def prepare() -> Ganesha:
    EXPORT.mkdir(parents=True)
    subprocess.run(["modprobe", "-a", "nfs", "nfsv4", "loop", "ext4"], check=True)
    image = Path("/run/export.img")
    with image.open("wb") as file:
        file.truncate(260 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, EXPORT], check=True)
    server = Ganesha(HOME, EXPORT, PORT, lease_s=5)
    server.start()
    return server


def promises(remote: Remote) -> None:
    with scratch_of(remote) as scratch:
        for promise in [each for each in PROMISES if each.name in HERE]:
            check = run_promise(promise, scratch)
            assert check.ok, f"{check.name}: {check.detail}"
            print(f"{check.seconds:6.1f} s  {check.name}", flush=True)
    held(f"{len(HERE)} promises of the contract")


def backups(server: Ganesha, remote: Remote) -> None:
    """Runs past retention, the server killed and started again in the middle of one."""
    with ExitStack() as stack:
        pool = stack.enter_context(SimPool.start(Path("/run/pool"), spec=SMALL))
        lab = Lab(Path("/run/lab"), pool)
        lab.directory.mkdir()
        lab.remotes["nas"] = RetryingRemote(remote, RetryPolicy(attempts_max=20, budget_s=60))
        lab.with_settings(retention=2)
        lab.run()
        held("a backup")
        for number in range(2):
            lab.write(0, number << 21, bytes([number]) * 4096)
            if number:
                killed = threading.Timer(0.5, server.kill)
                killed.start()
                again = threading.Timer(2.5, server.start)
                again.start()
            lab.run(expect="ok")
        again.join()
        lab.check()
        held("a backup and a merge while the server was killed and started again")
        assert len(lab.points()) == 2


PICTURES = ["A" * 12, "BB-" * 4]


def chain(remote: Remote, name: str) -> tuple[RemoteWorkspace, tuple[str, ...]]:
    workspace = RemoteWorkspace(remote, name)
    return workspace, tuple(write_pictures(workspace, PICTURES, directory=False))


def assert_merged(workspace: RemoteWorkspace, name: str) -> None:
    disk = open_chain(workspace, name, CODECS)
    assert flat_of(disk) == flatten(PICTURES)
    disk.close()


def merges(server: Ganesha, remote: Remote, impatient: Remote) -> None:
    workspace, names = chain(remote, "one")
    apply_merge(workspace, names, CODECS)
    assert_merged(workspace, names[-1])
    assert server_copies() > 0, "the server was never asked to copy by itself"  # this one cannot, and is asked once
    held("a merge, the server asked to copy")

    _, names = chain(remote, "two")
    workspace = RemoteWorkspace(impatient, "two")
    moved = 0

    def stall(_progress: Any) -> None:
        nonlocal moved
        moved += 1
        if moved == 3:
            server.signal(signal.SIGSTOP)

    began_s = time.monotonic()
    told = ""
    try:
        apply_merge(workspace, names, CODECS, MergeOptions(progress=stall))
    except RemoteError as error:
        told = f"{type(error).__name__}: {error}"
    waited_s = time.monotonic() - began_s
    assert told.startswith("NoAnswer") or "timed out" in told, told or "the merge did not notice"
    assert waited_s < 60, f"it waited {waited_s:.0f} s"
    held(f"a stalled server is given up ({told})")
    server.signal(signal.SIGCONT)
    wait_for(lambda: answers(impatient), 60)
    workspace = RemoteWorkspace(remote, "two")  # the other has little patience, and this machine may be slow
    resume_merge(workspace, names[0], CODECS)
    assert_merged(workspace, names[-1])
    held("the merge goes on when it answers again")


def answers(remote: Remote) -> bool:
    try:
        remote.list("")
    except RemoteError:
        return False
    return True


def full(remote: Remote) -> None:
    wait_for(lambda: answers(remote), 60)  # a server that was killed may call its root stale once: it is opened anew
    file = remote.create("fill")
    piece = os.urandom(1 << 20)
    try:
        for number in range(400):
            file.write_at(number << 20, piece)
        file.sync()
        raise AssertionError("a full server took everything")
    except NoSpace:
        held("a full server is told")
    finally:
        file.close()
    remote.delete("fill")
    assert remote.list("") and not [one for one in remote.list("") if one.name.startswith(".nfs")]


KERNEL_PORT = 20059
NFSEXP_INSECURE_PORT, NFSEXP_ROOTSQUASH, NFSEXP_NOSUBTREECHECK, NFSEXP_FSID = 0x2, 0x4, 0x400, 0x2000
FOR_EVER = 2**31 - 1


def start_kernel_server() -> socket.socket:
    """The kernel's own server of :data:`EXPORT`, told by hand what its helpers would tell it: who asks, what is
    exported, and which directory the root is (linux/Documentation/filesystems/nfs/rpc-cache.rst). Its first ten
    seconds are a grace period."""
    subprocess.run(["modprobe", "nfsd"], check=True)
    control, cache = Path("/proc/fs/nfsd"), Path("/proc/net/rpc")
    if not (control / "threads").exists():
        subprocess.run(["mount", "-t", "nfsd", "nfsd", control], check=True)
    for name in ("nfsv4leasetime", "nfsv4gracetime"):
        (control / name).write_text("10\n")
    (control / "versions").write_text("-2 -3 +4 +4.1 +4.2\n")  # 3 would need a port mapper
    (cache / "auth.unix.ip" / "channel").write_text(f"nfsd 127.0.0.1 {FOR_EVER} here\n")
    export_by_kernel()
    (cache / "nfsd.fh" / "channel").write_text(f"here 1 \\x00000000 {FOR_EVER} {EXPORT}\n")
    listening = socket.create_server(("127.0.0.1", KERNEL_PORT))
    (control / "portlist").write_text(f"{listening.fileno()}\n")
    (control / "threads").write_text("2\n")
    return listening


def export_by_kernel(*, more_flags: int = 0) -> None:
    flags = NFSEXP_INSECURE_PORT | NFSEXP_NOSUBTREECHECK | NFSEXP_FSID | more_flags
    channel = Path("/proc/net/rpc/nfsd.export/channel")
    channel.write_text(f"here {EXPORT} {FOR_EVER} {flags} 65534 65534 0\n")


def squashed() -> None:
    """A server that takes root for nobody."""
    export_by_kernel(more_flags=NFSEXP_ROOTSQUASH)
    remote = open_remote(f"nfs://127.0.0.1:{KERNEL_PORT}:/kernel?vers=4.2&ioTimeout={PATIENT_S}")
    try:
        remote.put("mine", b"")
        raise AssertionError("root was not squashed")
    except AccessDenied as error:
        assert "root_squash" in str(error.hint)
        held("a server that squashes root is told, with what to do")
    remote.close()


def copied_by_the_server() -> None:
    """A merge on a server that does copy by itself: every block, and none of them came over the wire."""
    (EXPORT / "kernel").mkdir()
    took_s = {}
    for version in ("4.2", "4.1"):
        remote = open_remote(f"nfs://127.0.0.1:{KERNEL_PORT}:/kernel?vers={version}&ioTimeout={PATIENT_S}")
        workspace, names = chain(remote, f"merge-{version}")
        before, began_s = server_copies(), time.monotonic()
        apply_merge(workspace, names, CODECS)
        took_s[version], copies = time.monotonic() - began_s, server_copies() - before
        assert_merged(workspace, names[-1])
        remote.close()
        blocks = sum(one != "-" for one in PICTURES[1])
        assert copies >= blocks if version == "4.2" else copies == 0, f"{version}: {copies} copies of {blocks} blocks"
    told = f"{took_s['4.2']:.1f} s, {took_s['4.1']:.1f} s by the client"
    held(f"a merge of {blocks} blocks, each copied by the server ({told})")


def server_copies() -> int:
    """COPY operations the client sent, by /proc/self/mountstats."""
    lines = Path("/proc/self/mountstats").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.strip().startswith(("COPY:", "CLONE:")))


def main() -> None:
    server = prepare()
    kernel = start_kernel_server()
    remote, impatient = opened(PATIENT_S), opened(IMPATIENT_S)
    assert isinstance(remote.inner, MountedRemote)
    point = remote.inner.path
    assert mounted_at(point) is not None
    held("mounted by its URL")
    promises(remote)
    backups(server, remote)
    merges(server, remote, impatient)
    impatient.close()
    copied_by_the_server()
    squashed()
    full(remote)
    remote.close()
    assert mounted_at(point) is None
    held("unmounted when nobody needs it any more")
    kernel.close()


if __name__ == "__main__":
    sys.exit(main())
