"""Two promises in figures, counted at both ends: a delta moves what changed, and nothing changed costs nothing."""

import random

import pytest

from xobackup.engine.reading.ladder import CbtUse, NbdUse
from xobackup.simpool import SimPool
from xotest.counting import CountingRemote
from xotest.lab import MIB, Lab, only
from xotest.pool_state import wait_until_quiet

KIB = 1024
GRAIN = 64 * KIB
SIZES = (8 * MIB, 6 * MIB)
NEXT_TO_NOTHING = 64 * KIB
HEAD_MAX = 4096 + KIB
"""A stream's header and table for disks of a few blocks, with the answer's own head."""
Writes = list[tuple[int, int, int]]
"""Disk, offset, length."""


def scattered(rng: random.Random) -> Writes:
    return [(disk, rng.randrange(SIZES[disk] // 512) * 512, 512) for disk in (0, 1) for _ in range(25)]


def mixed(rng: random.Random) -> Writes:
    made = []
    for _ in range(12):
        disk = rng.randrange(2)
        offset = rng.randrange(SIZES[disk])
        made.append((disk, offset, min(rng.choice([1, 4096, 100 * KIB, MIB]), SIZES[disk] - offset)))
    return made


PATTERNS = {
    "one byte": lambda _rng: [(0, 5 * MIB + 17, 1)],
    "the last byte of each disk": lambda _rng: [(disk, size - 1, 1) for disk, size in enumerate(SIZES)],
    "across a boundary of ranges": lambda _rng: [(0, 3 * GRAIN - 1, 2)],
    "across a boundary of blocks": lambda _rng: [(1, 4 * MIB - 10 * KIB, 20 * KIB)],
    "every other range of two blocks": lambda _rng: [(0, n * 2 * GRAIN, GRAIN) for n in range(32)],
    "a stretch": lambda _rng: [(0, MIB + 4096, 3 * MIB)],
    "a whole disk": lambda _rng: [(1, 0, SIZES[1])],
    "scattered sectors": scattered,
    "mixed sizes": mixed,
}


def ranges(writes: Writes) -> set[tuple[int, int]]:
    """What a log of 64 KiB ranges must have, worked out from the writes alone."""
    return {
        (disk, grain)
        for disk, offset, length in writes
        for grain in range(offset // GRAIN, (offset + length - 1) // GRAIN + 1)
    }


def sent(lab: Lab) -> tuple[int, int, int]:
    """Requests, their bytes, and all bytes that the pool's NBD servers have sent."""
    wait_until_quiet(lab.pool)
    lab.assert_tidy()
    entries = lab.pool.journal.entries("NBD")
    requests, moved, said = (sum(entry.args[at] for entry in entries) for at in (1, 2, 3))
    return requests, moved, said


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_delta_moves_the_ranges_that_changed_and_hardly_more(lab: Lab, pattern: str, rng: random.Random) -> None:
    lab.run()
    requests, moved, said = sent(lab)
    wait_until_quiet(lab.pool)
    lab.pool.journal.clear()
    writes = PATTERNS[pattern](rng)
    for disk, offset, length in writes:
        lab.write(disk, offset, rng.randbytes(length))
    vm = only(lab.run())
    changed = len(ranges(writes)) * GRAIN
    requests, moved, said = sent(lab)
    assert vm.vias == ("cbt-nbd",) and vm.read_bytes == changed, "the report says so"
    assert changed <= moved <= changed * 1.01, "so does the pool"
    assert said - moved <= 16 * requests + 512 * 16, "answers' heads and greetings are all that comes on top"
    assert not lab.pool.journal.entries("GET /export*")
    lab.check()


@pytest.fixture
def counted(lab: Lab) -> CountingRemote:
    remote = CountingRemote(lab.remotes["nas"])
    lab.remotes["nas"] = remote  # type: ignore[assignment]
    return remote


@pytest.mark.parametrize("stored", ["files", "directories"])
def test_nothing_changed_writes_next_to_nothing_and_reads_nothing(
    lab: Lab, pool: SimPool, counted: CountingRemote, stored: str
) -> None:
    """From the first delta to those that merge; metadata, digests, locks and caches are counted, too."""
    lab.vhd_directory = stored == "directories"
    lab.with_settings(retention=2)
    lab.run()
    for _ in range(4):
        counted.written.clear()
        wait_until_quiet(pool)
        pool.journal.clear()
        vm = only(lab.run())
        assert vm.vias == ("cbt-nbd",) and vm.read_bytes == 0
        assert sum(counted.written.values()) < NEXT_TO_NOTHING, counted.written.most_common(5)
        assert any(name.endswith(".json") for name in counted.written) and sent(lab)[1] == 0
        assert not pool.journal.entries("GET /export*")
    lab.check()


@pytest.mark.parametrize("use", [NbdUse.AUTO, NbdUse.OFF])
def test_without_tracking_only_headers_are_read(
    lab: Lab, pool: SimPool, counted: CountingRemote, use: NbdUse
) -> None:
    lab.with_settings(cbt=CbtUse.OFF, nbd=use, retention=2)
    lab.run()
    for _ in range(3):
        counted.written.clear()
        wait_until_quiet(pool)
        pool.journal.clear()
        vm = only(lab.run())
        assert vm.vias == (("list-nbd",) if use is NbdUse.AUTO else ("stream-delta",))
        assert vm.read_bytes <= 2 * HEAD_MAX
        wait_until_quiet(pool)
        exports = [entry.args[-1] for entry in pool.journal.entries("GET /export_raw_vdi")]
        assert len(exports) == 2 and max(exports) <= HEAD_MAX and sent(lab)[1] == 0
        assert sum(counted.written.values()) < NEXT_TO_NOTHING, counted.written.most_common(5)
    lab.check()
