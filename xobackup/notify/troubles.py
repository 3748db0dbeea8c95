"""What is wrong now: VMs whose last run failed or that are late, jobs whose last run failed as a whole. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from xobackup.history.standing import Overview, State
from xobackup.texts import age_text, one_line

BAD = ("failed", "interrupted")
UNDECIDED = ("running", "cancelled", "skipped")
"""Runs that tell nothing of whether the next one will work."""
NAME_MAX = 120


class Kind(StrEnum):
    """What a channel may want to hear of."""

    FAILURE = "failure"
    """The last run of a VM, or of a job as a whole, failed."""
    RPO = "rpo"
    """A VM has no backup as young as it should be."""
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

    def as_data(self) -> dict[str, str]:
        return {"kind": self.kind.value, "job": self.job, "about": self.about, "text": self.text}


@dataclass(slots=True)
class Seen:
    """What a look found: what is wrong, and by their keys all that was looked at. Only of those can be said that they
    are well again: what is not known (any more) is not well."""

    troubles: list[Trouble] = field(default_factory=list)
    judged: set[str] = field(default_factory=set)

    def vms(self, found: Overview) -> None:
        """Failures stand until a backup succeeds: a run that goes on or was cancelled ends none."""
        for one in found.vms:
            about = one_line(one.name, NAME_MAX)
            times = f" ({one.failures} times in a row)" if one.failures > 1 else ""
            text = f"its backup failed{times}: {one_line(one.last_reason, 400) or 'no reason is known'}"
            self._judge(f"failure {one.job} {one.uuid}", Kind.FAILURE, one.job, about, text if one.failures else "")
            if one.rpo_s is not None:
                age = "there is none" if one.age_s is None else f"it is {age_text(one.age_s)} old"
                text = f"its newest good backup is too old: {age}, {age_text(one.rpo_s)} are allowed"
                late = one.state in (State.LATE, State.NEVER)
                self._judge(f"rpo {one.job} {one.uuid}", Kind.RPO, one.job, about, text if late else "")

    def runs(self, newest: Iterable[Mapping[str, Any]]) -> None:
        """Runs of one job, the newest first: whether the last that tells something failed as a whole."""
        run = next((one for one in newest if one["outcome"] not in UNDECIDED), None)
        if run is not None:
            job = str(run["job"])
            text = f"its run failed: {one_line(str(run['reason']), 400) or 'no reason is known'}"
            bad = run["outcome"] in BAD and not run["failed"]
            self._judge(f"run {job}", Kind.FAILURE, job, f"job {one_line(job, NAME_MAX)}", text if bad else "")

    def service(self, name: str, problem: str) -> None:
        """One thing about the service itself; an empty ``problem``: it is well."""
        self._judge(f"service {name}", Kind.SERVICE, "", "xobackup", one_line(problem, 400))

    def _judge(self, key: str, kind: Kind, job: str, about: str, text: str) -> None:
        self.judged.add(key)
        if text:
            self.troubles.append(Trouble(key=key, kind=kind, job=job, about=about, text=text))
