"""Long looks, from time to time, a thread for each thing that is looked at: one that hangs holds up no other.

Every hour, and some minutes after runs, the VMs that each remote has, and the replicas at each target; once a day
how much of each remote was verified, what waits to be merged, what is locked. Each look has a time; what it found by
then is kept, and says that it is not the whole. What remotes have is remembered in the state directory; it can be
lost.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from xobackup.cli.failures import explain, foreseen
from xobackup.cli.serving.backups import end_of
from xobackup.cli.serving.duties import Duty
from xobackup.service.state import write_whole
from xobackup.web.views import Depth, Looked, RemoteVms, ReplicaView, TargetView, VmOnRemote

if TYPE_CHECKING:
    from pathlib import Path

    from xobackup.cli.serving.works import Works
    from xobackup.repository.repository import Repository

NAME = "remotes-seen.json"
FIRST_S = 2.0
STEP_S = 30.0
EVERY_S = 3600.0
AFTER_RUNS_S = 600.0
"""Sooner, when there were runs since."""
DEPTH_EVERY_S = 86_400.0
LIST_TIME_S = 600.0
DEPTH_TIME_S = 1800.0
RECENT_DAYS = 30.0
PROBLEMS_MAX = 20


class Surveyor:
    """:attr:`lists`, :attr:`depths` by remote, :attr:`targets` by target."""

    def __init__(self, works: Works) -> None:
        from xobackup.clock import SystemClock

        self._works, self._clock = works, SystemClock()
        self.duty = Duty("survey", self._look_at_all, every_s=STEP_S, first_s=FIRST_S)
        self._looked_s = float("-inf")
        self._ran = False
        self._mutex = threading.Lock()
        self._looking: dict[str, threading.Thread] = {}
        self._failed: dict[str, str] = {}
        self.lists: dict[str, RemoteVms] = {}
        self.depths: dict[str, Depth] = {}
        self.targets: dict[str, TargetView] = {}
        self._read()

    def looked(self, remote: str) -> Looked:
        """At a remote of which nothing is known."""
        return Looked(problem=self._failed.get(remote, ""), pending=remote in self._looking)

    def run_ended(self) -> None:
        """What remotes and targets have is another now."""
        self._ran = True

    def _look_at_all(self) -> None:
        """When it is time again."""
        since_s = self._clock.monotonic_s() - self._looked_s
        configuration = self._works.configuration
        if since_s < (AFTER_RUNS_S if self._ran else EVERY_S) or not configuration.web.listen:
            return  # or nobody can see it
        self._looked_s, self._ran = self._clock.monotonic_s(), False
        for name in configuration.remotes:
            self._begin(name, self.look_at_remote)
        for name in configuration.targets:
            self._begin(name, self.look_at_target)

    def _begin(self, name: str, look: Callable[[str], None]) -> None:
        """Unless the last look at it has not come back."""

        def go() -> None:
            try:
                look(name)
            finally:
                self._looking.pop(name, None)

        if name not in self._looking:
            thread = threading.Thread(target=go, name=f"survey of {name}", daemon=True)
            self._looking[name] = thread
            thread.start()

    def look_at_remote(self, name: str) -> None:
        """Its VMs, and, once a day, its depth."""
        from xobackup.cli.jobs import remote_target
        from xobackup.cli.repositories import opened

        try:
            with opened(remote_target(self._works.configuration, name)) as repository:
                listed = self._list(name, repository)
                self._failed.pop(name, None)
                self.lists[name] = listed
                old = self.depths.get(name)
                if old is None or self._clock.now_s() - old.at > DEPTH_EVERY_S:
                    self.depths[name] = self._depth(repository, [vm.uuid for vm in listed.vms])
        except foreseen() as error:
            self._failed[name] = explain(error).message
            if name in self.lists:
                before = self.lists[name]
                self.lists[name] = replace(before, looked=replace(before.looked, problem=self._failed[name]))
        self._write()

    def look_at_target(self, name: str) -> None:
        """Its replicas."""
        from xobackup.cli.jobs import sr_targets
        from xobackup.cli.verbs.replicas import job_names, replicas_at

        configuration = self._works.configuration
        jobs = job_names(configuration)
        try:
            found = [
                ReplicaView(
                    target=one.target,
                    sr=one.sr,
                    vm_uuid=one.vm_uuid,
                    job=jobs.get(one.job_id, ""),
                    name=one.name,
                    state=one.state,
                    points=len(one.points),
                    newest=one.points[0].id,
                    newest_at=one.points[0].timestamp_ms / 1000,
                    gap_s=one.gap_s,
                    usable=one.points[0].usable,
                )
                for target in sr_targets(configuration, name, True)
                for one in replicas_at(target, self._clock)
            ]
            self.targets[name] = TargetView(name=name, looked=Looked(at=self._clock.now_s()), replicas=tuple(found))
        except foreseen() as error:
            before = self.targets.get(name, TargetView(name=name, looked=Looked()))
            self.targets[name] = replace(before, looked=replace(before.looked, problem=explain(error).message))

    def _list(self, name: str, repository: Repository) -> RemoteVms:
        end_s = self._clock.monotonic_s() + LIST_TIME_S
        found: list[VmOnRemote] = []
        uuids = repository.vms()
        for uuid in uuids:
            if self.duty.over or self._clock.monotonic_s() > end_s:
                break
            points = repository.points(uuid).points
            found.append(
                VmOnRemote(
                    uuid=uuid,
                    name=points[-1].vm_name if points else "",
                    points=len(points),
                    oldest_at=points[0].timestamp_ms / 1000 if points else None,
                    newest_at=points[-1].timestamp_ms / 1000 if points else None,
                    size_bytes=sum(point.size for point in points),
                )
            )
        return RemoteVms(
            remote=name,
            looked=Looked(at=self._clock.now_s()),
            vms=tuple(sorted(found, key=lambda one: (one.name, one.uuid))),
            whole=len(found) == len(uuids),
        )

    def _depth(self, repository: Repository, uuids: list[str]) -> Depth:
        """VM by VM; one that cannot be read is told, and is not counted."""
        end_s = self._clock.monotonic_s() + DEPTH_TIME_S
        done = blocks = recent = never = backlog = backlog_vms = locked = 0
        until: float | None = None
        problems: list[str] = []
        for uuid in uuids:
            if self.duty.over or self._clock.monotonic_s() > end_s:
                break
            try:
                ages = repository.verified(uuid, days=RECENT_DAYS)
                steps = repository.merge_plan(uuid).steps
                held = repository.locked_points(repository.points(uuid).points)
            except foreseen() as error:
                problems.append(f"{uuid}: {explain(error).message}")
                continue
            done += 1
            blocks, recent, never = blocks + ages.blocks, recent + ages.recent, never + ages.never
            backlog, backlog_vms = backlog + len(steps), backlog_vms + bool(steps)
            locked += len(held)
            until = max([until or 0.0, *(end_of(one) or 0.0 for one in held.values())]) or None
        return Depth(
            at=self._clock.now_s(),
            vms=done,
            vms_all=len(uuids),
            blocks=blocks,
            recent=recent,
            never=never,
            days=RECENT_DAYS,
            backlog=backlog,
            backlog_vms=backlog_vms,
            locked_until=until,
            locked=locked,
            problems=tuple(problems[:PROBLEMS_MAX]),
        )

    # -- remembered

    def _write(self) -> None:
        with self._mutex, suppress(OSError):
            value = {
                "lists": {name: asdict(one) for name, one in self.lists.items()},
                "depths": {name: asdict(one) for name, one in self.depths.items()},
            }
            write_whole(self._works.configuration.state_directory / NAME, value)

    def _read(self) -> None:
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            value: dict[str, Any] = json.loads((self._works.configuration.state_directory / NAME).read_bytes())
            self.lists = {name: _list_from(one) for name, one in value["lists"].items()}
            self.depths = _depths_from(value)


def remembered_depths(directory: Path) -> dict[str, Depth]:
    """By remote, as a service left them in that state directory."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        return _depths_from(json.loads((directory / NAME).read_bytes()))
    return {}


def _depths_from(value: dict[str, Any]) -> dict[str, Depth]:
    return {name: Depth(**{**one, "problems": tuple(one["problems"])}) for name, one in value["depths"].items()}


def _list_from(one: dict[str, Any]) -> RemoteVms:
    vms = tuple(VmOnRemote(**vm) for vm in one["vms"])
    return RemoteVms(**{**one, "looked": Looked(**one["looked"]), "vms": vms})
