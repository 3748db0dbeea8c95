"""What is wrong now: VMs whose last run failed or that are late, jobs whose last run failed as a whole. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from xobackup.history.standing import Overview, State

BAD = ("failed", "interrupted")
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


def troubles_of(found: Overview, runs: Iterable[Mapping[str, Any]], problems: Iterable[str]) -> list[Trouble]:
    """``runs``: the newest of each job; ``problems``: of the service itself."""
    troubles: list[Trouble] = []
    for one in found.vms:
        about = one_line(one.name)
        if one.last_outcome in BAD:
            times = f" ({one.failures} times in a row)" if one.failures > 1 else ""
            text = f"its backup failed{times}: {one_line(one.last_reason, 400) or 'no reason is known'}"
            troubles.append(
                Trouble(key=f"failure {one.job} {one.uuid}", kind=Kind.FAILURE, job=one.job, about=about, text=text)
            )
        if one.state in (State.LATE, State.NEVER) and one.rpo_s is not None:
            age = "there is none" if one.age_s is None else f"it is {hours(one.age_s)} old"
            text = f"its newest good backup is too old: {age}, {hours(one.rpo_s)} are allowed"
            troubles.append(
                Trouble(key=f"rpo {one.job} {one.uuid}", kind=Kind.RPO, job=one.job, about=about, text=text)
            )
    for run in runs:
        if run["outcome"] in BAD and not run["failed"]:
            text = f"its run failed: {one_line(str(run['reason']), 400) or 'no reason is known'}"
            job = str(run["job"])
            troubles.append(
                Trouble(key=f"run {job}", kind=Kind.FAILURE, job=job, about=f"job {one_line(job)}", text=text)
            )
    for problem in problems:
        text = one_line(problem, 400)
        troubles.append(Trouble(key=f"service {text}", kind=Kind.SERVICE, job="", about="xobackup", text=text))
    return troubles


def one_line(text: str, limit: int = NAME_MAX) -> str:
    """Without line breaks and control characters: it may get into the head of a mail."""
    flat = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"


def hours(seconds: float) -> str:
    """``26 h``, ``3 d 4 h``, ``12 min``."""
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 2 * 86_400:
        return f"{whole // 3600} h"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"
