"""What is unusual though nothing failed: deltas and contents unlike a VM's own history, VMs that no job backs up,
schedules that do not start, jobs whose every run is full. Pure; each says its figures and what to do.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xobackup.history.anomalies import Odd
from xobackup.history.standing import Overview, Standing
from xobackup.notify.texts import name_text
from xobackup.texts import age_text, one_line

PAUSED_S = 7 * 86_400.0
"""A pause that may have been forgotten."""
MISSED_MIN = 2
FULL_RUNS_MIN = 4
NAMED_MAX = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Oddity:
    """One thing. ``key``: the same as long as it is the same thing."""

    key: str
    job: str
    about: str
    text: str
    advice: str
    uuid: str = ""

    def as_data(self) -> dict[str, str]:
        named = {"job": self.job, "about": self.about, "uuid": self.uuid}
        return {**named, "text": self.text, "advice": self.advice}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleFacts:
    """A schedule as it stands. Times are Unix seconds; ``None``: not known, or none."""

    name: str
    enabled: bool = True
    paused: str | None = None
    """Why, when it is."""
    last_began: float | None = None
    """The newest run of any of its jobs."""
    starts: bool = True
    """Its calendar (or that of the schedule that it follows) has a start within ``ahead_days``."""
    ahead_days: int = 0
    missed: int = 0
    """Starts of its calendar since it was followed last, none of which came to anything."""
    missed_since: float | None = None


@dataclass(slots=True)
class Oddities:
    """What a look found, and what it looked at (see :class:`xobackup.notify.troubles.Seen`)."""

    all: list[Oddity] = field(default_factory=list)
    judged: set[str] = field(default_factory=set)
    within: set[str] = field(default_factory=set)

    def vms(self, found: Overview) -> None:
        """By each VM's own history."""
        for one in found.vms:
            if not one.known:
                continue
            for code in Odd:
                told = [odd for odd in one.odd if odd.get("code") == code]
                self._judge(
                    f"odd {code} {one.job} {one.uuid}",
                    one.job,
                    name_text(one.name),
                    one_line("; ".join(odd["text"] for odd in told), 600),
                    told[0]["advice"] if told else "",
                    uuid=one.uuid,
                )

    def jobs(self, found: Overview, delta_jobs: Collection[str]) -> None:
        """Jobs that should make deltas (``delta_jobs``), and never do."""
        by_job: dict[str, list[Standing]] = {}
        for one in found.vms:
            if one.job in delta_jobs and one.kind == "vm" and one.known >= FULL_RUNS_MIN:
                by_job.setdefault(one.job, []).append(one)
        for job, vms in by_job.items():
            always = all(one.fulls == one.known for one in vms)
            count = f"{len(vms)} VMs" if len(vms) > 1 else "one VM"
            reason = next((one.full_reason for one in vms if one.full_reason), "")
            because = f"; the newest one because {one_line(reason, 300)}" if reason else ""
            runs = min(one.known for one in vms)
            text = f"every run is full: {count}, the last {runs} runs of each and no delta{because}"
            advice = f"`xobackup plan {job}` tells for each disk why"
            self._judge(f"odd fulls {job}", job, f"job {name_text(job)}", text if always else "", advice)

    def pools(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """VMs that no job selects (:func:`xobackup.history.ask.pools`)."""
        for row in rows:
            pool = name_text(row["pool"])
            beginning = f"odd unprotected {row['pool']} "
            self.within.add(beginning)
            for vm in json.loads(row["unprotected"]):
                self.all.append(
                    Oddity(
                        key=f"{beginning}{vm['uuid']}",
                        job="",
                        about=name_text(vm["name"] or vm["uuid"]),
                        text=f"nobody backs it up: no job selects it, and it has no tag xo:no-bak (pool {pool})",
                        advice="add it to a job (`vms.include`), or say that it needs no backup by the tag xo:no-bak",
                        uuid=vm["uuid"],
                    )
                )

    def schedules(self, found: Iterable[ScheduleFacts], now_s: float) -> None:
        """Schedules that nobody switched off, and that do not start."""
        for one in found:
            if one.enabled:
                text, advice = _asleep(one, now_s)
                self._judge(f"odd schedule {one.name}", "", f"schedule {name_text(one.name)}", text, advice)

    def _judge(self, key: str, job: str, about: str, text: str, advice: str, *, uuid: str = "") -> None:
        self.judged.add(key)
        if text:
            self.all.append(Oddity(key=key, job=job, about=about, text=text, advice=advice, uuid=uuid))


def _asleep(one: ScheduleFacts, now_s: float) -> tuple[str, str]:
    """What is wrong and what to do; nothing when all is well, or nothing is known."""
    if one.paused is not None:
        if one.last_began is None or now_s - one.last_began < PAUSED_S:
            return "", ""
        told = f" ({one_line(one.paused, 200)})" if one.paused else ""
        ago = age_text(now_s - one.last_began)
        return f"it is paused{told}, and its jobs began last {ago} ago", f"`xobackup schedules resume {one.name}`"
    if not one.starts:
        text = f"it never fires: no start within the next {one.ahead_days} days by its calendar"
        return text, f"look at its cron, exclude, window and after: `xobackup schedules show {one.name}`"
    if one.missed >= MISSED_MIN and one.missed_since is not None:
        ago = age_text(now_s - one.missed_since)
        text = f"{one.missed} starts of its calendar came to nothing, the first one {ago} ago"
        return text, "is `xobackup serve` running? `systemctl status xobackup`"
    return "", ""


def grouped(found: Iterable[Oddity]) -> list[tuple[Oddity, list[str]]]:
    """Those that say the same of several, as one: the first, and the names of all."""
    groups: dict[tuple[str, str], list[Oddity]] = {}
    for one in found:
        groups.setdefault((one.job, one.text), []).append(one)
    return [(ones[0], [one.about for one in ones]) for ones in groups.values()]


def named(names: list[str]) -> str:
    """``a, b, c and 7 more``."""
    more = len(names) - NAMED_MAX
    return ", ".join(names[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
