"""``xobackup verify --coverage``: how much was verified, and how long ago."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from xobackup.cli import repositories
from xobackup.cli.output import Output

if TYPE_CHECKING:
    from xobackup.repository.coverage import VmAges
    from xobackup.repository.repository import Repository


def show_coverage(output: Output, chosen: Iterable[tuple[str, Repository, list[str]]], days: float) -> None:
    """A line per VM, and one for all of them."""
    rows: list[list[str]] = []
    blocks = recent = never = 0
    for name, repository, vms in chosen:
        for uuid in vms:
            ages = repository.verified(uuid, days=days)
            label = repositories.vm_name(repository, uuid) or uuid
            output.record("vm-coverage", {"remote": name, "name": label, "days": days, **_facts(ages)})
            blocks, recent, never = blocks + ages.blocks, recent + ages.recent, never + ages.never
            rows.append([label, name, str(ages.blocks), _share(ages.recent, ages.blocks), *_rest(ages)])
    if not rows:
        output.say("there are no backups")
        return
    within = f"within {days:g} days"
    output.table(None, ["VM", "remote", "blocks>!", f"{within}>!", "never>!", "oldest!", "full backups!"], rows)
    output.record("total-coverage", {"blocks": blocks, "recent": recent, "never": never, "days": days})
    output.say(f"{_share(recent, blocks)} of {blocks} blocks verified {within}, {never} never")


def _facts(ages: VmAges) -> dict[str, object]:
    return {
        "vm": ages.vm,
        "blocks": ages.blocks,
        "recent": ages.recent,
        "never": ages.never,
        "oldest_s": ages.oldest_s,
        "images": ages.images,
        "images_recent": ages.images_recent,
        "images_never": ages.images_never,
        "disks": [asdict(disk) for disk in ages.disks],
    }


def _rest(ages: VmAges) -> list[str]:
    oldest = ages.oldest_s
    when = datetime.fromtimestamp(oldest, tz=UTC).strftime("%Y-%m-%d") if oldest is not None else "-"
    images = f"{ages.images_recent} of {ages.images}" if ages.images else "-"
    return [str(ages.never), when, images]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "-"
