"""The tables. What changes here needs a step in :mod:`xobackup.history.migrations`; a test compares the two.

``runs`` and ``subjects`` (a VM or pool in a run) are kept for years; ``disks``, ``phases``, ``points``, ``messages``
and ``traffic`` tell one run in depth and go earlier. ``latest`` has one row per job and VM: what is known now, so
that the first page costs as much as there are VMs, however many years there are. Times are Unix seconds.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)

Id = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts rows by itself only in a column that is called INTEGER."""
Moment = Float(53)

runs = Table(
    "runs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("run_id", String(64), nullable=False, unique=True),
    Column("verb", String(32), nullable=False),
    Column("job", String(128), nullable=False),
    Column("job_id", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("host", String(255), nullable=False),
    Column("began_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("duration_s", Float, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("ok", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("skipped", Integer, nullable=False),
    Column("read_bytes", BigInteger, nullable=False),
    Index("ix_runs_began_at", "began_at"),
    Index("ix_runs_job_began_at", "job", "began_at"),
)

subjects = Table(
    "subjects",
    metadata,
    Column("id", Id, primary_key=True),
    Column("run", Id, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("uuid", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("pool", String(128), nullable=False),
    Column("job", String(128), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("began_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("duration_s", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("mode", String(8), nullable=False),
    Column("fulls", Integer, nullable=False),
    Column("deltas", Integer, nullable=False),
    Column("fallbacks", Integer, nullable=False),
    Column("read_bytes", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("merged_blocks", BigInteger, nullable=False),
    Column("merged_bytes", BigInteger, nullable=False),
    Column("downtime_s", Float, nullable=False),
    Index("ix_subjects_run", "run"),
    Index("ix_subjects_uuid_began_at", "uuid", "began_at"),
    Index("ix_subjects_began_at", "began_at"),
)

latest = Table(
    "latest",
    metadata,
    Column("job", String(128), primary_key=True),
    Column("uuid", String(64), primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("name", Text, nullable=False),
    Column("pool", String(128), nullable=False),
    Column("run_id", String(64), nullable=False),
    Column("began_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("outcome", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("mode", String(8), nullable=False),
    Column("good_at", Moment),
    Column("good_run_id", String(64), nullable=False),
    Column("failures", Integer, nullable=False),
    Column("fallbacks", Integer),
    Column("full_reason", Text),
    Column("chain", Integer),
    Column("known", Integer),
    Column("fulls", Integer),
    Column("odd", Text),
)
"""``began_at`` to ``mode``: of its newest run; ``good_at``: when the newest that succeeded began (what it holds is of
that time); ``failures``: runs since then that did not. Of the newest good run: ``fallbacks``, disks read whole that
need not have been, and ``full_reason``; ``chain``, deltas since the last full. ``known``: good runs that were looked
at, and ``fulls``: how many of the newest of them are full; ``odd``: what is unusual
(:mod:`xobackup.history.anomalies`), as JSON. ``None``: written before these were."""


def _of_subject() -> Column[int]:
    return Column("subject", Id, ForeignKey("subjects.id", ondelete="CASCADE"), nullable=False)


disks = Table(
    "disks",
    metadata,
    Column("id", Id, primary_key=True),
    _of_subject(),
    Column("disk", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("mode", String(8), nullable=False),
    Column("via", String(32), nullable=False),
    Column("read_bytes", BigInteger, nullable=False),
    Column("blocks", BigInteger, nullable=False),
    Column("duration_s", Float, nullable=False),
    Column("bottleneck", String(128), nullable=False),
    Column("reasons", Text, nullable=False),
    Column("packed", Float),
    Column("chain", Integer),
    Index("ix_disks_subject", "subject"),
)

phases = Table(
    "phases",
    metadata,
    Column("id", Id, primary_key=True),
    _of_subject(),
    Column("phase", String(32), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("began_at", Moment, nullable=False),
    Column("duration_s", Float),
    Column("ok", Boolean),
    Column("error", Text, nullable=False),
    Index("ix_phases_subject", "subject"),
)

points = Table(
    "points",
    metadata,
    Column("id", Id, primary_key=True),
    _of_subject(),
    Column("remote", String(128), nullable=False),
    Column("point", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("at", Moment, nullable=False),
    Index("ix_points_subject", "subject"),
)

checks = Table(
    "checks",
    metadata,
    Column("id", Id, primary_key=True),
    _of_subject(),
    Column("at", Moment, nullable=False),
    Column("remote", String(128), nullable=False),
    Column("point", String(64), nullable=False),
    Column("ok", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("duration_s", Float, nullable=False),
    Index("ix_checks_subject", "subject"),
)
"""Health checks; as long as the runs they belong to."""

messages = Table(
    "messages",
    metadata,
    Column("id", Id, primary_key=True),
    Column("run", Id, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("subject", Id, ForeignKey("subjects.id", ondelete="CASCADE")),
    Column("at", Moment, nullable=False),
    Column("level", String(8), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("text", Text, nullable=False),
    Column("remote", String(128), nullable=False),
    Column("error_class", String(128), nullable=False),
    Column("hint", Text, nullable=False),
    Index("ix_messages_run", "run"),
    Index("ix_messages_subject", "subject"),
    Index("ix_messages_at", "at"),
)

traffic = Table(
    "traffic",
    metadata,
    Column("id", Id, primary_key=True),
    Column("run", Id, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("remote", String(128), nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("repeated", BigInteger, nullable=False),
    Column("sent_bytes", BigInteger, nullable=False),
    Column("received_bytes", BigInteger, nullable=False),
    Index("ix_traffic_run", "run"),
)

samples = Table(
    "samples",
    metadata,
    Column("id", Id, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("remote", String(128), nullable=False),
    Column("used_bytes", BigInteger),
    Column("free_bytes", BigInteger),
    Column("total_bytes", BigInteger),
    Column("points", Integer),
    Column("problem", Text, nullable=False),
    Index("ix_samples_remote_at", "remote", "at"),
)
"""How full remotes were, as the service saw them. ``None``: the storage does not tell."""

soundness = Table(
    "soundness",
    metadata,
    Column("what", String(8), primary_key=True),
    Column("uuid", String(64), primary_key=True),
    Column("remote", String(128), primary_key=True),
    Column("name", Text, nullable=False),
    Column("damaged_at", Moment),
    Column("damage", Text, nullable=False),
    Column("hint", Text, nullable=False),
    Column("job", String(128), nullable=False),
    Column("whole_at", Moment),
)
"""Whether a VM's backups on a remote are sound: when damage was found last (``damaged_at``, ``damage``), and when all
of them were looked at and none was found. ``what``: ``blocks`` (read and compared) or ``boot``."""

pools = Table(
    "pools",
    metadata,
    Column("pool", String(128), primary_key=True),
    Column("at", Moment, nullable=False),
    Column("vms", Integer, nullable=False),
    Column("unprotected", Text, nullable=False),
)
"""What the newest run that asked a pool found; ``unprotected``: VMs that nobody backs up, as JSON."""

files = Table(
    "files",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("run_id", String(64), nullable=False),
    Column("ended", Boolean, nullable=False),
)
"""Journal files that are in the database, and how long they were then."""

DETAILS = (disks, phases, points)
