"""``unexpected_fulls_max`` over everybody who does VMs of a run: each VM whose chain is about to begin again unasked
is counted on the board before anything of it is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import sqlalchemy as sa

from xobackup.engine.errors import VmRefused
from xobackup.workers import schema
from xobackup.workers.errors import BoardUnavailable
from xobackup.workers.sharing_schema import fulls as table

if TYPE_CHECKING:
    from xobackup.workers.board import Board

COUNTING = 7201994
"""The advisory lock of whoever counts."""


def count_full(board: Board, run: str, vm: str, vms_max: int) -> bool:
    """Whether ``vm`` is one of at most ``vms_max``; then it is counted, once. Raises ``BoardUnavailable``."""
    with board.writing() as connection:
        if not board.is_sqlite:
            connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({COUNTING})"))
        connection.execute(sa.delete(table).where(table.c.run.not_in(sa.select(schema.runs.c.id))))
        counted = {row.vm for row in connection.execute(sa.select(table.c.vm).where(table.c.run == run))}
        if vm in counted:
            return True
        if len(counted) >= vms_max:
            return False
        connection.execute(sa.insert(table).values(run=run, vm=vm))
        return True


def counting(board: Board, run: str, *, goes_on: bool) -> Callable[[str, int], bool]:
    """For :class:`xobackup.engine.fulls.FullsLimit`. ``goes_on``: while the database is away, this process's own
    count is what holds; else the VM fails, and may be tried again."""

    def count(vm: str, vms_max: int) -> bool:
        try:
            return count_full(board, run, vm, vms_max)
        except BoardUnavailable as error:
            if goes_on:
                return True
            raise VmRefused(f"unexpected_fulls_max cannot be kept: {error}", transient=True) from error

    return count
