"""What a paper house has on its remotes and at its other site, and a desk whose operations are done at once.

The desk and the queue are the service's own; only what would ask a pool or a remote is on paper.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xobackup.cli.serving.desk import ServiceDesk
from xobackup.clock import FakeClock
from xobackup.config.model import Configuration
from xobackup.history.store import Store
from xobackup.service.operations import Ending, Hand, Operation, Operations, State
from xobackup.web.views import (
    Depth,
    DrView,
    Looked,
    Offers,
    PointDisk,
    PointNic,
    PointsView,
    PointView,
    RemoteVms,
    ReplicaView,
    TargetView,
    VmOnRemote,
)
from xobackup.web.worker_views import LimitView, MemberView, NodeView, WaitingView, WorkersView, WorkerView, WorkingOn
from xotest.journals import DATABASE, WEB

POINT = "20260103T030000Z"
CONFIGURATION = Configuration.model_validate({
    "pools": {"main": {"url": "https://a", "password": "x"}, "second": {"url": "https://b", "password": "x"}},
    "remotes": {"nas": {"url": "file:///mnt/nas"}, "gone": {"url": "file:///gone"}},
    "targets": {"dr": {"pool": "second", "sr": "ssd"}},
    "dr": {"lyon": {"target": "dr", "groups": [{"name": "first", "vms": ["web"]}]}},
    "jobs": {"nightly": {"pool": "main", "remotes": ["nas"], "vms": {"include": [{"name": "*"}]}, "retention": 7}},
})  # fmt: skip
PLAN: dict[str, Any] = {
    "point": POINT, "name": "web again", "pool": "main", "memory": False, "networks": ["LAN"], "start": True,
    "disks": [
        {"device": "0", "name": "system", "virtual_size_bytes": 8 << 30, "sr": "ssd", "base": None,
         "write_bytes_max": 8 << 30, "full_reason": "no snapshot of it is left"},
    ],
    "space": [{"sr": "ssd", "needed_bytes": 8 << 30, "free_bytes": 4 << 30}],
    "warnings": ["SR ssd: 8192 MiB are written at most, and 4096 MiB are free"],
}  # fmt: skip
RESULTS: dict[str, dict[str, Any]] = {
    "pin": {"vm": WEB, "points": [POINT], "pinned": True},
    "unpin": {"vm": WEB, "points": [POINT], "pinned": False},
    "restore-plan": PLAN,
    "restore": {
        "vm": DATABASE, "name": "web again", "disks": {"a": "b"}, "size_bytes": 8 << 30, "blocks_compared": 7,
        "blocks_without_digest": 1, "archive": False, "started": True, "suspended": False, "warnings": ["no NIC"],
    },
    "verify": {
        "points": 2, "damaged": False, "problems": [], "more_problems": 0,
        "coverage": {"disks": 2, "blocks": 9, "read": 9, "bytes_read": 18 << 20, "compared": 9, "images": 0},
    },
    "retry": {"runs": [{"run_id": "run-2", "outcome": "ok", "vms": 1}]},
    "plan": {"plans": [], "mirrors": []},
    "command": {
        "exit_code": 0, "meaning": "done", "records": [{"kind": "replica", "name": "web"}], "left_out": 0, "last": [],
    },
    "dr-plan": {
        "plan": "lyon", "ok": False, "memory_bytes": {"needed": 1 << 30, "free": 0}, "problems": ["no host has room"],
        "warnings": [], "vms": [
            {"group": "first", "name": "web", "point": POINT, "age_s": 60.0, "networks": ["LAN"], "problems": [],
             "original": "Running", "original_pool": "main", "warnings": [], "failed_over": None},
        ],
    },
    "dr-test": {
        "plan": "lyon", "ok": True, "rto_s": 42.0, "rpo_measured_s": 60.0, "rpo_s": 900.0, "network": "isolated",
        "pool": "second", "failed": 0, "problems": [], "started_at": "2026-01-03T04:00:00+00:00", "vms": [
            {"group": "first", "name": "web", "point": POINT, "reason": "", "ready_after_s": 42.0, "warnings": [],
             "removed": True},
        ],
    },
}  # fmt: skip


@dataclass(slots=True)
class PaperWork:
    """Performs at once, unless it is told to wait for the switch."""

    endings: dict[str, Ending] = field(default_factory=dict)
    hold: bool = False

    def __call__(self, operation: Operation, hand: Hand) -> Ending:
        hand.say(f"{operation.kind} was begun")
        if self.hold:
            with hand.cancel.waking(lambda: None):
                hand.progress.meter("web system", total_bytes=1 << 30, stage="verify").add(1 << 29)
            while not hand.cancel.cancelled and self.hold:
                hand.cancel._event.wait(0.01)
            if hand.cancel.cancelled:
                return Ending(state=State.CANCELLED, problem=hand.cancel.reason)
        done = Ending(state=State.DONE, result=RESULTS[operation.kind])
        return self.endings.get(operation.kind, done)


def paper_operations(directory: Path, work: PaperWork, clock: FakeClock) -> Operations:
    numbers = itertools.count(1)
    return Operations(directory, work, clock=clock, new_id=lambda: f"{next(numbers):08}")


def paper_desk(operations: Operations, store: Callable[[], Store]) -> ServiceDesk:
    return ServiceDesk(operations, lambda: CONFIGURATION, store)


@dataclass(slots=True)
class PaperBackups:
    """One remote that answers, one that does not."""

    now_s: Callable[[], float]
    name: str = "web"
    vms: tuple[VmOnRemote, ...] = ()
    asked: list[tuple[str, bool]] = field(default_factory=list)

    def listed(self) -> Sequence[RemoteVms]:
        at = self.now_s() - 600
        mine = VmOnRemote(uuid=WEB, name=self.name, points=2, oldest_at=at - 86_400, newest_at=at, size_bytes=5 << 30)
        return [
            RemoteVms(remote="nas", looked=Looked(at=at), vms=self.vms or (mine,)),
            RemoteVms(remote="gone", looked=Looked(problem="it does not answer")),
        ]

    def points(self, vm: str, *, again: bool = False) -> Sequence[PointsView]:
        self.asked.append((vm, again))
        point = PointView(
            id=POINT, taken_at=self.now_s() - 3600, mode="delta", job="nightly", size_bytes=3 << 30,
            disks=(PointDisk(device="0", name=self.name, virtual_size_bytes=8 << 30, delta=True),),
            nics=(PointNic(device="0", mac="aa:bb:cc:dd:ee:ff", network=self.name),), with_memory=True, tested="ok",
        )  # fmt: skip
        older = replace(
            point, id="20260102T030000Z", taken_at=self.now_s() - 90_000, pinned=True, pin_note=self.name,
            held="a pin", held_until=self.now_s() + 86_400, disks=(replace(point.disks[0], delta=False),),
        )  # fmt: skip
        looked = Looked(at=self.now_s() - 30)
        return [
            PointsView(remote="nas", looked=looked, name=self.name, points=(point, older)),
            PointsView(remote="gone", looked=Looked(problem="it did not answer within 3 s", pending=True)),
        ]

    def offers(self, pool: str) -> Offers:
        return Offers(
            pool=pool, looked=Looked(at=self.now_s()), srs=(("sr-1", self.name, 4 << 30),),
            networks=(("net-1", self.name),),
        )  # fmt: skip

    def pools(self) -> Sequence[str]:
        return list(CONFIGURATION.pools)


def paper_depth(now_s: float) -> Depth:
    return Depth(
        at=now_s - 7200, vms=2, vms_all=3, blocks=1000, recent=900, never=10, days=30.0, backlog=4, backlog_vms=2,
        locked_until=now_s + 86_400, locked=3, problems=("one of them cannot be read",),
    )  # fmt: skip


def paper_replicas(now_s: float, name: str) -> list[TargetView]:
    replica = ReplicaView(
        target="dr", sr="ssd", vm_uuid=WEB, job="nightly", name=name, state="ready", points=2, newest=POINT,
        newest_at=now_s - 900, gap_s=1200.0, usable=True,
    )  # fmt: skip
    return [TargetView(name="dr", looked=Looked(at=now_s - 60), replicas=(replica, replace(replica, usable=False)))]


def paper_plans(name: str) -> list[DrView]:
    test = {**RESULTS["dr-test"], "problems": [name]}
    return [
        DrView(
            name="lyon", target="dr", pool="second", groups=(("first", f"named {name}"),), rpo_s=900.0,
            test_network="isolated", tests=(test,),
        )
    ]  # fmt: skip


def paper_workers(now_s: float, name: str) -> WorkersView:
    """One that works, one that drains with a wrong clock and an older version, one that is lost."""
    works = WorkerView(
        id="w1", site="paris", host=name, pid=7, version="1.0", release="", state="ready", slots=4, heard_s=2.0,
        doing=(WorkingOn(vm=WEB, vm_name=name, job="nightly", since_s=90.0),), reach=("main", "nas", name),
        up_s=86_400.0, skew_s=0.1, relay="10.0.0.1:8483",
    )  # fmt: skip
    drains = replace(
        works, id="w2", site="lyon", version="0.9", release="older", state="draining", skew_s=-61.0, doing=()
    )
    return WorkersView(
        there=True,
        looked=Looked(at=now_s - 3),
        workers=(works, drains, replace(drains, id="w3", site="oslo", state="lost", heard_s=3600.0)),
        waiting=(
            WaitingView(site="paris", count=2, oldest_s=60.0, reason="all 4 slots are taken", vms=(name, "db")),
            WaitingView(site="oslo", count=12, oldest_s=900.0, reason="no worker of site oslo lives", vms=(name,)),
            WaitingView(site="-", count=1, oldest_s=5.0, reason=name, vms=("mail",)),
        ),
        limits=(
            LimitView(name="link paris-lyon", kind="rate", limit=50e6, used=48e6, holders=3),
            LimitView(name="link paris-lyon transfers", kind="places", limit=2, used=2),
            LimitView(name=name, kind="places", limit=None, used=1),
        ),
        nodes=(
            NodeView(
                host=name, pid=9, version="1.0", state="ready", running=("nightly", name), heard_s=1.0, skew_s=70.0
            ),
        ),
        members=(MemberView(site="paris", host=name, pid=8, version="1.0", heard_s=1.0, up_s=60.0),),
    )
