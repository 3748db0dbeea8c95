"""What is wrong now: VMs whose last run failed or that are late, disks read whole, damage, locks, what is unusual,
jobs whose last run failed as a whole. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from xobackup.history.standing import Overview, Standing, State
from xobackup.notify.oddities import Oddities
from xobackup.notify.texts import name_text
from xobackup.texts import age_text, one_line

BAD = ("failed", "interrupted")
UNDECIDED = ("running", "cancelled", "skipped")
"""Runs that tell nothing of whether the next one will work."""
NOT_HAD = ("LockHeld", "RunLocked", "LockLost")
LOCKS = (*NOT_HAD, "not-locked", "endless")
"""What messages of a run about locks are called."""


class Kind(StrEnum):
    """What a channel may want to hear of."""

    FAILURE = "failure"
    """The last run of a VM, or of a job as a whole, failed."""
    RPO = "rpo"
    """A VM has no backup as young as it should be."""
    FULL = "full"
    """The newest backup of a VM read a disk whole although it had a base."""
    DAMAGE = "damage"
    """What is stored of a VM is not what was written, or did not boot."""
    LOCK = "lock"
    """A writer's lock could not be had or was lost; a lock on backups is missing, or never ends."""
    ANOMALY = "anomaly"
    """Something is unusual: a delta, what can be compressed, a schedule that does not start, a VM without a job."""
    SERVICE = "service"
    """Something is wrong with the service itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One thing. ``key``: the same as long as it is the same trouble."""

    key: str
    kind: Kind
    job: str
    about: str
    text: str
    advice: str = ""
    """What to do, where more is known than the text says."""

    def as_data(self) -> dict[str, str]:
        data = {"kind": self.kind.value, "job": self.job, "about": self.about, "text": self.text}
        return {**data, "advice": self.advice} if self.advice else data


@dataclass(slots=True)
class Seen:
    """What a look found: what is wrong, and by their keys all that was looked at. Only of those can be said that they
    are well again: what is not known (any more) is not well."""

    troubles: list[Trouble] = field(default_factory=list)
    judged: set[str] = field(default_factory=set)
    within: set[str] = field(default_factory=set)
    """Beginnings of keys: everything that begins so was looked at."""

    def looked_at(self, key: str) -> bool:
        return key in self.judged or any(key.startswith(one) for one in self.within)

    def vms(self, found: Overview) -> None:
        """Failures stand until a backup succeeds: a run that goes on or was cancelled ends none."""
        for one in found.vms:
            about = name_text(one.name)
            times = f" ({one.failures} times in a row)" if one.failures > 1 else ""
            text = f"its backup failed{times}: {one_line(one.last_reason, 400) or 'no reason is known'}"
            self._judge(f"failure {one.job} {one.uuid}", Kind.FAILURE, one.job, about, text if one.failures else "")
            if one.rpo_s is not None:
                age = "there is none" if one.age_s is None else f"it is {age_text(one.age_s)} old"
                text = f"its newest good backup is too old: {age}, {age_text(one.rpo_s)} are allowed"
                late = one.state in (State.LATE, State.NEVER)
                self._judge(f"rpo {one.job} {one.uuid}", Kind.RPO, one.job, about, text if late else "")
            if one.fallbacks is not None:
                self._full(one, about)

    def _full(self, one: Standing, about: str) -> None:
        """Until a backup of it is what it should be."""
        disks = "a disk was" if one.fallbacks == 1 else f"{one.fallbacks} disks were"
        why = one_line(one.full_reason, 400) or "no reason is known"
        text = f"{disks} read whole although an earlier backup was there to continue from: {why}"
        self._judge(f"full {one.job} {one.uuid}", Kind.FULL, one.job, about, text if one.fallbacks else "")

    def damage(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """What is known of the soundness of backups (:func:`xobackup.history.ask.damaged`). Damage stands until all
        of the VM's backups on that remote were looked at again, and none was found."""
        for row in rows:
            where = f" on {name_text(row['remote'])}" if row["remote"] else ""
            what = "restore test" if row["what"] == "boot" else f"backups{where} are damaged"
            text = f"its {what}: {one_line(row['damage'], 400)}"
            key = f"damage {row['what']} {row['uuid']} {row['remote']}"
            well = (row["whole_at"] or 0.0) > row["damaged_at"]
            about = name_text(row["name"] or row["uuid"])
            advice = one_line(row["hint"], 400) or _MEND[row["what"] == "boot"]
            self._judge(key, Kind.DAMAGE, row["job"], about, "" if well else text, advice)

    def locks(self, found: Overview, rows: Iterable[Mapping[str, Any]]) -> None:
        """What the newest runs of VMs said of locks (:func:`xobackup.history.ask.about_locks`)."""
        said: dict[tuple[str, str], list[str]] = {}
        for row in rows:
            if row["error_class"] in NOT_HAD and row["level"] != "error":
                continue  # it was tried again
            where = f"{row['remote']}: " if row["remote"] else ""
            said.setdefault((row["job"], row["uuid"]), []).append(
                f"{where}{_LOCK[row['error_class']]}: {row['text']}"
            )
        for one in found.vms:
            if one.last_outcome in UNDECIDED:
                continue
            text = one_line("; ".join(dict.fromkeys(said.get((one.job, one.uuid), ()))), 400)
            self._judge(f"lock {one.job} {one.uuid}", Kind.LOCK, one.job, name_text(one.name), text)

    def oddities(self, found: Oddities) -> None:
        """What is unusual."""
        self.judged |= found.judged
        self.within |= found.within
        self.troubles += [
            Trouble(key=one.key, kind=Kind.ANOMALY, job=one.job, about=one.about, text=one.text, advice=one.advice)
            for one in found.all
        ]

    def runs(self, newest: Iterable[Mapping[str, Any]]) -> None:
        """Runs of one job, the newest first: whether the last that tells something failed as a whole."""
        run = next((one for one in newest if one["outcome"] not in UNDECIDED), None)
        if run is not None:
            job = str(run["job"])
            text = f"its run failed: {one_line(str(run['reason']), 400) or 'no reason is known'}"
            bad = run["outcome"] in BAD and not run["failed"]
            self._judge(f"run {job}", Kind.FAILURE, job, f"job {name_text(job)}", text if bad else "")

    def service(self, name: str, problem: str) -> None:
        """One thing about the service itself; an empty ``problem``: it is well."""
        self._judge(f"service {name}", Kind.SERVICE, "", "xobackup", one_line(problem, 400))

    def _judge(  # noqa: PLR0917 - as a line of a table
        self, key: str, kind: Kind, job: str, about: str, text: str, advice: str = ""
    ) -> None:
        self.judged.add(key)
        if text:
            self.troubles.append(Trouble(key=key, kind=kind, job=job, about=about, text=text, advice=advice))


_MEND = {
    False: "`xobackup verify` says what is damaged, and ends this when nothing is; `xobackup repair` seeks copies",
    True: "`xobackup health-check` boots it again; another restore point may be well",
}
_LOCK = {
    "LockHeld": "its lock could not be had",
    "RunLocked": "its lock could not be had",
    "LockLost": "its lock was lost",
    "not-locked": "the storage does not lock what was written",
    "endless": "retention waits for ever",
}
