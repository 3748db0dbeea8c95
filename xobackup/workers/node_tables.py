"""The tables of control nodes that share schedules, beside those of :mod:`.schema`: new ones, so that workers of an
older version go on with the same database. Times are Unix seconds by the database's own clock; nominal times of
schedules are texts (ISO 8601 in UTC, as long as they are exact), because they are compared.

``nodes`` say that they live. ``schedules`` says up to when each is settled, ``schedule_runs`` which node has its run
(one row per schedule: that is the promise), ``pauses`` what shall not start.
"""

from __future__ import annotations

import sqlalchemy as sa

from xobackup.workers.schema import Moment, metadata

Name = sa.String(200)

nodes = sa.Table(
    "xobackup_nodes",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("host", sa.String(200), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("version", sa.String(32), nullable=False),
    sa.Column("since", Moment, nullable=False),
    sa.Column("seen", Moment, nullable=False),
    sa.Column("skew", Moment, nullable=False),
    sa.Column("lease", Moment, nullable=False),
    sa.Column("plan", sa.JSON, nullable=False),
)
schedules = sa.Table(
    "xobackup_schedules",
    metadata,
    sa.Column("name", Name, primary_key=True),
    sa.Column("settled", sa.String(40), nullable=False),
    sa.Column("known", Moment, nullable=False),
)
schedule_runs = sa.Table(
    "xobackup_schedule_runs",
    metadata,
    sa.Column("name", Name, primary_key=True),
    sa.Column("nominal", sa.String(40), nullable=False),
    sa.Column("began", Moment, nullable=False),
    sa.Column("node", sa.String(64), nullable=False),
    sa.Column("host", sa.String(200), nullable=False),
    sa.Column("again", sa.Boolean, nullable=False),
    sa.Column("run_id", sa.String(64), nullable=False, server_default=""),
)
pauses = sa.Table(
    "xobackup_pauses",
    metadata,
    sa.Column("name", Name, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
)
