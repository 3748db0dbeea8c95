"""Room for the snapshots of a group, on pools and SRs: all of it before anybody is frozen, none of it afterwards.

Members that each waited for themselves would keep the others frozen. Several pools are asked in one order, so that
two groups cannot wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from xobackup.engine.errors import Cancelled
from xobackup.engine.limits.turnstile import Turnstile, srs_of

if TYPE_CHECKING:
    from xobackup.engine.attempt import Attempt
    from xobackup.engine.world import World


@contextmanager
def placed(attempts: Sequence[Attempt], world: World, snapshots_max: int) -> Iterator[int]:
    """While inside, the group has its places; gives how many snapshots it may take at a time."""
    at_a_time = snapshots_max
    by_pool: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        if attempt.going:
            by_pool.setdefault(attempt.context.pool_uuid, []).append(attempt)
    with ExitStack() as held:
        for _, members in sorted(by_pool.items()):
            first = members[0]
            turnstile = Turnstile(first.context, vm=first.vm.uuid, name=f"{len(members)} VMs together")
            srs = srs_of(sr for member in members for sr in member.backup.srs)
            room = turnstile.snapshots_room(srs)
            at_a_time = at_a_time if room is None else min(at_a_time, room)
            count = min(snapshots_max, len(members))
            with suppress(Cancelled):  # then every member says so
                held.enter_context(turnstile.snapshot(srs, world.cancel, count=count))
        yield at_a_time
