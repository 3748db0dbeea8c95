"""A row: one promise about speed or memory, what was measured, and whether it holds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """``ratio`` is None when the row could not be measured; ``skipped`` says why."""

    name: str
    ratio: float | None
    goal: float
    better: Better
    unit: str = ""
    """Empty for a ratio of times; MiB for memory."""
    detail: str = ""
    skipped: str = ""

    @property
    def met(self) -> bool | None:
        if self.ratio is None:
            return None
        return self.ratio >= self.goal if self.better == "higher" else self.ratio <= self.goal


def skipped(name: str, goal: float, better: Better, why: str) -> Row:
    return Row(name=name, ratio=None, goal=goal, better=better, skipped=why)


def as_json(row: Row) -> str:
    fields = {key: value for key, value in asdict(row).items() if value != "" or key == "ratio"}
    if row.ratio is not None:
        fields["ratio"] = round(row.ratio, 3)
    return json.dumps({**fields, "met": row.met})


def as_table(rows: Iterable[Row]) -> str:
    lines = ["| what | measured | goal | | detail |", "|---|---:|---:|---|---|"]
    for row in rows:
        sign = "≥" if row.better == "higher" else "≤"
        found = "-" if row.ratio is None else f"{row.ratio:.3g}{f' {row.unit}' if row.unit else ''}"
        state = {True: "ok", False: "**miss**", None: "skipped"}[row.met]
        goal = f"{sign} {row.goal:g}{f' {row.unit}' if row.unit else ''}"
        lines.append(f"| {row.name} | {found} | {goal} | {state} | {row.skipped or row.detail} |")
    return "\n".join(lines)
