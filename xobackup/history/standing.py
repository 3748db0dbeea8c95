"""Which VMs are within their recovery point objective, and why others are not. Pure.

The age of a VM's protection counts from when its newest good backup *began*: what changed since would be lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple


class State(StrEnum):
    """Of one VM in one job; the worst first."""

    NEVER = "never"
    """No backup of it succeeded yet."""
    LATE = "late"
    """Its newest good backup is older than its objective."""
    UNKNOWN = "no objective"
    """Nothing says how old it may be."""
    GOOD = "good"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """How old the newest good backup of a job's VMs may be. ``rpo_s`` is ``None`` where nothing says it; ``why``:
    where it comes from."""

    rpo_s: float | None
    why: str


class Standing(NamedTuple):
    """One VM in one job. Times are Unix seconds; ``age_s``: of its newest good backup.

    A tuple, because a page makes ten thousand of them at a time, and a frozen dataclass costs three times as much.
    """

    uuid: str
    name: str
    kind: str
    pool: str
    job: str
    state: State
    age_s: float | None
    rpo_s: float | None
    good_at: float | None
    last_at: float
    last_outcome: str
    last_reason: str
    last_run_id: str
    mode: str
    failures: int
    fallbacks: int | None = None
    full_reason: str = ""
    chain: int | None = None
    known: int = 0
    fulls: int = 0
    odd: tuple[Mapping[str, str], ...] = ()
    """What is unusual: ``code``, ``text``, ``advice``."""

    @property
    def within(self) -> bool:
        return self.state is State.GOOD

    def as_data(self) -> dict[str, Any]:
        return self._asdict()


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All of them, those first that need somebody."""

    vms: tuple[Standing, ...]
    silent_jobs: tuple[str, ...]
    """Jobs of the configuration of which no run is known."""

    @property
    def counted(self) -> list[Standing]:
        """Those with an objective."""
        return [one for one in self.vms if one.state is not State.UNKNOWN]

    @property
    def headline(self) -> str:
        """``38 of 40 VMs within their RPO``."""
        counted = self.counted
        return f"{sum(one.within for one in counted)} of {len(counted)} VMs within their RPO"

    @property
    def good(self) -> bool:
        return all(one.within for one in self.counted) and not self.silent_jobs


def overview(latest: Iterable[Mapping[str, Any]], objectives: Mapping[str, Objective], now_s: float) -> Overview:
    """From what the database knows (:func:`xobackup.history.ask.latest`) and the jobs that there are.

    VMs of jobs that are gone are left out, and so are those that the newest run left out on purpose.
    """
    rows = [row for row in latest if row["job"] in objectives]
    seen = {row["job"] for row in rows}
    standings = [_standing(row, objectives[row["job"]], now_s) for row in rows if row["outcome"] != "skipped"]
    rank = {state: number for number, state in enumerate(State)}
    standings.sort(key=lambda one: (rank[one.state], -(one.age_s or 0), one.name, one.job))
    return Overview(vms=tuple(standings), silent_jobs=tuple(job for job in objectives if job not in seen))


def _standing(row: Mapping[str, Any], objective: Objective, now_s: float) -> Standing:
    good_at = row["good_at"]
    age_s = None if good_at is None else max(0.0, now_s - good_at)
    if age_s is None:
        state = State.NEVER
    elif objective.rpo_s is None:
        state = State.UNKNOWN
    else:
        state = State.GOOD if age_s <= objective.rpo_s else State.LATE
    return Standing(
        uuid=row["uuid"],
        name=row["name"] or row["uuid"],
        kind=row["kind"],
        pool=row["pool"],
        job=row["job"],
        state=state,
        age_s=age_s,
        rpo_s=objective.rpo_s,
        good_at=good_at,
        last_at=row["began_at"],
        last_outcome=row["outcome"],
        last_reason=row["reason"],
        last_run_id=row["run_id"],
        mode=row["mode"],
        failures=row["failures"],
        fallbacks=row.get("fallbacks"),
        full_reason=row.get("full_reason") or "",
        chain=row.get("chain"),
        known=row.get("known") or 0,
        fulls=row.get("fulls") or 0,
        odd=() if row.get("odd") in (None, "[]") else tuple(json.loads(row["odd"])),
    )
