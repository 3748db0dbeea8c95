"""A consistent group as JSON: the order, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from xobackup.engine.report import GroupReport, VmReport
from xobackup.workers.kinds import GROUP, MEMBER
from xobackup.workers.records import Task
from xobackup.workers.wire import read_as


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOrder:
    """All VMs of one group, with all their turns. Names only, as in :class:`xobackup.workers.wire.Order`."""

    run: str
    job: str
    pool: str
    vms: tuple[str, ...]
    """Uuids."""
    names: tuple[str, ...]
    linked: tuple[str, ...]
    """The tasks of the VMs (:mod:`xobackup.workers.linked`)."""
    full_interval: int
    fingerprint: str
    vm: str
    """One of them, for whoever shows what is done."""
    vm_name: str
    kind: str = GROUP

    @classmethod
    def of(
        cls, task: str, run: str, job: str, pool: str, vms: Mapping[str, str], *, interval: int, fingerprint: str
    ) -> GroupOrder:
        """``task``: the id that it will have; ``vms``: names by uuid."""
        return cls(
            run=run,
            job=job,
            pool=pool,
            vms=tuple(vms),
            names=tuple(vms.values()),
            linked=tuple(f"{task}.{number}" for number in range(len(vms))),
            full_interval=interval,
            fingerprint=fingerprint,
            vm=next(iter(vms)),
            vm_name=names_text(list(vms.values())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDone:
    """One verdict per VM, and the group, if its snapshots were taken."""

    reports: tuple[VmReport, ...]
    group: GroupReport | None = None


def group_order_data(order: GroupOrder) -> dict[str, Any]:
    return asdict(order)


def read_group_order(data: Mapping[str, Any]) -> GroupOrder:
    """Raises :class:`WorkersError` for one that this version does not understand."""
    return read_as(GroupOrder, data)


def group_done_data(done: GroupDone) -> dict[str, Any]:
    return asdict(done)


def read_group_done(data: Mapping[str, Any]) -> GroupDone:
    """Raises :class:`WorkersError` for one that this version does not understand."""
    return read_as(GroupDone, data)


def group_tasks(order: GroupOrder, task: str, queue: str) -> list[Task]:
    """The group's task, and then one for each of its VMs, which keeps others away."""
    members = [
        Task(
            id=one,
            run=order.run,
            key=vm,
            queue=queue,
            order={"kind": MEMBER, "vm": vm, "vm_name": name, "job": order.job},
        )
        for one, vm, name in zip(order.linked, order.vms, order.names, strict=True)
    ]
    lead = Task(id=task, run=order.run, key=f"group {task}", queue=queue, order=group_order_data(order))
    return [lead, *members]


def names_text(names: Sequence[str]) -> str:
    """``app, db and 3 more``."""
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
