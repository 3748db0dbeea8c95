"""Restore points read and compared, VM by VM."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xobackup.cli.examined import Examined
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.progress import Progress
    from xobackup.repository.repository import Repository
    from xobackup.repository.verify import VerifyOptions, VerifyReport

PROBLEMS_MAX = 200


def verify_points(
    repository: Repository,
    vm: str,
    points: list[str],
    asked: VerifyOptions,
    *,
    remote: str,
    progress: Progress,
    cancel: CancelToken,
) -> VerifyReport:
    """Verify ``points`` of a VM (ids or how they begin, ``latest``), all of them when none is named."""
    from xobackup.cli import repositories
    from xobackup.repository.verify import VerifyProgress

    meter = progress.meter(f"{repositories.vm_name(repository, vm) or vm} on {remote}", stage="verify")
    before = 0

    def told(done: VerifyProgress) -> None:
        nonlocal before
        meter.add(max(done.bytes_read - before, 0))
        before = done.bytes_read

    options = replace(asked, progress=told, check=cancel.check)
    chosen = [repositories.find_point(repository, vm, point).id for point in points] or None
    try:
        return repository.verify(vm, points=chosen, options=options)
    finally:
        progress.drop(meter)


def note_verified(
    notes: Examined, remote: str, repository: Repository, vm: str, report: VerifyReport, *, all_of_it: bool
) -> None:
    """For the history. What could not be read says nothing."""
    from xobackup.cli import repositories
    from xobackup.repository.layout import vm_directory
    from xobackup.texts import count_text

    beginning = f"{vm_directory(vm)}/"
    bad = [problem for problem in report.problems if problem.severity == "damage"]
    damages = [f"{problem.path.removeprefix(beginning)}: {problem.message}" for problem in bad]
    unknown = report.coverage.unread or any(problem.severity == "unknown" for problem in report.problems)
    more = f" and {count_text(len(damages) - 1, 'finding')} more" if len(damages) > 1 else ""
    damage = f"{damages[0]}{more}" if damages else ""
    whole = all_of_it and not unknown and bool(report.points)
    notes.note(vm, repositories.vm_name(repository, vm), remote, damage=damage, whole=whole)


def report_data(report: VerifyReport) -> dict[str, Any]:
    """What was found, as JSON data; of very much damage the first part."""
    problems = [asdict(one) for one in report.problems[:PROBLEMS_MAX]]
    return {
        "points": len(report.points),
        "damaged": report.damaged,
        "problems": problems,
        "more_problems": len(report.problems) - len(problems),
        "coverage": asdict(report.coverage),
    }


def incomplete(report: VerifyReport) -> tuple[str, str] | None:
    """Why a verification did not end well, and what can be done; ``None`` when it did."""
    from xobackup.texts import count_text

    if report.damaged:
        damaged = sum(problem.severity == "damage" for problem in report.problems)
        hint = "`xobackup clean` says what can be done, `xobackup repair` looks for copies of blocks"
        return f"{count_text(damaged, 'finding')} of damage", hint
    if report.coverage.unread or any(problem.severity == "unknown" for problem in report.problems):
        return "not everything could be read: nothing is known about that part", ""
    return None
