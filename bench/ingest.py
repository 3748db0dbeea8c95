"""Backup's way in: a VHD stream served by nginx, parsed, aligned, digested, durable in a repository, against curl.

The source lies in memory (``/dev/shm``) where that is large enough: it is the receiving side that is measured.

Two goals hold only where new page cache is dear (free memory goes back to a hypervisor, and must be fetched from it
again): there curl, which writes through the cache, takes several times as long as writing the same bytes past it. It
comes and goes with the machine's neighbours, so the direct write is measured in the same run.
"""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data import disk_uuid
from bench.measure import Settings, Variant, call, emptied, interleave, opened, program, seconds, sync_file
from bench.rows import Better, Row, skipped
from bench.webserver import serving

if TYPE_CHECKING:
    from vhd.block import Block

BUFFERS = 8
GOALS: dict[str, tuple[tuple[str, float], ...]] = {
    "HTTP": (("any machine", 0.9), ("page cache dear", 3.0)),
    "TLS": (("any machine", 0.9), ("page cache dear", 1.4)),
}
BETTER: Better = "higher"
DEAR = 4.0
"""When curl takes that many times as long as a direct write of the same bytes, new page cache is dear."""
SHM = Path("/dev/shm")


def rows(settings: Settings) -> Iterator[Row]:
    missing = [name for name in ("nginx", "curl") if not program(name)]
    if missing:
        packages = " ".join(missing).replace("nginx", "nginx-light")
        for way, goals in GOALS.items():
            for note, goal in goals:
                yield skipped(_name(way, note), goal, BETTER, f"apt-get install {packages}")
        return
    count = settings.blocks(2000)
    direct_s = direct_write_s(settings, count)
    through_cache: float | None = None
    with _Source(settings, count) as source, serving(source, settings.directory / "nginx") as server:
        for way in GOALS:
            times = _times(settings, server.urls[way])
            if through_cache is None:  # of HTTP: over TLS curl is busy with the cipher
                through_cache = times["curl"] / direct_s
            yield from _rows(way, count, times, through_cache)


def _name(way: str, note: str) -> str:
    return f"curl -o with fsync / ingest over {way} ({note})"


def _times(settings: Settings, url: str) -> dict[str, float]:
    out, repository = settings.directory / "curl.vhd", settings.directory / "repository"

    def curl() -> None:
        call("curl", "-s", "-k", "-f", "-o", out, f"{url}/disk.vhd")
        sync_file(out)

    def clean() -> None:
        out.unlink(missing_ok=True)
        emptied(repository)

    times = interleave(
        [
            Variant(name="ingest", run=lambda: receive(url, repository), prepare=clean),
            Variant(name="curl", run=curl, prepare=clean),
        ],
        settings.runs,
    )
    clean()
    return times


def _rows(way: str, count: int, times: dict[str, float], through_cache: float) -> Iterator[Row]:
    detail = f"{count * 2} MiB, durable, digests included: {seconds(times)}"
    (note, goal), (dear, dear_goal) = GOALS[way]
    ratio = times["curl"] / times["ingest"]
    yield Row(name=_name(way, note), ratio=ratio, goal=goal, better=BETTER, detail=detail)
    told = f"curl over HTTP took {through_cache:.1f} times as long as a direct write"
    if through_cache >= DEAR:
        yield Row(name=_name(way, dear), ratio=ratio, goal=dear_goal, better=BETTER, detail=told)
    else:
        yield skipped(_name(way, dear), dear_goal, BETTER, f"not dear now: {told}; dear is {DEAR:g}")


def direct_write_s(settings: Settings, count: int) -> float:
    """Median seconds to write ``count`` blocks to a new file past the page cache, durably."""
    path = settings.directory / "probe"
    piece = mmap.mmap(-1, 2 << 20)
    piece.write(os.urandom(len(piece)))

    def write() -> None:
        with opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_DIRECT) as fd:
            for _ in range(count):
                os.write(fd, piece)
            os.fsync(fd)

    def fresh() -> None:
        path.unlink(missing_ok=True)

    times = interleave([Variant(name="direct", run=write, prepare=fresh)], settings.runs)
    fresh()
    return times["direct"]


