"""What was examined and found damaged, who is protected by nobody, and what is unusual about the newest run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "soundness",
        sa.Column("what", sa.String(length=8), nullable=False),
        sa.Column("uuid", sa.String(length=64), nullable=False),
        sa.Column("remote", sa.String(length=128), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("damaged_at", sa.Float(precision=53), nullable=True),
        sa.Column("damage", sa.Text(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("job", sa.String(length=128), nullable=False),
        sa.Column("whole_at", sa.Float(precision=53), nullable=True),
        sa.PrimaryKeyConstraint("what", "uuid", "remote", name=op.f("pk_soundness")),
    )
    op.create_table(
        "pools",
        sa.Column("pool", sa.String(length=128), nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.Column("vms", sa.Integer(), nullable=False),
        sa.Column("unprotected", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("pool", name=op.f("pk_pools")),
    )
    for table, column in (
        ("disks", sa.Column("packed", sa.Float(), nullable=True)),
        ("disks", sa.Column("chain", sa.Integer(), nullable=True)),
        ("latest", sa.Column("fallbacks", sa.Integer(), nullable=True)),
        ("latest", sa.Column("full_reason", sa.Text(), nullable=True)),
        ("latest", sa.Column("chain", sa.Integer(), nullable=True)),
        ("latest", sa.Column("known", sa.Integer(), nullable=True)),
        ("latest", sa.Column("fulls", sa.Integer(), nullable=True)),
        ("latest", sa.Column("odd", sa.Text(), nullable=True)),
    ):
        op.add_column(table, column)
