"""The tables of the board. Times are Unix seconds by the database's own clock, unless said otherwise.

``tasks`` has one row per VM of a run, as long as its run lives. ``busy`` holds the promise: at most one row per key
is ``doing``. ``events`` are on their way from a worker to the run's journal. ``workers`` say that they live;
``slots`` are places that workers share; ``peers`` says by which certificates workers know each other, and where their
relays are. Nothing here is needed to restore, and a run that lost it is run again.
"""

from __future__ import annotations

import sqlalchemy as sa

VERSION = 1
TODO, DOING, DONE, WITHDRAWN = "todo", "doing", "done", "withdrawn"

metadata = sa.MetaData()
Moment = sa.Float(53)
Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")

about = sa.Table(
    "xobackup_about",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
)
runs = sa.Table(
    "xobackup_runs",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("job", sa.String(200), nullable=False),
    sa.Column("host", sa.String(200), nullable=False),
    sa.Column("seen", Moment, nullable=False),
)
tasks = sa.Table(
    "xobackup_tasks",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("run", sa.String(64), nullable=False, index=True),
    sa.Column("key", sa.String(64), nullable=False),
    sa.Column("queue", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("delivery", sa.Integer, nullable=False),
    sa.Column("worker", sa.String(64), nullable=False, server_default=""),
    sa.Column("order", sa.JSON, nullable=False),
    sa.Column("result", sa.JSON),
    sa.Column("put", Moment, nullable=False),
    sa.Column("due", Moment, nullable=False),
    sa.Column("taken", Moment, nullable=False),
)
busy = sa.Index(
    "xobackup_tasks_busy",
    tasks.c.key,
    unique=True,
    postgresql_where=tasks.c.state == DOING,
    sqlite_where=tasks.c.state == DOING,
)
todo = sa.Index(
    "xobackup_tasks_todo",
    tasks.c.queue,
    tasks.c.put,
    postgresql_where=tasks.c.state == TODO,
    sqlite_where=tasks.c.state == TODO,
)
events = sa.Table(
    "xobackup_events",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("run", sa.String(64), nullable=False, index=True),
    sa.Column("task", sa.String(64), nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("event", sa.JSON, nullable=False),
)
workers = sa.Table(
    "xobackup_workers",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("site", sa.String(64), nullable=False),
    sa.Column("host", sa.String(200), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("version", sa.String(32), nullable=False),
    sa.Column("slots", sa.Integer, nullable=False),
    sa.Column("draining", sa.Boolean, nullable=False),
    sa.Column("reach", sa.JSON, nullable=False),
    sa.Column("since", Moment, nullable=False),
    sa.Column("seen", Moment, nullable=False),
    sa.Column("skew", Moment, nullable=False),
)
peers = sa.Table(
    "xobackup_peers",
    metadata,
    sa.Column("worker", sa.String(64), primary_key=True),
    sa.Column("address", sa.String(300), nullable=False),
    sa.Column("certificate", sa.Text, nullable=False),
    sa.Column("since", Moment, nullable=False),
)
slots = sa.Table(
    "xobackup_slots",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("place", sa.String(300), nullable=False, index=True),
    sa.Column("taken", sa.Integer, nullable=False),
    sa.Column("worker", sa.String(64), nullable=False),
    sa.Column("ticket", sa.String(64), nullable=False),
)
