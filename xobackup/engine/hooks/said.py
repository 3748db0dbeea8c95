"""The last lines of what a hook said, fit for an error message. Pure."""

from __future__ import annotations

OUTPUT_BYTES_MAX = 16 * 1024
LINES_MAX = 5
LINE_CHARACTERS_MAX = 300


def last_lines(output: bytes) -> str:
    """At most five lines, joined by `` | ``, without control characters (a terminal must not obey them)."""
    lines = [_plain(line) for line in output.decode("utf-8", "replace").splitlines()]
    return " | ".join([line for line in lines if line][-LINES_MAX:])


def _plain(line: str) -> str:
    kept = "".join(one if one.isprintable() else " " for one in line).strip()
    return kept if len(kept) <= LINE_CHARACTERS_MAX else kept[: LINE_CHARACTERS_MAX - 1] + "…"
