"""What is said about a translation, line by line, to the reader of the output and of the file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

TEXT_MAX = 300
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u202a-\u202e\u2066-\u2069]+")


class Level(StrEnum):
    """How much it matters."""

    REFUSED = "refused"
    """It is not in the result."""
    DIFFERS = "differs"
    """It is, but something is not done as Xen Orchestra did it."""
    NOTE = "note"
    """Nothing is lost; good to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """``about`` names the thing as Xen Orchestra does (``job "Nightly"``)."""

    level: Level
    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.level}: {self.about}: {self.text}"


def plain(text: object, *, most: int = TEXT_MAX) -> str:
    """``text`` on one line, without what a terminal or a file could take for more than text."""
    shown = _UNPRINTABLE.sub(" ", str(text)).strip()
    return shown if len(shown) <= most else shown[: most - 3] + "..."


def quoted(name: str) -> str:
    """A name in a sentence."""
    return f'"{plain(name, most=80)}"' if name else "without a name"
