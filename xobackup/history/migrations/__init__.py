"""How older tables become today's: one file in ``versions`` per change, each run once, in one transaction.

A new one: a file in ``versions`` like those that are there, with the next number and the last one as its
``down_revision``; its number into ``KNOWN``. A test compares the tables that the steps make with the schema.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

KNOWN = ("0001", "0002")
HEAD = KNOWN[-1]


def upgrade(connection: sa.Connection) -> None:
    """Bring the tables up to date, inside the transaction that the connection is in."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
