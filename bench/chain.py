"""Reading a chain of 30 deltas as one stream, against the same data in one VHD, and against qemu-img."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import UUID

from bench import repositories
from bench.data import spread
from bench.measure import Settings, Variant, cold, interleave, peak_mib, seconds, warm
from bench.restore import qemu_row
from bench.rows import Row
from vhd.block import BufferPool
from vhd.emit import VhdEmitter
from xobackup.engine.cancel import CancelToken
from xobackup.engine.readahead import ReadAhead

DELTAS = 30


def rows(settings: Settings) -> Iterator[Row]:
    chain, one = settings.directory / "chain", settings.directory / "one"
    count = settings.blocks(1000)
    changes = [spread(max(1, count // 40), count, seed=number) for number in range(DELTAS)]
    members = repositories.make(chain, count, changes)
    (flat,) = repositories.make(one, count)
    of_chain, of_one = Reader(chain), Reader(one)
    for state, prepare in (("cold", cold), ("warm", warm)):
        times = interleave(
            [
                Variant(name="chain", run=of_chain.stream, prepare=partial(prepare, *members)),
                Variant(name="one VHD", run=of_one.stream, prepare=partial(prepare, flat)),
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


class Reader:
    """One repository's newest disk; finding it among the restore points is not part of reading it."""

    def __init__(self, repository: Path) -> None:
        _, self.repository, self.point, self.disk = repositories.open_point(repository)

    def stream(self) -> None:
        """Emit the whole disk to nowhere, read ahead as a restore into a pool does; opening the chain included."""
        chain = self.repository.open_disk(self.point, self.disk.vdi_ref)
        indexes = chain.block_indexes()
        ahead = ReadAhead(chain, indexes, cancel=CancelToken())
        emitter = VhdEmitter(ahead, uuid=UUID(int=7), timestamp=0, indexes=indexes)
        total = sum(len(chunk) for chunk in emitter.chunks(BufferPool(1)))
        ahead.close()
        chain.close()
        assert total == emitter.length_bytes
