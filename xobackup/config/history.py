"""``[history]``: where what happened is kept for years, and for how many."""

from __future__ import annotations

from pydantic import field_validator

from xobackup.config.periods import Period, seconds
from xobackup.config.secrets import Secret
from xobackup.config.section import Section


class HistorySection(Section):
    """A database that is made from the journals of runs."""

    url: str | None = None
    """``sqlite:////path``, ``postgresql://user@host/database``; ``history.db`` in the state directory when absent."""
    password: Secret | None = None
    """Of a server; without it what libpq finds by itself (``PGPASSFILE``, ``~/.pgpass``)."""
    keep: Period = "5y"
    """Runs, and how they ended for each VM."""
    keep_details: Period = "180d"
    """Disks, phases, messages of each run."""
    keep_journals: Period = "90d"
    """The files themselves, from which the database can be made again."""

    @field_validator("url")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("sqlite:///", "postgresql://")):
            raise ValueError(f"expected sqlite:////path or postgresql://user@host/database, found {value!r}")
        return value

    @property
    def keep_s(self) -> float:
        return seconds(self.keep)

    @property
    def keep_details_s(self) -> float:
        return seconds(self.keep_details)

    @property
    def keep_journals_s(self) -> float:
        return seconds(self.keep_journals)
