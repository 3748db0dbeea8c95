"""Reading a chain of 30 deltas as one stream, against the same data in one VHD, and against qemu-img."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from bench import repositories
from bench.data import spread
from bench.measure import Settings, Variant, cold, interleave, peak_mib, seconds, warm
from bench.restore import qemu_row
from bench.rows import Row
from vhd.block import BufferPool
from vhd.emit import VhdEmitter

DELTAS = 30


def rows(settings: Settings) -> Iterator[Row]:
    chain, one = settings.directory / "chain", settings.directory / "one"
    count = settings.blocks(1000)
    changes = [spread(max(1, count // 40), count, seed=number) for number in range(DELTAS)]
    members = repositories.make(chain, count, changes)
    (flat,) = repositories.make(one, count)
    for state, prepare in (("cold", cold), ("warm", warm)):
        times = interleave(
            [
                Variant(name="chain", run=lambda: stream(chain), prepare=lambda prepare=prepare: prepare(*members)),
                Variant(name="one VHD", run=lambda: stream(one), prepare=lambda prepare=prepare: prepare(flat)),
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
    yield qemu_row(
        settings,
        f"qemu-img convert of the flat VHD / chain of {DELTAS} to a raw file, cold",
        restore=chain,
        ours=members,
        flat=flat,
    )
    yield Row(
        name=f"peak memory of reading a chain of {DELTAS}",
        ratio=peak_mib("chain", chain),
        goal=64,
        better="lower",
        unit="MiB",
    )


def stream(repository: Path) -> None:
    """Emit the whole disk to nowhere."""
    _, opened, point, disk = repositories.open_point(repository)
    chain = opened.open_disk(point, disk.vdi_ref)
    emitter = VhdEmitter(chain, uuid=UUID(int=7), timestamp=0)
    total = sum(len(chunk) for chunk in emitter.chunks(BufferPool(2)))
    chain.close()
    assert total == emitter.length_bytes
