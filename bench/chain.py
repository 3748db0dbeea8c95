"""Reading a chain of 30 deltas as one stream, against the same data in one VHD, and against qemu-img."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.data import disk_uuid, spread, write_vhd
from bench.measure import Settings, Variant, call, cold, interleave, program, seconds, sync_file, warm
from bench.rows import Row, skipped
from remotes.local import LocalRemote
from vhd.block import BLOCK_BYTES, BufferPool, Disk
from vhd.chain import Chain
from vhd.emit import VhdEmitter
from vhd.reader import VhdFile

DELTAS = 30


def rows(settings: Settings) -> Iterator[Row]:
    where = settings.directory
    count = settings.blocks(1000)
    tip, members = make_chain(where, count)
    flat = write_vhd(where, "flat.vhd", range(count), size_bytes=count * BLOCK_BYTES, number=99)
    variants = {"chain": lambda: stream(where, tip), "one VHD": lambda: stream(where, "flat.vhd")}
    for state, prepare in (("cold", cold), ("warm", warm)):
        times = interleave(
            [
                Variant(name="chain", run=variants["chain"], prepare=lambda prepare=prepare: prepare(*members)),
                Variant(name="one VHD", run=variants["one VHD"], prepare=lambda prepare=prepare: prepare(flat)),
            ],
            settings.runs,
        )
        yield Row(
            name=f"chain of {DELTAS} as a stream / the same from one VHD, {state}",
            ratio=times["chain"] / times["one VHD"],
            goal=1.15,
            better="lower",
            detail=f"{count * 2} MiB: {seconds(times)}",
        )
    yield from _against_qemu(settings, where, tip, members, flat)


def _against_qemu(settings: Settings, where: Path, tip: str, members: list[Path], flat: Path) -> Iterator[Row]:
    from bench.restore import to_raw

    name = f"qemu-img convert of the flat VHD / chain of {DELTAS} to a raw file, cold"
    if not program("qemu-img"):
        yield skipped(name, 0.9, "higher", "apt-get install qemu-utils")
        return
    out = where / "out.raw"

    def qemu() -> None:
        call("qemu-img", "convert", "-f", "vpc", "-O", "raw", flat, out)
        sync_file(out)

    def fresh(*paths: Path) -> None:
        out.unlink(missing_ok=True)
        cold(*paths)

    times = interleave(
        [
            Variant(name="chain", run=lambda: to_raw(where, tip, out), prepare=lambda: fresh(*members)),
            Variant(name="qemu-img", run=qemu, prepare=lambda: fresh(flat)),
        ],
        settings.runs,
    )
    detail = f"both durable: {seconds(times)}"
    yield Row(name=name, ratio=times["qemu-img"] / times["chain"], goal=0.9, better="higher", detail=detail)


def make_chain(where: Path, count: int) -> tuple[str, list[Path]]:
    """A full disk and 30 deltas of a fortieth of it each; the tip's name, and all files."""
    parent = "000.vhd"
    files = [write_vhd(where, parent, range(count), size_bytes=count * BLOCK_BYTES, number=0)]
    for number in range(1, DELTAS + 1):
        name = f"{number:03}.vhd"
        changed = spread(max(1, count // 40), count, seed=number)
        size = count * BLOCK_BYTES
        files.append(write_vhd(where, name, changed, size_bytes=size, number=number, parent=parent))
        parent = name
    assert disk_uuid(0) != disk_uuid(1)
    return parent, files


class _Opener:
    def __init__(self, remote: LocalRemote) -> None:
        self.remote = remote

    def open(self, name: str) -> VhdFile:
        return VhdFile.open(self.remote.open(name))


def open_chain(where: Path, name: str) -> Chain:
    return Chain.open(_Opener(LocalRemote(where)), name)


def stream(where: Path, name: str) -> int:
    """Emit the whole disk to nowhere."""
    opened = open_chain(where, name)
    disk: Disk = opened
    emitter = VhdEmitter(disk, uuid=disk_uuid(7), timestamp=0)
    total = sum(len(chunk) for chunk in emitter.chunks(BufferPool(2)))
    opened.close()
    assert total == emitter.length_bytes
    return total
