"""A lane alone, where its thread begins later than the others'."""

from __future__ import annotations

from vhd.block import BLOCK_BYTES, BufferPool
from xobackup.clock import SystemClock
from xobackup.xapi.nbd.lane import Lane
from xobackup.xapi.nbd.servers import Connector, Servers
from xobackup.xapi.nbd.work import BlockRead, NbdStats, Work
from xotest.nbd_servers import QUICK
from xotest.scripted_nbd import ScriptedNbd


def test_a_lane_that_comes_too_late_ends_the_connection_that_was_made_for_it() -> None:
    """Left open it would hold the disk on the pool: the host keeps it attached as long as the connection lasts."""
    with ScriptedNbd(b"x" * BLOCK_BYTES) as server:
        connector = Connector(Servers(server.targets), options=QUICK, clock=SystemClock())
        ready = connector.first(lambda _wire: None, lambda: False)
        work = Work([BlockRead(0)], options=QUICK, name="disk", stats=NbdStats())
        lane = Lane(work, connector, BufferPool(1), size_bytes=BLOCK_BYTES, skip_zeros=False)
        work.stop()
        lane.serve(ready)
    assert server.accepted == server.goodbyes == 1 and server.reads == []
