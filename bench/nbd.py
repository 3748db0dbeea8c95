"""Reading a disk by NBD: beside nbdcopy on the loopback, and over a line of 1 Gbit/s with a long way.

Over the line plain, as networks with the purpose ``insecure_nbd`` have it, and over TLS 1.2 with a certificate that
is checked, as those with ``nbd`` do. What a run moves at all is counted by :mod:`bench.moved`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench import moved
from bench.measure import Settings, Variant, call, interleave, opened, program, seconds, warm
from bench.rows import Row, skipped
from vhd.block import BLOCK_BYTES, BufferPool
from xobackup.clock import SystemClock
from xobackup.simpool.http.certificate import SUBJECT, ensure_certificate
from xobackup.xapi.nbd.disk import NbdDisk
from xobackup.xapi.nbd.options import NbdOptions
from xobackup.xapi.nbd.target import NbdTarget

NAME = "disk"
RATE_MB = 125.0
GOALS = {0: 0.9, 10: 0.9, 20: 0.9, 50: 0.75}
"""Share of the line by milliseconds of round trip."""
HOSTS_TLS = "NORMAL:-VERS-ALL:+VERS-TLS1.2"
ONE_IN_FLIGHT = NbdOptions(connections=1, depth=1)


def rows(settings: Settings) -> Iterator[Row]:
    qemu_nbd, nbdcopy = program("qemu-nbd"), program("nbdcopy")
    if not qemu_nbd or not nbdcopy:
        why = "apt-get install qemu-utils libnbd-bin"
        yield skipped("nbdcopy / reading a disk by NBD", 0.7, "higher", why)
        for delay_ms, goal in GOALS.items():
            yield skipped(f"NBD at {delay_ms} ms / 1 Gbit/s", goal, "higher", why)
            yield skipped(f"NBD over TLS at {delay_ms} ms / 1 Gbit/s", goal, "higher", why)
        yield from moved.rows(settings)
        return
    image = settings.directory / "disk.img"
    size = max(128, settings.blocks(256)) * BLOCK_BYTES  # less would measure the handshakes
    _fill(image, size)
    with _serving(qemu_nbd, image) as port:
        yield from _beside_nbdcopy(settings, nbdcopy, port, image)
        for delay_ms, goal in GOALS.items():
            yield _over_a_line(settings, port, size, delay_ms, goal)
    certificate = _credentials(settings.directory)
    with _serving(qemu_nbd, image, *_tls(settings.directory)) as port:
        for delay_ms, goal in GOALS.items():
            yield _over_a_line(settings, port, size, delay_ms, goal, certificate)
    yield from moved.rows(settings)


def _beside_nbdcopy(settings: Settings, nbdcopy: str, port: int, image: Path) -> Iterator[Row]:
    """Wall clock, and processor time, which says more on a busy machine."""
    cpu: dict[str, list[float]] = {"ours": [], "nbdcopy": []}

    def ours() -> None:
        before = _cpu_s(resource.RUSAGE_SELF)
        _read(port, NbdOptions())
        cpu["ours"].append(_cpu_s(resource.RUSAGE_SELF) - before)

    def theirs() -> None:
        before = _cpu_s(resource.RUSAGE_CHILDREN)
        call(nbdcopy, f"nbd://127.0.0.1:{port}/{NAME}", "null:")
        cpu["nbdcopy"].append(_cpu_s(resource.RUSAGE_CHILDREN) - before)

    variants = [
        Variant(name="ours", run=ours, prepare=lambda: warm(image)),
        Variant(name="nbdcopy", run=theirs, prepare=lambda: warm(image)),
    ]
    times = interleave(variants, settings.runs)
    used = {name: statistics.median(found) for name, found in cpu.items()}
    yield Row(
        name="nbdcopy / reading a disk by NBD", ratio=times["nbdcopy"] / times["ours"], goal=0.7, better="higher",
        detail=seconds(times),
    )  # fmt: skip
    yield Row(
        name="nbdcopy / reading a disk by NBD, processor time",
        ratio=used["nbdcopy"] / used["ours"], goal=0.8, better="higher", detail=seconds(used),
    )  # fmt: skip


def _cpu_s(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def _over_a_line(settings: Settings, port: int, size: int, delay_ms: int, goal: float, certificate: str = "") -> Row:
    """The share of the line's rate; one request in flight beside it, on fewer blocks."""
    few = max(4, size // BLOCK_BYTES // 16)
    with _line(port, delay_ms) as line:
        times = interleave(
            [
                Variant(name="ours", run=lambda: _read(line, NbdOptions(), certificate=certificate)),
                Variant(
                    name="one in flight",
                    run=lambda: _read(line, ONE_IN_FLIGHT, blocks=few, certificate=certificate),
                ),
            ],
            settings.runs,
        )
    ours, one = size / times["ours"] / 1e6, few * BLOCK_BYTES / times["one in flight"] / 1e6
    return Row(
        name=f"NBD{' over TLS' if certificate else ''} at {delay_ms} ms / 1 Gbit/s",
        ratio=ours / RATE_MB,
        goal=goal,
        better="higher",
        detail=f"{ours:.0f} MB/s; one request in flight {one:.0f} MB/s",
    )


def _read(port: int, options: NbdOptions, blocks: int | None = None, certificate: str = "") -> None:
    subject = SUBJECT if certificate else ""
    target = NbdTarget(address="127.0.0.1", port=port, export_name=NAME, certificate_pem=certificate, subject=subject)
    pool = BufferPool(options.buffers_wanted)
    with NbdDisk(lambda: [target], name=NAME, clock=SystemClock(), options=options) as disk:
        indexes = None if blocks is None else range(blocks)
        for block in disk.blocks(pool, indexes=indexes):
            pool.release(block.buffer)


def _fill(image: Path, size: int) -> None:
    with opened(image, os.O_WRONLY | os.O_CREAT) as fd:
        for _ in range(size // BLOCK_BYTES):
            os.write(fd, os.urandom(BLOCK_BYTES))


def _credentials(directory: Path) -> str:
    """A server's files where qemu looks for them; the certificate, for the client."""
    certificate, key = ensure_certificate(directory)
    for name, source in (("ca-cert", certificate), ("server-cert", certificate), ("server-key", key)):
        shutil.copyfile(source, directory / f"{name}.pem")
    return certificate.read_text()


def _tls(directory: Path) -> tuple[str, ...]:
    """TLS as hosts speak it: their certificate is its own authority, which qemu would not take without being told."""
    secret = (
        f"tls-creds-x509,id=tls,endpoint=server,dir={directory},verify-peer=no,sanity-check=no,priority={HOSTS_TLS}"
    )
    return ("--object", secret, "--tls-creds", "tls")


@contextlib.contextmanager
def _serving(qemu_nbd: str, image: Path, *more: str) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    command = [qemu_nbd, "-t", "-r", "-f", "raw", "-b", "127.0.0.1", "-p", str(port), "-x", NAME, "-e", "16"]
    with subprocess.Popen([*command, *more, str(image)], stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(port)
            yield port
        finally:
            server.terminate()


@contextlib.contextmanager
def _line(port: int, delay_ms: int) -> Iterator[int]:
    command = [sys.executable, "-m", "bench.link", str(port), str(delay_ms), str(RATE_MB)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as line:
        try:
            assert line.stdout is not None
            yield int(line.stdout.readline())
        finally:
            line.terminate()


def _wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"no NBD server on port {port}")
