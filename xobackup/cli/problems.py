"""What a listing had to complain about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.output import Output
from xobackup.texts import count_text

if TYPE_CHECKING:
    from xobackup.repository.findings import Problem


def tell_problems(output: Output, problems: Iterable[Problem]) -> None:
    """Say what the listing had to complain about; proven damage decides the exit code."""
    damaged = 0
    for problem in problems:
        damaged += problem.severity == "damage"
        output.record(
            "problem",
            {"code": problem.code, "severity": problem.severity, "path": problem.path, "message": problem.message},
        )
        output.note(str(problem), style="red" if problem.severity == "damage" else "yellow")
    if damaged:
        raise Outcome(Exit.DAMAGE, f"{count_text(damaged, 'finding')} of damage", hint="see `xobackup clean`")
