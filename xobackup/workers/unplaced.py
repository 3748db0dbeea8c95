"""VMs that no living worker could do: written down while they wait, so that everybody can see it, and since when.
Nothing depends on it. A run whose control node is gone waits for nobody any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from xobackup.workers import schema
from xobackup.workers.records import LEASE_S
from xobackup.workers.sharing_schema import unplaced as table

NOWHERE = "-"
"""No site reaches all it needs."""

if TYPE_CHECKING:
    from xobackup.engine.view import VmView
    from xobackup.workers.board import Board
    from xobackup.workers.placing import Choice


def note_unplaced(board: Board, run: str, job: str, vm: VmView, choice: Choice) -> None:
    """It waits, for this reason, since when it was first noted. Raises ``BoardUnavailable``."""
    this = sa.and_(table.c.run == run, table.c.vm == vm.uuid)
    told = {"site": choice.queue or NOWHERE, "reason": choice.reason[:1000]}
    names = {"vm_name": vm.name[:300], "job": job[:200]}
    with board.writing() as connection:
        if not connection.execute(sa.update(table).where(this).values(told)).rowcount:
            row = {"run": run, "vm": vm.uuid, "since": board.now, **names, **told}
            connection.execute(sa.insert(table).values(row))


def forget_unplaced(board: Board, run: str, vm: str) -> None:
    """It has its worker, or waits no longer. What runs without a control node left is removed on the way. Raises
    ``BoardUnavailable``."""
    living = sa.select(schema.runs.c.id).where(schema.runs.c.seen >= board.now - 2 * LEASE_S)
    with board.writing() as connection:
        this = sa.and_(table.c.run == run, table.c.vm == vm)
        connection.execute(sa.delete(table).where(sa.or_(this, table.c.run.not_in(living))))
