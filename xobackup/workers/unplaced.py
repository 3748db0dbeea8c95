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
    from xobackup.workers.records import About


def note_unplaced(board: Board, run: str, job: str, vm: VmView | About, choice: Choice) -> None:
    """It waits, for this reason, since when it was first noted. Raises ``BoardUnavailable``."""
    this = sa.and_(table.c.run == run, table.c.vm == mark_of(vm))
    told = {"site": choice.queue or NOWHERE, "reason": choice.reason[:1000]}
    names = {"vm_name": vm.name[:300], "job": job[:200]}
    with board.writing() as connection:
        if not connection.execute(sa.update(table).where(this).values(told)).rowcount:
            row = {"run": run, "vm": mark_of(vm), "since": board.now, **names, **told}
            connection.execute(sa.insert(table).values(row))


def mark_of(vm: VmView | About) -> str:
    """What tells it from others of its run."""
    return vm.uuid or vm.name[:64]


def forget_unplaced(board: Board, run: str, vm: str) -> None:
    """It has its worker, or waits no longer; ``vm``: its :func:`mark_of`. What runs without a control node left is
    removed on the way. Raises ``BoardUnavailable``."""
    living = sa.select(schema.runs.c.id).where(schema.runs.c.seen >= board.now - 2 * LEASE_S)
    with board.writing() as connection:
        this = sa.and_(table.c.run == run, table.c.vm == vm)
        connection.execute(sa.delete(table).where(sa.or_(this, table.c.run.not_in(living))))
