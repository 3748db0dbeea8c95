"""What happened since the last digest, as data and as text. Pure: who makes one has asked the history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from xobackup.history.standing import Overview
from xobackup.notify.texts import name_text
from xobackup.notify.troubles import Trouble
from xobackup.texts import count_text, one_line, size_text

LISTED_MAX = 40
"""Of each sort: a mail is read by a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLine:
    """The runs of one job. ``outcomes``: how many ended how."""

    job: str
    outcomes: tuple[tuple[str, int], ...]
    read_bytes: int

    @property
    def told(self) -> str:
        return ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes)

    @property
    def good(self) -> bool:
        return all(outcome in ("ok", "skipped", "running") for outcome, _ in self.outcomes)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteLine:
    """A remote. ``None``: not known."""

    name: str
    used_bytes: int | None
    free_bytes: int | None
    grown_bytes: int | None
    coverage: float | None
    """Share of its blocks that were verified lately."""
    backlog: int | None
    problem: str

    @property
    def growth(self) -> str:
        if self.grown_bytes is None:
            return ""
        return f"{'-' if self.grown_bytes < 0 else '+'}{size_text(abs(self.grown_bytes))}"

    @property
    def told(self) -> str:
        if self.problem:
            return one_line(self.problem, 200)
        parts = []
        if self.used_bytes is not None:
            parts.append(f"{size_text(self.used_bytes)} used" + (f" ({self.growth})" if self.growth else ""))
        if self.free_bytes is not None:
            parts.append(f"{size_text(self.free_bytes)} free")
        if self.coverage is not None:
            parts.append(f"{self.coverage:.0%} of its blocks verified within 30 days")
        if self.backlog:
            parts.append(f"{self.backlog} to be merged or deleted")
        return ", ".join(parts) or "nothing is known of its space"


@dataclass(frozen=True, slots=True, kw_only=True)
class TestLine:
    """A restore test."""

    name: str
    remote: str
    point: str
    ok: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """See the module's head. Times are Unix seconds; names are on one line already."""

    period: str
    since: float
    until: float
    zone: tzinfo
    headline: str
    within: bool
    """Every VM is within its RPO."""
    troubles: tuple[Trouble, ...]
    jobs: tuple[JobLine, ...]
    remotes: tuple[RemoteLine, ...]
    fulls: tuple[tuple[str, str, int], ...]
    """Job, reason, disks."""
    tests: tuple[TestLine, ...]

    @property
    def title(self) -> str:
        open_ = "no trouble open" if not self.troubles else f"{count_text(len(self.troubles), 'trouble')} open"
        return f"xobackup {self.period}: {self.headline}, {open_}"[:200]

    @property
    def good(self) -> bool:
        return self.within and not self.troubles

    @property
    def span(self) -> str:
        return f"{self._moment(self.since)} to {self._moment(self.until)}"

    @property
    def tests_told(self) -> str:
        passed = sum(one.ok for one in self.tests)
        return f"{passed} passed, {len(self.tests) - passed} failed" if self.tests else "none"

    @property
    def body(self) -> str:
        """As text."""
        lines = [self.headline, self.span, "", f"Troubles open: {len(self.troubles) or 'none'}"]
        lines += _cut([_trouble(one) for one in self.troubles])
        lines += ["", "Runs:" if self.jobs else "Runs: none"]
        lines += _cut([f"- {one.job}: {one.told}; {size_text(one.read_bytes)} read" for one in self.jobs])
        lines += ["", "Remotes:" if self.remotes else "Remotes: none is known"]
        lines += _cut([f"- {one.name}: {one.told}" for one in self.remotes])
        lines += [
            "",
            f"Disks read whole although they had a base: {sum(count for *_, count in self.fulls) or 'none'}",
        ]
        lines += _cut([f"- {job}: {count}, {reason}" for job, reason, count in self.fulls])
        lines += ["", f"Restore tests: {self.tests_told}"]
        lines += _cut([f"- {one.name} from {one.remote}: {one.reason}" for one in self.tests if not one.ok])
        return "\n".join(lines)

    @property
    def html(self) -> str:
        """The same, for a mail."""
        from xobackup.notify.digest_html import as_html

        return as_html(self)

    def as_data(self) -> dict[str, Any]:
        """For a program; stable keys."""
        return {
            "title": self.title,
            "good": self.good,
            "digest": self.period,
            "since": self.since,
            "until": self.until,
            "headline": self.headline,
            "open": len(self.troubles),
            "troubles": [one.as_data() for one in self.troubles[:LISTED_MAX]],
            "jobs": [{**asdict(one), "outcomes": dict(one.outcomes)} for one in self.jobs[:LISTED_MAX]],
            "remotes": [asdict(one) for one in self.remotes[:LISTED_MAX]],
            "fulls": [{"job": job, "reason": reason, "disks": count} for job, reason, count in self.fulls],
            "tests": [asdict(one) for one in self.tests[:LISTED_MAX]],
            "text": self.body,
        }

    def _moment(self, at: float) -> str:
        return f"{datetime.fromtimestamp(at, tz=UTC).astimezone(self.zone):%a %Y-%m-%d %H:%M %Z}"