def receive(url: str, repository: Path) -> None:
    """The engine's transfer without the pool's calls around it."""
    from remotes.local import LocalRemote
    from vhd.block import BufferPool
    from vhd.stream import VhdStream
    from xobackup.clock import SystemClock
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.progress import Meter
    from xobackup.engine.pump import pump
    from xobackup.engine.throttle import Throttle
    from xobackup.repository.digest_store import DigestStore
    from xobackup.repository.workspace import RemoteWorkspace
    from xobackup.repository.writer import DiskSpec, DiskWriter
    from xobackup.xapi.address import parse_endpoint
    from xobackup.xapi.http11 import Connection
    from xobackup.xapi.tls import Unverified, context_for

    clock = SystemClock()
    connection = Connection.open(parse_endpoint(url), tls=context_for(Unverified()), connect_s=10)
    connection.set_timeout(60)
    connection.request("GET", "/disk.vhd", {"Connection": "close"})
    assert connection.read_head().status == 200
    stream = VhdStream(connection.receive_into, name="nginx")
    stream.begin()
    remote = LocalRemote(repository)
    vm, lineage = str(disk_uuid(50)), f"vdis/{disk_uuid(51)}/{disk_uuid(52)}"
    spec = DiskSpec(
        lineage=lineage,
        name="20260101T030000Z.vhd",
        timestamp_ms=1_767_236_400_000,
        snapshot_uuid=str(disk_uuid(53)),
        virtual_size_bytes=stream.virtual_size_bytes,
        base=None,
    )
    workspace = RemoteWorkspace(remote, f"xo-vm-backups/{vm}/{lineage}")
    writer = DiskWriter(workspace, spec, digests=DigestStore(remote, vm, lineage), check=lambda: None)
    pool = BufferPool(BUFFERS)
    pumped = pump(
        stream.blocks(pool),
        [("repository", writer)],
        pool=pool,
        meter=Meter("bench", clock),
        throttle=Throttle(None, clock),
        cancel=CancelToken(),
    )
    assert not pumped.failures and pumped.blocks == len(stream.block_indexes())
    writer.finish()
    connection.close()
    remote.close()


class _Source:
    """A directory with ``disk.vhd``, packed as XAPI sends it."""

    def __init__(self, settings: Settings, count: int) -> None:
        needed = count * (2 << 20) * 5 // 4
        roomy = SHM.is_dir() and shutil.disk_usage(SHM).free > 3 * needed and _available_bytes() > 3 * needed
        place = SHM / f"xobackup-bench-{os.getpid()}" if roomy else settings.directory / "source"
        self.directory = emptied(place)
        self.count = count

    def __enter__(self) -> Path:
        write_packed(self.directory, self.count)
        return self.directory

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.directory)


def _available_bytes() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024


def write_packed(directory: Path, count: int) -> None:
    """The stream an export gives: every block packed behind the other."""
    from bench.data import blocks
    from vhd.block import BLOCK_BYTES, Bitmap, BlockBuffer, BufferPool
    from vhd.emit import VhdEmitter

    class Made:
        """A disk whose blocks are made up as they are asked for, ascending."""

        name = "made"
        virtual_size_bytes = count * BLOCK_BYTES

        def __init__(self) -> None:
            self.source: Iterator[Block] = blocks(range(count), 1)

        def block_indexes(self) -> list[int]:
            return list(range(count))

        def read_block(self, index: int, buffer: BlockBuffer) -> Bitmap:
            block = next(self.source)
            assert block.index == index
            buffer.data[:] = block.buffer.data
            return None

    emitter = VhdEmitter(Made(), uuid=disk_uuid(1), timestamp=0)
    with (directory / "disk.vhd").open("wb") as file:
        for chunk in emitter.chunks(BufferPool(1)):
            file.write(chunk)
