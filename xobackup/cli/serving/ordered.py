"""What people order, put together with what does it, and told: in the log, and in the audit log how it ended."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from xobackup.cli.serving.performing import Performer
from xobackup.clock import SystemClock
from xobackup.service.operations import Operation, Operations, State
from xobackup.web.audit import Audit

if TYPE_CHECKING:
    from collections.abc import Callable

    from xobackup.cli.logs import Lines
    from xobackup.cli.serving.works import Works


def make_operations(works: Works, changed: Callable[[str, str], None], log: Lines) -> Operations:
    """With what an earlier process left told as interrupted."""
    clock = SystemClock()
    directory = works.configuration.state_directory
    audit = Audit(directory, clock.now_s)

    def told(one: Operation) -> None:
        ok = one.state is State.DONE
        outcome = f"{one.kind} {one.state}"
        log("info" if ok else "error", f"{outcome}: {one.about}{f': {one.problem}' if one.problem else ''}")
        with suppress(OSError):  # it is over; what could not be written is in the log
            audit.note(one.who, "", outcome, f"{one.about} ({one.id})", ok=ok)

    operations = Operations(
        directory,
        Performer(works, changed),
        clock=clock,
        new_id=lambda: secrets.token_hex(8),
        work_max=works.configuration.service.operations_max,
        ended=told,
    )
    for one in operations.interrupted:
        told(one)
    return operations