Row = Mapping[str, Any]


def digest_of(
    found: Overview,
    troubles: Iterable[Trouble],
    *,
    period: str,
    since: float,
    until: float,
    zone: tzinfo,
    sums: Iterable[Row],
    samples: Mapping[str, Sequence[Row]],
    depths: Mapping[str, tuple[float | None, int]],
    fulls: Iterable[Row],
    tests: Iterable[Row],
) -> Digest:
    """From answers of :mod:`xobackup.history.ask`. ``samples``: of each remote, the oldest first;
    ``depths``: the share of its blocks that were verified within 30 days, and its backlog, where known."""
    by_job: dict[str, list[Row]] = {}
    for row in sums:
        by_job.setdefault(row["job"], []).append(row)
    return Digest(
        period=period,
        since=since,
        until=until,
        zone=zone,
        headline=found.headline,
        within=found.good,
        troubles=tuple(troubles),
        jobs=tuple(
            JobLine(
                job=name_text(job),
                outcomes=tuple((row["outcome"], int(row["runs"])) for row in rows),
                read_bytes=sum(int(row["read_bytes"] or 0) for row in rows),
            )
            for job, rows in by_job.items()
        ),
        remotes=tuple(_remote(name, rows, depths.get(name)) for name, rows in samples.items()),
        fulls=tuple((name_text(row["job"]), name_text(row["why"]), int(row["count"])) for row in fulls),
        tests=tuple(
            TestLine(
                name=name_text(row["name"] or row["uuid"]),
                remote=name_text(row["remote"]),
                point=name_text(row["point"]),
                ok=bool(row["ok"]),
                reason=one_line(row["reason"], 300),
            )
            for row in tests
        ),
    )


def _remote(name: str, rows: Sequence[Row], depth: tuple[float | None, int] | None) -> RemoteLine:
    newest: Row = rows[-1] if rows else {}
    used = [row["used_bytes"] for row in rows if row["used_bytes"] is not None]
    return RemoteLine(
        name=name_text(name),
        used_bytes=used[-1] if used else None,
        free_bytes=newest.get("free_bytes"),
        grown_bytes=used[-1] - used[0] if len(used) > 1 else None,
        coverage=None if depth is None else depth[0],
        backlog=None if depth is None else depth[1],
        problem=newest.get("problem") or "",
    )


def _trouble(one: Trouble) -> str:
    where = f"{one.about} (job {one.job})" if one.job else one.about
    return f"- {one.kind}: {where}: {one.text}" + (f"; what to do: {one.advice}" if one.advice else "")


def _cut(lines: list[str]) -> list[str]:
    more = len(lines) - LISTED_MAX
    return [*lines[:LISTED_MAX], *([f"- and {more} more: `xobackup status`"] if more > 0 else [])]
