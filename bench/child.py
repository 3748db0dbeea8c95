"""What is run in a process of its own to see how much memory it takes: ``python -m bench.child TASK ARGUMENTS``."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from bench.measure import own_peak_kib


def merge(directory: str) -> None:
    from bench.merging import BASE, CHILD
    from remotes.local import LocalRemote
    from vhd.merge.run import apply_merge
    from xobackup.repository.codecs import CODECS
    from xobackup.repository.workspace import RemoteWorkspace

    apply_merge(RemoteWorkspace(LocalRemote(directory), ""), (BASE, CHILD), CODECS)


def chain(directory: str) -> None:
    from bench.chain import Reader

    Reader(Path(directory)).stream()


def cli(*arguments: str) -> None:
    """The command line, as installed."""
    from xobackup.cli.main import run

    sys.argv = ["xobackup", *arguments]
    try:
        run()
    except SystemExit as end:
        if end.code:
            raise


def pool(directory: str, filled_blocks: str) -> None:
    """A simulated pool with one VM of four disks of 200 GiB, until terminated."""
    from xobackup.simpool.serve import Announcement, serve
    from xobackup.simpool.spec import GIB, DiskSpec, PoolSpec, VmSpec

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    filled = int(filled_blocks) * (2 << 20)
    disks = tuple(DiskSpec(name=f"disk {n}", size_bytes=200 * GIB, filled_bytes=filled) for n in range(4))

    def announce(pool: Announcement) -> None:
        told = {
            "url": pool.url,
            "username": pool.username,
            "password": pool.password,
            "fingerprint": pool.fingerprint_sha256,
        }
        print(json.dumps(told), flush=True)

    serve(
        Path(directory),
        stop=stop,
        announce=announce,
        spec=PoolSpec(vms=(VmSpec(name="bench", disks=disks),)),
        guest_pause_s=0.2,
    )


def s3_ingest(url: str, count: str) -> None:
    """A disk of that many blocks into an object store."""
    from bench.s3 import ingest

    ingest(f"{url}/memory", int(count))


TASKS: dict[str, Callable[..., None]] = {
    "merge": merge,
    "chain": chain,
    "cli": cli,
    "pool": pool,
    "s3_ingest": s3_ingest,
}

if __name__ == "__main__":
    TASKS[sys.argv[1]](*sys.argv[2:])
    print(own_peak_kib())
