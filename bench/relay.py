"""A remote read through a relay: what it costs on the loopback, and what compression gains on a slow line.

The line is :mod:`bench.link`, a process of its own; so is the relay. On the loopback both ends of TLS share this
machine's processors, so the first row says what a fast network costs at most.
"""

from __future__ import annotations

import multiprocessing
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from bench.measure import Settings, Variant, interleave, seconds
from bench.rows import Row
from remotes.contract import ReadableFile, Remote

BLOCK_BYTES = 2 << 20
READERS = 8
LINE_MBIT = 50
LINE_MS = 20
SLOW_BLOCKS = 24
PLACE = "nas"


def rows(settings: Settings) -> Iterator[Row]:
    from remotes.local import LocalRemote

    blocks = settings.blocks(400)
    rng = random.Random(5)
    with (settings.directory / "noise").open("wb") as file:
        for _ in range(blocks):
            file.write(rng.randbytes(BLOCK_BYTES))
    with (settings.directory / "text").open("wb") as file:
        for _ in range(SLOW_BLOCKS):
            file.write(words(rng))
    local = LocalRemote(settings.directory)
    with relay_of(settings.directory) as (port, led):
        near = led(port)
        variants = [
            Variant(name="direct", run=lambda: read(local, "noise", blocks)),
            Variant(name="through a relay", run=lambda: read(near, "noise", blocks)),
        ]
        times = interleave(variants, settings.runs)
        near.close()
        ratio, size = times["through a relay"] / times["direct"], blocks * BLOCK_BYTES / 1e6
        speed = f"{seconds(times)} for {size:.0f} MB that do not shrink: {size / times['through a relay']:.0f} MB/s"
        name = "remote through a relay on the loopback / read directly"
        yield Row(name=name, ratio=ratio, goal=30, better="lower", detail=speed)
        with line_to(port) as slow:
            for kind, goal in (("text", 1.5), ("noise", 0.85)):
                far = led(slow)
                began_s = time.perf_counter()
                read(far, kind, SLOW_BLOCKS)
                spent_s = time.perf_counter() - began_s
                far.close()
                rate = SLOW_BLOCKS * BLOCK_BYTES * 8 / 1e6 / spent_s
                told = f"{rate:.0f} Mbit/s of the remote over a line of {LINE_MBIT} Mbit/s and {LINE_MS} ms"
                shown = "what shrinks to a half" if kind == "text" else "what does not shrink"
                yield Row(
                    name=f"remote through a relay / the line, {shown}",
                    ratio=rate / LINE_MBIT,
                    goal=goal,
                    better="higher",
                    detail=told,
                )
    local.close()


def words(rng: random.Random) -> bytes:
    """A block of which zstd leaves about a half: four bits of each byte say nothing."""
    return rng.randbytes(BLOCK_BYTES).translate(bytes(value & 15 for value in range(256)))


def read(remote: Remote, name: str, blocks: int) -> None:
    """Every block, several at a time, as a mirror does."""
    with closing(remote.open(name)) as file, ThreadPoolExecutor(READERS) as threads:
        for _ in threads.map(lambda index: block(file, index), range(blocks)):
            pass


BUFFERS = threading.local()


def block(file: ReadableFile, index: int) -> None:
    if not hasattr(BUFFERS, "view"):
        BUFFERS.view = memoryview(bytearray(BLOCK_BYTES))
    count = file.read_into(index * BLOCK_BYTES, BUFFERS.view)
    assert count == BLOCK_BYTES, count


@contextmanager
def relay_of(directory: Path) -> Iterator[tuple[int, Callable[[int], Remote]]]:
    """A relay before that directory, in a process of its own: its port, and what opens it through a port."""
    from xobackup.relay.credentials import Credentials, make_credentials
    from xobackup.relay.lines import Lines, RelayAt
    from xobackup.relay.remote import RelayRemote

    reader, relay = make_credentials("reader"), make_credentials("relay")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    told = (str(directory), relay.certificate, relay.key, reader.certificate)
    process = context.Process(target=serve, args=(theirs, *told), daemon=True)
    process.start()
    try:
        port = int(ours.recv())

        def led(at: int) -> Remote:
            found = RelayAt(worker="relay", address=f"127.0.0.1:{at}", certificate=relay.certificate)
            own: Credentials = reader
            return RelayRemote(Lines(lambda: [found], own=own, place=PLACE), url="relay:bench")

        yield port, led
    finally:
        ours.close()
        process.terminate()
        process.join()


def serve(parent: Connection, directory: str, certificate: str, key: str, reader: str) -> None:
    from remotes.local import LocalRemote
    from xobackup.relay.credentials import Credentials
    from xobackup.relay.server import Known, RelayServer

    class Board:
        def living(self) -> list[Known]:
            return [Known(worker="reader", certificate=reader)]

        def may(self, worker: str, place: str) -> bool:
            return place == PLACE

    own = Credentials(certificate=certificate, key=key)
    server = RelayServer(("127.0.0.1", 0), own=own, board=Board(), open_place=lambda _: LocalRemote(directory))
    server.start()
    parent.send(server.port)
    try:
        parent.recv()
    except EOFError:
        server.close()


@contextmanager
def line_to(port: int) -> Iterator[int]:
    command = [sys.executable, "-m", "bench.link", str(port), str(LINE_MS), str(LINE_MBIT / 8)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
