"""Real NBD servers for a test: qemu-nbd and nbdkit, plain or TLS, on a free port or a socket given by the system."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from xobackup.xapi.nbd.options import NbdOptions
from xobackup.xapi.nbd.target import NbdTarget
from xotest.certificates import Certificate
from xotest.programs import need

NAME = "disk"
QUICK = NbdOptions(
    connections=2,
    connect_s=5.0,
    attach_s=5.0,
    idle_s=5.0,
    request_s=10.0,
    goodbye_s=1.0,
    reconnect_tries=3,
    reconnect_pause_s=0.01,
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def qemu_nbd(image: Path, *, tls: Path | None = None, shared: int = 8) -> Iterator[int]:
    """Serve a raw image under :data:`NAME`; ``tls`` is a directory with ca-cert, server-cert and server-key."""
    port = free_port()
    command = [need("qemu-nbd"), "-t", "-r", "-f", "raw", "-b", "127.0.0.1", "-p", str(port), "-x", NAME]
    command += ["-e", str(shared)]
    if tls:
        credentials = f"tls-creds-x509,id=t0,endpoint=server,dir={tls},verify-peer=no"
        command += ["--object", credentials, "--tls-creds", "t0"]
    with _running([*command, str(image)], port):
        yield port


@contextlib.contextmanager
def nbdkit(image: Path, *, filters: Sequence[str] = (), arguments: Sequence[str] = ()) -> Iterator[int]:
    """Serve a raw image, through nbdkit's ``filters`` with their ``arguments``."""
    port = free_port()
    chosen = [f"--filter={name}" for name in filters]
    command = [need("nbdkit"), "-f", "-r", "-i", "127.0.0.1", "-p", str(port), *chosen, "file", str(image)]
    with _running([*command, *arguments], port):
        yield port


@contextlib.contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _wait_for(process, port)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=20)


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(400):
        if process.poll() is not None:
            assert process.stderr is not None
            raise AssertionError(f"the server ended: {process.stderr.read().decode()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.025)
    raise AssertionError(f"no server on port {port}")


def target(
    port: int, *, certificate: Certificate | Path | None = None, subject: str = "", name: str = NAME
) -> NbdTarget:
    """Where :func:`qemu_nbd` or :func:`nbdkit` serves."""
    path = certificate.cert_path if isinstance(certificate, Certificate) else certificate
    return NbdTarget(
        address="127.0.0.1",
        port=port,
        export_name=name,
        certificate_pem=path.read_text() if path else "",
        subject=subject,
    )
