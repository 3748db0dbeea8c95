"""What is to be told to a channel now: troubles that it has not heard of, or not for long; and those that are over.
Pure.

Over is what was looked at and found well. What nobody looked at (a VM that is not counted any more, a database that
was lost) is remembered for a while and not spoken of.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xobackup.notify.troubles import Kind, Seen, Trouble

LINES_MAX = 40
LISTED_MAX = 200
REMEMBERED_S = 90 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A trouble that a channel was told of: since when there is one, when it was told last (Unix seconds)."""

    since: float
    told: float
    kind: str
    job: str
    about: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is to be sent; ``title`` is one line. ``open``: how many troubles there are in all."""

    title: str
    new: tuple[Trouble, ...]
    again: tuple[Trouble, ...]
    over: tuple[Known, ...]
    open: int

    @property
    def good(self) -> bool:
        """Nothing is wrong any more."""
        return self.open == 0

    @property
    def body(self) -> str:
        """As text."""
        lines = [f"- {_told(one)}" + (f"; what to do: {one.advice}" if one.advice else "") for one in self.new]
        lines += [f"- still: {_told(one)}" for one in self.again]
        lines += [f"- well again: {_where(one)}; it was: {one.text}" for one in self.over]
        if len(lines) > LINES_MAX:
            lines = [*lines[:LINES_MAX], f"and {len(lines) - LINES_MAX} more: xobackup status"]
        return "\n".join(lines)

    @property
    def html(self) -> str:
        """It has only text."""
        return ""

    def as_data(self) -> dict[str, Any]:
        """For a program; stable keys. Lists are cut, ``counts`` are not."""
        over = [
            {"kind": one.kind, "job": one.job, "about": one.about, "text": one.text, "since": one.since}
            for one in self.over[:LISTED_MAX]
        ]
        return {
            "title": self.title,
            "good": self.good,
            "open": self.open,
            "counts": {"new": len(self.new), "again": len(self.again), "over": len(self.over)},
            "new": [one.as_data() for one in self.new[:LISTED_MAX]],
            "again": [one.as_data() for one in self.again[:LISTED_MAX]],
            "over": over,
            "text": self.body,
        }


def _where(one: Trouble | Known) -> str:
    return f"{one.about} (job {one.job})" if one.job else one.about


def _told(one: Trouble) -> str:
    return one.text if one.kind is Kind.SERVICE else f"{_where(one)}: {one.text}"


def wants(one: Trouble | Known, kinds: Collection[Kind], jobs: Collection[str]) -> bool:
    """Whether a channel wants to hear of it; empty means all."""
    return (not kinds or one.kind in kinds) and (not jobs or not one.job or one.job in jobs)


def decide(
    seen: Seen, known: Mapping[str, Known], *, now: float, repeat_s: float
) -> tuple[Message | None, dict[str, Known]]:
    """The message, if there is anything to say, and what is known once it was sent."""
    troubles = seen.troubles
    new = [one for one in troubles if one.key not in known]
    again = [one for one in troubles if one.key in known and now - known[one.key].told >= repeat_s]
    wrong = {one.key for one in troubles}
    over = [one for key, one in known.items() if seen.looked_at(key) and key not in wrong]
    told = {one.key for one in (*new, *again)}
    after = {key: one for key, one in known.items() if not seen.looked_at(key) and now - one.told < REMEMBERED_S} | {
        one.key: Known(
            since=known[one.key].since if one.key in known else now,
            told=now if one.key in told else known[one.key].told,
            kind=one.kind.value,
            job=one.job,
            about=one.about,
            text=one.text,
        )
        for one in troubles
    }
    if not new and not again and not over:
        return None, after
    message = Message(
        title=_title(new, again, over, len(troubles), all_known=len(after) == len(troubles)),
        new=tuple(new),
        again=tuple(again),
        over=tuple(over),
        open=len(troubles),
    )
    return message, after


def _title(
    new: Sequence[Trouble], again: Sequence[Trouble], over: Sequence[Known], still: int, *, all_known: bool
) -> str:
    if new:
        first = f"{new[0].about}: {new[0].text}" if len(new) == 1 else f"{len(new)} new troubles"
        return f"xobackup: {first}"[:200]
    if over and not still:
        return "xobackup: all is well again" if all_known else f"xobackup: {len(over)} well again"
    if over:
        return f"xobackup: {len(over)} well again, {still} still wrong"
    return f"xobackup: {len(again)} still wrong"
