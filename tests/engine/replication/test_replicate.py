"""Replication end to end: two simulated pools over HTTPS, every byte of every restore point compared."""

from xobackup.engine import events
from xotest.lab import only
from xotest.two_pools import TwoPools


def test_a_full_then_deltas_kept_by_count(two: TwoPools) -> None:
    workload = two.lab.pool.workload(two.lab.vm, seed=1)
    for number in range(5):
        workload.step()
        vm = only(two.run())
        assert (vm.fulls, vm.deltas) == ((2, 0) if number == 0 else (0, 2))
        two.check()
        two.assert_tidy()
    assert [len(two.points()), len(two.replicas())] == [3, 1]
    assert len(two.lab.snapshots()) == 1
    assert not two.lab.journal.of(events.FellBackToFull)
