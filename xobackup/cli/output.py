"""What commands print: tables and sentences for a person, JSON lines with ``--json``.

Results go to standard output, everything about them (progress, warnings, errors) to standard error; with ``--json``
standard output carries nothing but JSON objects, one a line, each with a ``kind``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


PIPE_COLUMNS = 500
WORD_MAX = 16
"""Words up to this long are never broken in a table."""
NOTES_WITH_JSON = False
"""Whether what goes on is told beside the records too: for a process whose standard error somebody reads."""


class Output:
    """Where a command's words go. ``as_json`` decides between people and programs."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    @cached_property
    def console(self) -> Console:
        """Standard output, for a person."""
        from rich.console import Console

        return Console(highlight=False, soft_wrap=not sys.stdout.isatty(), width=_width(sys.stdout.isatty()))

    @cached_property
    def log(self) -> Console:
        """Standard error, for a person."""
        from rich.console import Console

        return Console(
            stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty(), width=_width(sys.stderr.isatty())
        )

    def record(self, kind: str, fields: Mapping[str, Any]) -> None:
        """One JSON object on standard output; nothing for a person."""
        if self.as_json:
            sys.stdout.write(json.dumps({"kind": kind, **fields}, default=str, ensure_ascii=False) + "\n")
            sys.stdout.flush()

    def say(self, text: str, *, style: str | None = None) -> None:
        """A sentence of the result, for a person; nothing with ``--json``."""
        if not self.as_json:
            self.console.print(text, style=style, markup=False)

    def note(self, text: str, *, style: str | None = None) -> None:
        """A sentence about what is going on, on standard error."""
        if not self.as_json or NOTES_WITH_JSON:
            self.log.print(text, style=style, markup=False)

    def table(self, title: str | None, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Rows for a person. A column's name may end in ``>``: flush right, and in ``!``: never wrapped.

        Columns in which no row has anything are left out.
        """
        if self.as_json:
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        cells = [list(row) for row in rows]
        used = [number for number in range(len(columns)) if any(row[number] for row in cells)]
        table = Table(title=title and Text(title), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
        for number in used:
            column = columns[number]
            table.add_column(
                column.rstrip(">!"),
                justify="right" if column.removesuffix("!").endswith(">") else "left",
                overflow="fold",
                no_wrap=column.endswith("!"),
                min_width=_longest_word([column.rstrip(">!"), *(row[number] for row in cells)]),
            )
        for row in cells:
            table.add_row(*(Text(row[number]) for number in used))
        self.console.print(table)

    def error(self, message: str, *, hint: str | None = None, kind: str = "error") -> None:
        """A failure: ``error:`` and ``hint:`` lines on standard error, or a JSON object."""
        if self.as_json:
            self.record(kind, {"message": message, "hint": hint})
        lines = [f"error: {line}" for line in message.splitlines() or [""]]
        lines += [f"hint: {line}" for line in (hint or "").splitlines()]
        if sys.stderr.isatty():
            for line in lines:
                self.log.print(line, style="red" if line.startswith("error:") else None, markup=False)
        else:
            sys.stderr.write("".join(f"{line}\n" for line in lines))
        sys.stderr.flush()


def _longest_word(texts: Iterable[str]) -> int:
    return min(max((len(word) for text in texts for word in text.split()), default=0), WORD_MAX)


def _width(is_terminal: bool) -> int | None:
    """Lines in a pipe are as long as they need to be."""
    return None if is_terminal else PIPE_COLUMNS
