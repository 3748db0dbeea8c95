"""Looks at the engine's database for page, API and metrics: every few seconds, in a thread of its own. A request only
reads what the last look found; a database that hangs costs nobody anything, and is told."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from xobackup.cli.failures import explain, foreseen
from xobackup.cli.serving.duties import Duty
from xobackup.web.views import Looked
from xobackup.web.worker_views import (
    ANY,
    LimitView,
    MemberView,
    NodeView,
    WaitingView,
    WorkersView,
    WorkerView,
    WorkingOn,
)

if TYPE_CHECKING:
    from xobackup.cli.serving.works import Works
    from xobackup.config.model import Configuration
    from xobackup.workers.board import Board
    from xobackup.workers.nodes import SeenNode
    from xobackup.workers.records import Seen
    from xobackup.workers.standing import BoardStanding, Doing, Waiting

EVERY_S = 5.0
FIRST_S = 0.5
LATE_S = 60.0
"""A look that has not come back for so long is told as a problem."""
NAMED = 10
"""Of what waits for one site, so many are named."""
TRANSFERS = " transfers"


class WorkersLook:
    """:meth:`view` is what the last look found."""

    def __init__(self, works: Works) -> None:
        from xobackup.clock import SystemClock

        self._works, self._clock = works, SystemClock()
        self._seen = WorkersView(looked=Looked(pending=True))
        self._began_s = self._clock.monotonic_s()
        """Of the last look that was begun."""
        self._looking = False
        self._opened: tuple[str, Board] | None = None
        self.duty = Duty("workers", self.look, every_s=EVERY_S, first_s=FIRST_S)

    def view(self) -> WorkersView:
        """At once, whatever the database does."""
        if self._works.configuration.engine.database is None:
            return WorkersView()
        seen = replace(self._seen, there=True)
        late_s = self._clock.monotonic_s() - self._began_s
        if not self._looking or late_s < LATE_S:
            return seen
        told = f"it has not answered for {late_s:.0f} s"
        return replace(seen, looked=Looked(at=seen.looked.at, problem=told, pending=True))

    def look(self) -> None:
        """Ask the database now."""
        configuration = self._works.configuration
        if configuration.engine.database is None:
            return
        self._began_s, self._looking = self._clock.monotonic_s(), True
        try:
            found = self._standing(configuration)
        except foreseen() as error:
            at = self._seen.looked.at
            self._seen = replace(self._seen, looked=Looked(at=at, problem=explain(error).message))
        else:
            self._seen = workers_view(found, configuration, at=self._clock.now_s(), ours=_ours())
        finally:
            self._looking = False

    def _standing(self, configuration: Configuration) -> BoardStanding:
        from xobackup.cli.engine_store import engine_url
        from xobackup.workers.opening import open_board
        from xobackup.workers.standing import standing_of

        url = engine_url(configuration)
        if self._opened is not None and self._opened[0] != url:
            self._opened[1].close()
            self._opened = None
        if self._opened is None:
            self._opened = (url, open_board(url))
        return standing_of(self._opened[1])


def _ours() -> str:
    from xobackup.engine.run import version

    return version()


def workers_view(found: BoardStanding, configuration: Configuration, *, at: float, ours: str) -> WorkersView:
    """What people see of it. Pure."""
    doing: dict[str, list[WorkingOn]] = defaultdict(list)
    for one in found.doing:
        doing[one.worker].append(_working(one))
    return WorkersView(
        there=True,
        looked=Looked(at=at),
        workers=tuple(
            _worker(one, tuple(doing[one.worker.id]), ours, found.relays.get(one.worker.id, ""))
            for one in found.workers
        ),
        waiting=tuple(_waits(found)),
        limits=tuple(_limits(found, configuration)),
        nodes=tuple(_node(one) for one in found.nodes),
        members=tuple(
            MemberView(
                site=one.site, host=one.host, pid=one.pid, version=one.version, heard_s=one.age_s, up_s=one.up_s
            )
            for one in found.members
        ),
    )


def _working(one: Doing) -> WorkingOn:
    order = one.order
    return WorkingOn(
        vm=str(order.get("vm", "")),
        vm_name=str(order.get("vm_name", "")),
        job=str(order.get("job", "")),
        since_s=max(0.0, one.age_s),
    )


def _worker(one: Seen, doing: tuple[WorkingOn, ...], ours: str, relay: str) -> WorkerView:
    worker = one.worker
    return WorkerView(
        id=worker.id,
        site=worker.site,
        host=worker.host,
        pid=worker.pid,
        version=worker.version,
        release=release_of(worker.version, ours),
        state="lost" if not one.alive else "draining" if worker.draining else "ready",
        slots=worker.slots,
        doing=doing,
        reach=tuple(dict.fromkeys(name for kind, names in worker.reach.items() if kind != "kinds" for name in names)),
        heard_s=max(0.0, one.age_s),
        up_s=max(0.0, one.up_s),
        skew_s=one.skew_s,
        relay=relay,
    )


def _node(one: SeenNode) -> NodeView:
    return NodeView(
        host=one.node.host,
        pid=one.node.pid,
        version=one.node.version,
        state="ready" if one.alive else "lost",
        running=one.running,
        heard_s=max(0.0, one.age_s),
        skew_s=one.skew_s,
    )


def release_of(theirs: str, ours: str) -> str:
    """``older`` or ``newer`` than ours, ``another`` when that cannot be told, ``""`` when it is the same."""
    if theirs == ours or not theirs or not ours:
        return ""
    one, other = _numbers(theirs), _numbers(ours)
    if one == other:
        return "another"
    return "older" if one < other else "newer"


def _numbers(version: str) -> list[int]:
    found = re.match(r"\d{1,9}(?:\.\d{1,9})*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers


def _waits(found: BoardStanding) -> Iterable[WaitingView]:
    """By site: how many, and why the one that waits longest does."""
    by_site: dict[str, list[Waiting]] = defaultdict(list)
    for one in found.waiting:
        by_site[one.queue].append(one)
    for site, those in sorted(by_site.items()):
        longest = sorted(those, key=lambda one: -one.age_s)
        yield WaitingView(
            site=site,
            count=sum(bool(one.reason) for one in those) + found.queued.get(site, 0),
            oldest_s=max(0.0, longest[0].age_s),
            reason=longest[0].reason or why_waits(longest[0], found.workers),
            vms=tuple(one.vm_name or one.vm for one in longest[:NAMED]),
        )


def why_waits(one: Waiting, workers: Sequence[Seen]) -> str:
    """Why a task is not begun. Pure."""
    able = [seen for seen in workers if seen.alive and one.queue in (ANY, seen.worker.site)]
    if not able:
        return "no worker lives" if one.queue == ANY else f"no worker of site {one.queue} lives"
    if one.busy:
        return "another task of the VM is being done"
    ready = [seen for seen in able if not seen.worker.draining]
    if not ready:
        return "all workers there are draining"
    slots, busy = sum(seen.worker.slots for seen in ready), sum(len(seen.doing) for seen in ready)
    if busy >= slots:
        return f"all {slots} slots are taken"
    return "about to be taken"


def _limits(found: BoardStanding, configuration: Configuration) -> Iterable[LimitView]:
    """Rates that the configuration names, used or not; those that others use; places that are taken."""
    jobs = _job_names(configuration)
    rates = {one.name: one for one in found.rates}
    known = _configured_rates(configuration)
    for name in [*known, *(name for name in rates if name not in known)]:
        one, limit = rates.get(name), known.get(name)
        yield LimitView(
            name=_named(name, jobs),
            kind="rate",
            limit=one.limit if one is not None else limit,
            used=one.used if one is not None else 0.0,
            holders=one.holders if one is not None else 0,
        )
    links = {f"link {name}{TRANSFERS}": one.transfers_max for name, one in configuration.links.items()}
    rooms = {key: room for key, room in links.items() if room}
    for key in [*rooms, *(key for key in found.places if key not in rooms)]:
        yield LimitView(
            name=_named(key, jobs), kind="places", limit=rooms.get(key), used=float(found.places.get(key, 0))
        )


def _configured_rates(configuration: Configuration) -> dict[str, float | None]:
    """By the names that they are shared under; ``None``: it depends on the time."""
    from xobackup.cli.limits import process_limits

    limits = process_limits(configuration)
    tables = {"all jobs": limits.bandwidth}
    tables |= {f"remote {name}": table for name, table in limits.remotes.items()}
    tables |= {f"link {link.name}": link.bandwidth for link in limits.links.links}
    return {name: None if table.windows else table.rate_bytes_s for name, table in tables.items() if table.limited}


def _job_names(configuration: Configuration) -> Mapping[str, str]:
    from xobackup.engine.job import job_id_of

    return {str(job.id or job_id_of(name)): name for name, job in configuration.jobs.items()}


def _named(key: str, jobs: Mapping[str, str]) -> str:
    """With the job's name instead of its id."""
    found = re.match(r"job ([0-9a-f-]{36})", key)
    if found is None or found[1] not in jobs:
        return key
    return f"job {jobs[found[1]]}{key[found.end() :]}"
