"""Tables of what workers and everybody else share. New ones beside those of :mod:`xobackup.workers.schema`, which
older versions know, so that these go on beside newer ones. Times as there.

``members`` are processes that transfer and are no workers: control nodes, and commands at their machines. Nobody
gives them tasks. ``member_slots`` are their places, as ``slots`` are those of workers. ``shares`` are parts of rates
(:mod:`xobackup.engine.limits.fairness`).
"""

from __future__ import annotations

import sqlalchemy as sa

from xobackup.workers.schema import Id, Moment, metadata

members = sa.Table(
    "xobackup_members",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("site", sa.String(64), nullable=False),
    sa.Column("host", sa.String(200), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("version", sa.String(32), nullable=False),
    sa.Column("since", Moment, nullable=False),
    sa.Column("seen", Moment, nullable=False),
)
member_slots = sa.Table(
    "xobackup_member_slots",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("place", sa.String(300), nullable=False, index=True),
    sa.Column("taken", sa.Integer, nullable=False),
    sa.Column("member", sa.String(64), nullable=False),
    sa.Column("ticket", sa.String(64), nullable=False),
)
shares = sa.Table(
    "xobackup_shares",
    metadata,
    sa.Column("name", sa.String(300), primary_key=True),
    sa.Column("holder", sa.String(100), primary_key=True),
    sa.Column("limit_bytes_s", sa.Float(53), nullable=False),
    sa.Column("demand", sa.Float(53), nullable=False),
    sa.Column("share", sa.Float(53), nullable=False),
    sa.Column("floor", sa.Float(53), nullable=False),
    sa.Column("used", sa.Float(53), nullable=False),
    sa.Column("until", Moment, nullable=False),
    sa.Column("gone", Moment, nullable=False),
)
fulls = sa.Table(
    "xobackup_fulls",
    metadata,
    sa.Column("run", sa.String(64), primary_key=True),
    sa.Column("vm", sa.String(64), primary_key=True),
)
"""VMs of runs that began their chains again unasked."""
given = sa.Table(
    "xobackup_given",
    metadata,
    sa.Column("run", sa.String(64), primary_key=True),
    sa.Column("vm", sa.String(64), primary_key=True),
    sa.Column("remote", sa.String(64), nullable=False),
    sa.Column("storage", sa.String(1000), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("active", sa.Boolean, nullable=False),
)
"""Which of several remotes VMs of runs write to, how much at most; ``active``: their attempt goes on."""
unplaced = sa.Table(
    "xobackup_unplaced",
    metadata,
    sa.Column("run", sa.String(64), primary_key=True),
    sa.Column("vm", sa.String(64), primary_key=True),
    sa.Column("vm_name", sa.String(300), nullable=False),
    sa.Column("job", sa.String(200), nullable=False),
    sa.Column("site", sa.String(64), nullable=False),
    sa.Column("reason", sa.String(1000), nullable=False),
    sa.Column("since", Moment, nullable=False),
)
"""VMs of runs that wait for a worker to come, and are no task yet."""
