"""What both kinds of ``xobackup health-check`` share: whose turn it is, what is said of a check, the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xobackup.cli.examined import BOOT, Examined
from xobackup.cli.output import Output
from xobackup.texts import duration_text

if TYPE_CHECKING:
    from xobackup.engine.health.request import CheckResult
    from xobackup.engine.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which VMs (uuids or names; none: all that are there), of which restore point."""

    vms: list[str]
    point: str
    every_s: float | None
    count: int | None
    dry_run: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """``refused``: VMs that could not even be planned; ``vms``: all whose turn it was."""

    results: list[CheckResult]
    refused: int
    vms: int


def sampled(output: Output, world: World, candidates: Sequence[str], wanted: Wanted) -> list[str]:
    """Those of ``candidates`` (uuids) to check now, in order."""
    from xobackup.engine.health.of_job import checked_times
    from xobackup.engine.health.sample import due

    found = list(candidates)
    if wanted.every_s is not None or wanted.count is not None:
        found = due(
            found,
            checked_times(world),
            now_s=world.clock.now_s(),
            every_s=wanted.every_s or 0.0,
            vms_max=wanted.count,
        )
    if not found:
        output.say("no VM is due for a health check")
    return found


def found_out(output: Output, world: World, result: CheckResult) -> None:
    """Remember a check and tell of it."""
    from xobackup.engine.health.memory import remember

    remember(world.state_directory, result, now_s=world.clock.now_s())
    damage = "" if result.ok else f"{result.point} did not pass its health check: {result.reason}"
    notes = Examined(world.state_directory, "health-check")
    notes.note(result.vm_uuid, result.vm_name, result.remote, damage=damage, whole=result.ok, what=BOOT)
    notes.close()
    output.record("health-check", result.as_data())
    for warning in result.warnings:
        output.note(f"warning: {warning}", style="yellow")
    steps = ", ".join(f"{step.name} {duration_text(step.seconds)}" for step in result.steps)
    if result.ok:
        output.say(f"{result.vm_name}: healthy ({steps})", style="green")
    else:
        output.say(f"{result.vm_name}: FAILED: {result.reason} ({steps})", style="red")
    if not result.removed:
        output.note("warning: its VM is still there; the next start removes it", style="yellow")


def write_report(path: Path, results: list[CheckResult], world: World) -> None:
    """As its name says: HTML or JSON."""
    from xobackup.cli.new_files import write_new
    from xobackup.clock import utc
    from xobackup.engine.health.report import as_html, as_json

    render = as_html if path.suffix == ".html" else as_json
    made_at = utc(world.clock.now_s()).isoformat(timespec="seconds")
    write_new(path, render("Health checks", results, made_at=made_at), force=True)
