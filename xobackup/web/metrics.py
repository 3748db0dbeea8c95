"""Prometheus' text format (0.0.4) of what the pages show. Names and labels here are a promise: dashboards and rules
depend on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xobackup.history import ask
from xobackup.history.standing import State
from xobackup.web.house import House
from xobackup.web.views import ReplicaView

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
RECENT_S = 86_400.0


class Family:
    """One metric with its samples."""

    def __init__(self, name: str, kind: str, told: str) -> None:
        self._lines = [f"# HELP xobackup_{name} {told}", f"# TYPE xobackup_{name} {kind}"]
        self._name = name
        self._empty = True

    def add(self, value: float, **labels: str) -> None:
        shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        number = repr(float(value)) if value != int(value) else str(int(value))
        self._lines.append(
            f"xobackup_{self._name}{{{shown}}} {number}" if shown else f"xobackup_{self._name} {number}"
        )
        self._empty = False

    @property
    def lines(self) -> list[str]:
        return [] if self._empty else self._lines


def exposition(house: House) -> str:
    """All of it, a family after the other."""
    parts = (_vms, _runs, _remotes, _replicas, _schedules, _workers, _service)
    families = [family for part in parts for family in part(house)]
    return "".join(f"{line}\n" for family in families for line in family.lines)


def _vms(house: House) -> Iterable[Family]:
    now = house.now_s()
    good = Family("vm_last_success_timestamp_seconds", "gauge", "When the newest good backup of a VM began.")
    age = Family("vm_rpo_age_seconds", "gauge", "Age of the newest good backup of a VM.")
    target = Family("vm_rpo_target_seconds", "gauge", "How old it may be.")
    late = Family("vm_late", "gauge", "1 when a VM has no backup as young as it should be.")
    failures = Family("vm_failures", "gauge", "Runs of a VM that failed since its last good one.")
    chain = Family("vm_chain_length", "gauge", "Deltas of a VM since its last full, of the disk with the most.")
    for one in house.overview().vms:
        labels = {"vm": one.name, "uuid": one.uuid, "job": one.job, "pool": one.pool}
        if one.good_at is not None:
            good.add(one.good_at, **labels)
            age.add(max(0.0, now - one.good_at), **labels)
        if one.rpo_s is not None:
            target.add(one.rpo_s, **labels)
        late.add(1 if one.state in (State.LATE, State.NEVER) else 0, **labels)
        failures.add(one.failures, **labels)
        if one.chain is not None:
            chain.add(one.chain, **labels)
    return good, age, target, late, failures, chain


def _runs(house: House) -> Iterable[Family]:
    began = Family("job_last_run_timestamp_seconds", "gauge", "When the newest run of a job began.")
    took = Family("job_last_run_duration_seconds", "gauge", "How long it took.")
    ok = Family("job_last_run_ok", "gauge", "1 when it went well.")
    read = Family("job_last_run_read_bytes", "gauge", "Bytes it read from pools.")
    vms = Family("job_last_run_vms", "gauge", "VMs of it by outcome.")
    fulls = Family(
        "unwanted_fulls_24h",
        "gauge",
        "Disks read whole in the last day although they were backed up before, by reason.",
    )
    stages = Family("stage_seconds_24h", "gauge", "Time that VMs spent in each stage in the last day.")
    store = house.store()
    for job in house.jobs():
        for row in ask.runs(store, job=job.name, limit=1):
            began.add(row["began_at"], job=job.name)
            took.add(row["duration_s"], job=job.name)
            ok.add(1 if row["outcome"] in ("ok", "skipped") else 0, job=job.name)
            read.add(row["read_bytes"], job=job.name)
            for outcome in ("ok", "failed", "skipped"):
                vms.add(row[outcome], job=job.name, outcome=outcome)
    since = house.now_s() - RECENT_S
    for row in ask.fallbacks(store, since=since):
        fulls.add(row["count"], job=row["job"], reason=row["why"])
    for row in ask.stages(store, since=since):
        stages.add(row["seconds"], job=row["job"], stage=row["phase"])
    return began, took, ok, read, vms, fulls, stages


def _remotes(house: House) -> Iterable[Family]:
    free = Family("remote_free_bytes", "gauge", "Free space of a remote.")
    used = Family("remote_used_bytes", "gauge", "Used space of a remote.")
    total = Family("remote_total_bytes", "gauge", "Size of a remote.")
    up = Family("remote_up", "gauge", "1 when it answered the last time the service looked.")
    verified = Family(
        "remote_verified_ratio", "gauge", "Share of its blocks that were verified within 30 days, as far as known."
    )
    backlog = Family("remote_merge_backlog", "gauge", "Disks on it that wait to be merged or deleted.")
    for one in house.remotes():
        if one.depth is not None:
            backlog.add(one.depth.backlog, remote=one.name)
            if one.depth.coverage is not None:
                verified.add(one.depth.coverage, remote=one.name)
        for family, value in ((free, one.free_bytes), (used, one.used_bytes), (total, one.total_bytes)):
            if value is not None:
                family.add(value, remote=one.name)
        if one.seen_at is not None:
            up.add(0 if one.problem else 1, remote=one.name)
    return free, used, total, up, verified, backlog


def _replicas(house: House) -> Iterable[Family]:
    """As they were when the target was last looked at. Of two with the same labels the better one is told."""
    lag = Family("replica_lag_seconds", "gauge", "Time since the newest restore point of a replica, as last seen.")
    usable = Family("replica_usable", "gauge", "1 when a failover could use that restore point.")
    up = Family("target_up", "gauge", "1 when the target's pool answered the last time the service looked.")
    now = house.now_s()
    for target in house.replicas():
        best: dict[tuple[str, str, str], ReplicaView] = {}
        for one in sorted(target.replicas, key=lambda one: (one.usable, one.newest_at)):
            best[one.name, one.vm_uuid, one.job] = one
        for (name, uuid, job), one in sorted(best.items()):
            labels = {"vm": name, "uuid": uuid, "job": job, "target": target.name}
            lag.add(max(0.0, now - one.newest_at), **labels)
            usable.add(1 if one.usable else 0, **labels)
        if target.looked.at is not None or target.looked.problem:
            up.add(0 if target.looked.problem else 1, target=target.name)
    return lag, usable, up


def _schedules(house: House) -> Iterable[Family]:
    following = Family("schedule_next_start_timestamp_seconds", "gauge", "When a schedule starts next.")
    states = Family("schedule_state", "gauge", "1 for what a schedule is: running, waiting, paused, disabled, idle.")
    waiting = Family("schedules_waiting", "gauge", "Schedules that are due and wait for their turn.")
    waiting.add(sum(one.state == "waiting" for one in house.schedules()))
    for one in house.schedules():
        if one.next_at is not None:
            following.add(one.next_at.timestamp(), schedule=one.name)
        for state in ("running", "waiting", "paused", "disabled", "idle"):
            states.add(1 if (one.state or "idle") == state else 0, schedule=one.name, state=state)
    return following, states, waiting


def _workers(house: House) -> Iterable[Family]:
    """Nothing where there is no database for them, or it was not reached yet."""
    seen = house.workers()
    alive = Family("workers_alive", "gauge", "Workers that live, by site; all of them at site *.")
    doing = Family("worker_tasks_doing", "gauge", "VMs that workers do now, by the site of the worker.")
    waiting = Family("worker_tasks_waiting", "gauge", "VMs that wait for a worker, by site; site *: for any.")
    oldest = Family("worker_oldest_waiting_seconds", "gauge", "How long the one has waited that waits longest.")
    up = Family("engine_database_up", "gauge", "1 when the last look at the workers' database went well.")
    if seen.there and (seen.looked.at is not None or seen.looked.problem):
        up.add(0 if seen.looked.problem else 1)
    if seen.there and seen.looked.at is not None:
        for site, count in seen.alive_by_site().items():
            alive.add(count, site=site)
        for site, count in seen.doing_by_site().items():
            doing.add(count, site=site)
        for one in seen.waiting:
            waiting.add(one.count, site=one.site)
            oldest.add(one.oldest_s, site=one.site)
    return alive, doing, waiting, oldest, up


def _service(house: House) -> Iterable[Family]:
    about = Family("build_info", "gauge", "The version.")
    about.add(1, version=house.version)
    problems = Family("service_problems", "gauge", "Things that are wrong with the service itself.")
    problems.add(len(house.problems()))
    odd = Family("anomalies", "gauge", "Things that are unusual though nothing failed; `xobackup status` says which.")
    odd.add(len(house.oddities()))
    live = Family("transfer_bytes_per_second", "gauge", "What is moving now, by what it is.")
    rates: dict[str, float] = {}
    for run in house.live():
        for meter in run.meters:
            if not meter.finished:
                rates[meter.stage] = rates.get(meter.stage, 0.0) + meter.rate_bytes_s
    for stage, rate in sorted(rates.items()):
        live.add(rate, stage=stage)
    parts: Mapping[str, str] = house.healthy()
    ready = Family("ready", "gauge", "1 for each part of the service that is as it should be.")
    for part, problem in parts.items():
        ready.add(0 if problem else 1, part=part)
    return about, problems, odd, live, ready


def _escaped(text: str) -> str:
    """As the format has it; other control characters would break scrapers that read lines."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return "".join(char if char.isprintable() else " " for char in plain)[:512]
