"""Where the demo keeps its backups: a directory, a store that speaks S3, an NFS server of its own, a URL given."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from xobackup.cli.demo.nfs import NFS, own_server
from xobackup.cli.errors import NotThere

LOCAL, S3 = "local", "s3"
BUCKET = "demo"
START_S = 30.0


@contextlib.contextmanager
def repository_url(remote: str, place: Path) -> Iterator[str]:
    """The URL of an empty repository: ``remote`` is :data:`LOCAL`, :data:`S3`, :data:`NFS`, or the URL."""
    if remote == LOCAL:
        (place / "repository").mkdir()
        yield f"file://{place / 'repository'}"
    elif remote == S3:
        with _emulator(place) as url:
            yield url
    elif remote == NFS:
        with own_server(place) as url:
            yield url
    else:
        _refuse_used(remote)
        yield remote


def _refuse_used(url: str) -> None:
    from xobackup.clock import SystemClock
    from xobackup.engine.job import RemoteTarget
    from xobackup.engine.storage import open_repository

    repository = open_repository(RemoteTarget(name="demo", url=url), clock=SystemClock())
    try:
        if repository.vms():
            raise NotThere(f"{repository.remote.url} has backups", hint="give the demo an empty place")
    finally:
        repository.remote.close()


@contextlib.contextmanager
def _emulator(place: Path) -> Iterator[str]:
    """moto's server, with a bucket."""
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask") is None:
        raise NotThere(
            "no store that speaks S3 is found",
            hint="pip install 'moto[server]', or give the URL of yours: --remote s3://KEY:SECRET@host/bucket/dir",
        )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (place / "moto.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait_for(port, process)
        url = f"s3+http://demo:demo@127.0.0.1:{port}/{BUCKET}/backups"
        _make_bucket(url)
        yield url
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < end_s:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise NotThere("moto's server does not start", hint="see moto.log in the demo's directory (--directory)")


def _make_bucket(url: str) -> None:
    from remotes.s3.client import make_client
    from remotes.url import parse_url

    address = parse_url(url).s3
    assert address is not None
    make_client(address).create_bucket(Bucket=BUCKET)
