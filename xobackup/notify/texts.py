"""Names in messages: what guests, pools and jobs call themselves, on one line of a bounded length. Pure."""

from __future__ import annotations

from xobackup.texts import one_line

NAME_MAX = 120


def name_text(name: str) -> str:
    """It may get into the head of a mail, or beside many others."""
    return one_line(name, NAME_MAX)
