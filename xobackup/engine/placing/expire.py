"""Retention and merges of one VM on all remotes whose lock is held: where its backup went, and those set aside."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from schedules.retention import Entry
from xobackup.engine.cancel import CancelToken
from xobackup.engine.target import SINK_ERRORS, Targets
from xobackup.engine.tidy import expire_points
from xobackup.engine.view import VmView

if TYPE_CHECKING:
    from xobackup.engine.context import RunContext


def expire_everywhere(
    context: RunContext, vm: VmView, targets: Targets, cancel: CancelToken, warn: Callable[[str, str], None]
) -> int:
    """Apply retention; returns the blocks that were merged. ``warn`` hears a message and the remote it is about.

    A remote that was written to drops out when it fails; of one that was set aside it is only told.
    """
    entries = _entries(context, targets, warn) if targets.aside else {}
    blocks = 0

    def elsewhere(remote: str) -> list[Entry]:
        return [entry for name, found in entries.items() if name != remote for entry in found]

    for target in targets:
        try:
            told = elsewhere(target.name)
            blocks += expire_points(context, vm, target, cancel, lambda text: warn(text, ""), elsewhere=told)
        except SINK_ERRORS as error:
            targets.drop({target.name: error})
    for name in [name for name in targets.aside if entries.get(name)]:
        try:
            told, aside = elsewhere(name), targets.aside[name]
            blocks += expire_points(context, vm, aside, cancel, lambda text: warn(text, ""), elsewhere=told)
        except SINK_ERRORS as error:
            warn(f"what is old there stays for now: {error}", name)
    return blocks


def _entries(context: RunContext, targets: Targets, warn: Callable[[str, str], None]) -> dict[str, list[Entry]]:
    """By remote, what retention judges. Points on one that cannot be listed do not count, and stay."""
    job = context.job
    found: dict[str, list[Entry]] = {}
    for name, target in {**targets.by_name(), **targets.aside}.items():
        try:
            found[name] = target.entries(job.id, job.schedule_id, mode=job.settings.mode)
        except SINK_ERRORS as error:
            warn(f"its restore points do not count for retention now, and stay: {error}", name)
    return found
