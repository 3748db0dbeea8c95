"""A pool that falls silent in the middle of a transfer, its connections open: it ends within the limits on silence,
says so by name, leaves the last restore point usable, and the next run goes on."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from xobackup.engine.job import PoolTarget
from xobackup.simpool import SimPool
from xobackup.simpool.faults import Break
from xobackup.xapi.address import PoolAddress
from xotest.lab import MIB, TIMEOUTS, only
from xotest.two_pools import TwoPools

LIMIT_S = 0.4
SHORT = replace(
    TIMEOUTS,
    connect_s=2.0,
    idle_s=LIMIT_S,
    call_s=3.0,
    silent_s=1.0,
    task_end_s=LIMIT_S,
    drain_s=LIMIT_S,
    verdict_s=0.2,
    cancel_s=0.2,
)

NAMED = re.compile(
    r"(replication|export) of \w+: .*(silence for|did not end within) 0.4 s|event.from: no answer within [\d.]+ s"
)
"""A transfer, or what was asked about it."""


def short(address: PoolAddress) -> PoolAddress:
    return replace(address, timeouts=SHORT)


def fails(two: TwoPools, *, source: bool) -> str:
    """A run against a pool that falls silent; why it failed."""
    address = short(two.lab.address if source else two.address)
    pool = PoolTarget(name="silent", address=address)
    fields = {"pools": (pool,)} if source else {"targets": (two.sr_target(pool=pool),)}
    report = two.run(expect="failed", **fields)
    return " ".join([*only(report).errors, only(report).reason])


def goes_on(two: TwoPools, pool: SimPool) -> None:
    """The restore points read back while it is silent; afterwards the next run is a delta, and everything is tidy."""
    (ref,) = two.replicas()
    two.check()
    pool.faults.end_silence()
    two.lab.write(0, 0, b"next" * 1000)
    assert only(two.run()).deltas == 2
    assert set(two.replicas()) == {ref}
    two.check()
    two.assert_tidy()


@pytest.mark.parametrize("how", ["stall", "silence"])
def test_a_target_that_falls_silent(two: TwoPools, how: Break) -> None:
    two.run()
    for disk in range(2):  # whichever is transferred first meets it
        two.lab.write(disk, 0, b"z" * (6 * MIB))
    two.other.faults.break_transfer("import", after_bytes=3 * MIB, how=how)
    told = fails(two, source=False)
    assert "dr1: " in told and NAMED.search(told), told
    goes_on(two, two.other)


def test_a_source_that_falls_silent(two: TwoPools) -> None:
    two.run()
    for disk in range(2):  # whichever is transferred first meets it
        two.lab.write(disk, 0, b"z" * (6 * MIB))
    two.lab.pool.faults.break_transfer("export", after_bytes=3 * MIB, how="silence")
    told = fails(two, source=True)
    assert NAMED.search(told), told
    goes_on(two, two.lab.pool)
