"""The process dies at call after call, to either pool, and at piece after piece of what is sent into a replica.

Right after each death every restore point reads back; the next run takes back what was begun and adds its own, by a
delta as soon as there has been a restore point. Every 23rd moment is taken, by turns before the call and
before its answer; ``XOTEST_SWEEP=full`` takes all.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass

import pytest

from xobackup.xapi.transfer import Import
from xotest.dying import Death, run_and_die
from xotest.lab import MIB, only
from xotest.two_pools import TwoPools

EVERY = 1 if os.environ.get("XOTEST_SWEEP") == "full" else 23


@dataclass
class Pieces:
    """Pieces sent to a pool count as calls of whoever is going to die."""

    death: Death | None = None


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> Pieces:
    counted, write = Pieces(), Import.write

    def dying_write(self: Import, buffer: bytes | bytearray | memoryview) -> int:
        death = counted.death
        dies = death is not None and death.before_call("write")
        written = write(self, buffer)
        if death is not None and dies:
            death.die()
        return written

    monkeypatch.setattr(Import, "write", dying_write)
    return counted


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the dead close no connection
def test_replication_survives_deaths(two: TwoPools, pieces: Pieces) -> None:
    lab = two.lab
    died: Counter[str] = Counter()
    for turn, at in enumerate(range(1, 2000, EVERY)):
        lab.write(turn % 2, (turn % 5) * MIB, bytes([turn % 250 + 1]) * MIB)
        death = Death(at, after=bool(turn % 2))
        pieces.death = death
        known = {point.uuid for point in two.points()}
        images = {uuid: lab.pool.disk_sha256(ref) for uuid, ref in lab.disks().items()}
        dead = run_and_die(lab, death, targets=(two.sr_target(),), remotes=())
        pieces.death = None
        for point in two.points():
            if point.uuid not in known:
                two.expected[point.uuid] = images
        two.check()
        had = bool(two.points())
        lab.write(0, 0, bytes([turn % 250 + 1]) * 512)
        vm = only(two.run())
        assert (vm.deltas == 2) or not had, f"death at {at} ({death.calls[-1:]}) led to a full"
        two.check()
        two.assert_tidy()
        assert len(two.replicas()) == 1
        if not dead:
            break
        died[death.calls[-1].split(" ")[0].split(".")[-1]] += 1
    else:
        raise AssertionError("the run never ended")
    assert sum(died.values()) > 8, died
