"""The process dies at call after call, to either pool, and at piece after piece of an archive that is replicated.

Right after each death every restore point reads back; the next run removes what was begun and adds its own. Every
29th moment is taken, by turns before the call and before its answer; ``XOTEST_SWEEP=full`` takes all.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field

import pytest

from xobackup.engine import keys
from xobackup.engine.job import FULL
from xobackup.engine.replication.marks import REPLICA_TEXT
from xobackup.engine.replication.points import ReplicaPoint, find_points
from xobackup.xapi.transfer import Import
from xotest.dying import Death, run_and_die
from xotest.lab import MIB, only
from xotest.two_pools import TwoPools

EVERY = 1 if os.environ.get("XOTEST_SWEEP") == "full" else 29
KEPT = 2


@dataclass
class Whole:
    """``expected``: by uuid of a restore point, the digests of its disks."""

    two: TwoPools
    death: Death | None = None
    expected: dict[str, set[str]] = field(default_factory=dict)

    def points(self) -> list[ReplicaPoint]:
        return find_points(self.two.records(), vm_uuid=self.two.lab.vm_uuid, whole=True)

    def images(self) -> set[str]:
        return {self.two.lab.pool.disk_sha256(ref) for ref in self.two.lab.disks().values()}

    def check(self, images: set[str]) -> None:
        """Every restore point reads back; ``images``: what one that is not known yet has to hold."""
        for point in self.points():
            expected = self.expected.setdefault(point.uuid, images)
            assert {self.two.other.disk_sha256(disk.ref) for disk in point.disks} == expected, point.id

    def assert_tidy(self) -> None:
        """There is nothing in either pool but restore points that nobody can start."""
        self.two.lab.assert_tidy()
        model, points = self.two.other.model, {point.ref for point in self.points()}
        for ref, vm in model.records("VM").items():
            if not vm["is_control_domain"]:
                assert ref in points, f"{vm['name_label']} is left"
                assert vm["blocked_operations"]["start"] == vm["blocked_operations"]["start_on"] == REPLICA_TEXT
                assert not [key for key in vm["other_config"] if key == keys.RUN or key.startswith(keys.CLAIM)]
        for vdi in model.records("VDI").values():
            assert not vdi["managed"] or vdi["VBDs"], f"{vdi['name_label']} belongs to nobody"


@pytest.fixture
def whole(two: TwoPools, monkeypatch: pytest.MonkeyPatch) -> Whole:
    """Pieces sent to a pool count as calls of whoever is going to die."""
    two.lab.with_settings(mode=FULL, retention=KEPT, compression="none")
    made, write = Whole(two), Import.write

    def dying_write(self: Import, buffer: bytes | bytearray | memoryview) -> int:
        death = made.death
        dies = death is not None and death.before_call("write")
        written = write(self, buffer)
        if death is not None and dies:
            death.die()
        return written

    monkeypatch.setattr(Import, "write", dying_write)
    return made


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the dead close no connection
def test_full_replication_survives_deaths(whole: Whole) -> None:
    two, lab = whole.two, whole.two.lab
    two.run()
    whole.check(whole.images())
    died: Counter[str] = Counter()
    for turn, at in enumerate(range(1, 2000, EVERY)):
        lab.write(turn % 2, (turn % 5) * MIB, bytes([turn % 250 + 1]) * MIB)
        death = whole.death = Death(at, after=bool(turn % 2))
        before, images = {point.uuid for point in whole.points()}, whole.images()
        dead = run_and_die(lab, death, targets=(two.sr_target(),), remotes=())
        whole.death = None
        assert dead or before != {point.uuid for point in whole.points()}, "the run did nothing"
        whole.check(images)
        newest = max(whole.points(), key=lambda point: point.timestamp_ms)
        assert before & {point.uuid for point in whole.points()}, "the restore points were the price"
        lab.write(0, 0, bytes([turn % 250 + 1]) * 512)
        assert only(two.run()).points
        whole.check(whole.images())
        whole.assert_tidy()
        assert len(whole.points()) == KEPT and newest.uuid in {point.uuid for point in whole.points()}
        if not dead:
            break
        died[death.calls[at - 1].split(" ")[0].split(".")[-1]] += 1
    else:
        raise AssertionError("the run never ended")
    assert sum(died.values()) > 4 and (EVERY > 1 or died["write"]), died
