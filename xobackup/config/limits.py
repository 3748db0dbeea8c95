"""How much at once and how fast, as the file says it: ``[limits]``, ``[jobs.NAME.limits]``, ``bandwidth``, shares.

0 means no limit wherever a number of things at a time is asked for.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from schedules.windows import BadWindow
from xobackup.engine.limits.bandwidth import Window, parse_window, zone_of

MIB = 1 << 20
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,3})?) ?(?:([KMGT])(?:iB)?|B)?")
_SHARE = re.compile(r"(\d{1,2}(?:\.\d{1,3})?) ?%")

Count = Annotated[int, Field(ge=0, le=1000)]
Rate = Annotated[float, Field(gt=0, le=1_000_000)]
RATE_MAX = 1e12
_RATES = {"B/s": 1.0, "bit/s": 0.125}
_PREFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "Ki": 1024.0, "Mi": 1024.0**2, "Gi": 1024.0**3}
_RATE = re.compile(r"(\d{1,15}(?:\.\d{1,3})?) ?([kKMG]|[KMG]i)?(B/s|bit/s)")


def parse_rate(text: str) -> float:
    """``50 MB/s``, ``50 MiB/s``, ``400 Mbit/s``: bytes per second. Raises ``ValueError``."""
    found = _RATE.fullmatch(text.strip())
    rate = float(found[1]) * _PREFIXES[found[2] or ""] * _RATES[found[3]] if found else 0.0
    if not 0 < rate <= RATE_MAX:
        raise ValueError(f'expected a rate such as "50 MB/s" or "400 Mbit/s", found {text!r}')
    return rate


def _checked_rate(value: str) -> str:
    parse_rate(value)
    return value


RateText = Annotated[str, AfterValidator(_checked_rate)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)


class WindowSection(_Section):
    """``{ from = "08:00", to = "18:00", days = "mon-fri", mib_s = 50 }``"""

    begin: str = Field(alias="from")
    end: str = Field(alias="to")
    days: str = ""
    """``mon-fri``, ``sat,sun``; every day when absent. Of a window over midnight: the days on which it begins."""
    mib_s: Rate | None = None
    rate: RateText | None = None
    """The same as a text: one of the two."""

    @model_validator(mode="after")
    def _parses(self) -> WindowSection:
        if (self.mib_s is None) == (self.rate is None):
            raise ValueError("expected one of mib_s and rate")
        self.window()
        return self

    def window(self) -> Window:
        rate = self.mib_s * MIB if self.mib_s is not None else parse_rate(self.rate or "")
        return parse_window(begin=self.begin, end=self.end, days=self.days, rate_bytes_s=rate)


class CountsSection(_Section):
    """How many at a time, of one job."""

    transfers_per_pool: Count | None = None
    """Disks being read at a time (or whole VMs, of full backups)."""
    transfers_per_host: Count | None = None
    """The same, by the host that serves them."""
    transfers_per_sr: Count | None = None
    snapshots_per_pool: Count | None = None
    """Being taken at a time."""
    snapshots_per_sr: Count | None = None
    deletions_per_sr: Count | None = None
    """Snapshots being deleted at a time."""
    deletion_pause_s: Annotated[float, Field(ge=0, le=3600)] = 0
    """Between two deletions of snapshots on the same SR, so that its garbage collector keeps up."""


def checked_zone(value: str) -> str:
    """A time zone that this machine knows."""
    zone_of(value)
    return value


class LimitsSection(CountsSection):
    """Of everything that one process does, all its jobs together."""

    vms_max: Count | None = None
    """VMs at a time."""
    rate_limit_mib_s: Rate | None = None
    """All transfers together, outside of the windows of ``bandwidth``."""
    bandwidth: tuple[WindowSection, ...] = ()
    timezone: str = ""
    """Of all windows, unless a job says another; the machine's own when absent."""

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        return checked_zone(value)


def parse_floor(text: str | int) -> tuple[float, int]:
    """``5 %``, ``20 GiB``, bytes: a share of the whole, and bytes; one of them is 0. Raises ``ValueError``."""
    if isinstance(text, int):
        return 0.0, text
    share, size = _SHARE.fullmatch(text.strip()), _SIZE.fullmatch(text.strip())
    if share:
        return float(share[1]) / 100, 0
    if size:
        return 0.0, int(float(size[1]) * _UNITS[size[2] or ""])
    raise ValueError(f'expected a share such as "5 %" or a size such as "20 GiB", found {text!r}')


def checked_floor(value: object) -> object:
    """A floor as :func:`parse_floor` takes it."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or (isinstance(value, int) and value < 0):
        raise ValueError(f'expected a share such as "5 %" or a size such as "20 GiB", found {value!r}')
    parse_floor(value)
    return value


__all__ = [
    "BadWindow",
    "CountsSection",
    "LimitsSection",
    "WindowSection",
    "checked_floor",
    "checked_zone",
    "parse_floor",
    "parse_rate",
]
