"""The power goes off at change after change to the remote that a chain has left: its old points expire all the same,
and until then what is listed can be read."""

from __future__ import annotations

import random

import pytest

from remotes.faults import Cut, Faults, Moment, PowerCut
from remotes.faulty import FaultyRemote
from remotes.memory import MemoryRemote
from xobackup.engine.run import run_job
from xobackup.engine.space.judge import Floor
from xotest.lab import MIB, Lab, only


@pytest.mark.slow
def test_an_old_chain_expires_through_power_cuts(lab: Lab, seed: int = 20261127) -> None:
    left = MemoryRemote(clock=lab.clock, capacity_bytes=200 * MIB)
    lab.remotes = {"a": left, "b": MemoryRemote(clock=lab.clock, capacity_bytes=150 * MIB)}
    lab.with_settings(distribute=True, retention=2)
    for number in range(2):
        lab.write(0, number * MIB, b"x" * 4096)
        lab.run()
    assert len(lab.points("a")) == 2
    saved = left.snapshot()
    left.put("ballast", bytes(184 * MIB))
    lab.with_settings(remote_free_min=Floor(size_bytes=20 * MIB))
    assert set(only(lab.run()).points) == {"b"}
    lab.with_settings(remote_free_min=Floor())
    lab.run()
    cuts = 0
    for number in range(1, 200, 2):
        rng = random.Random(f"{seed} {number}")
        there = saved.snapshot()
        faults = Faults(cut=Cut(at=number, moment=Moment.DURING if number % 4 == 1 else Moment.BEFORE), rng=rng)
        lab.remotes["a"] = FaultyRemote(there, faults)
        lab.clock.advance(3600)
        try:
            run_job(lab.job(), lab.world())
        except PowerCut:
            cuts += 1
        lab.remotes["a"] = there.survivor(rng) if faults.cut_operation else there
        lab.clock.advance(60)  # the dead holder's lock is stale by now
        lab.check(remotes=("a",) if lab.points("a") else (), finished=False)
        vm = only(lab.run())
        assert set(vm.points) == {"b"} and vm.deltas == 2, f"cut at change {number}: {faults.cut_operation}"
        assert (len(lab.points("a")), len(lab.points("b"))) == (0, 2)
        lab.check(remotes=("b",))
        lab.assert_tidy()
        if not faults.cut_operation:
            break
    assert cuts > 4 and not faults.cut_operation
